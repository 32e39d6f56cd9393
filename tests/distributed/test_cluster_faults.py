"""What is said of the processes that a launcher starts, and what would keep them apart."""

import socket

import pytest

from jaxdrl.distributed import cluster_faults
from jaxdrl.distributed.cluster_faults import addresses_of, describe, name_faults, proxy_faults

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "7",
    "WORLD_SIZE": "4",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "gpu03",
    "MASTER_PORT": "29500",
    "JAX_COORDINATOR_ADDRESS": "gpu03:41234",
}
PROXY = {"http_proxy": "http://proxy.example:3128"}


@pytest.fixture(autouse=True)
def own_name(monkeypatch):
    """A host whose name the others can reach."""
    addresses = ["10.0.0.4", "127.0.1.1"]
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu04")
    monkeypatch.setattr(cluster_faults, "addresses_of", lambda name: addresses)
    return addresses


def test_the_processes_are_said_in_one_line():
    words, faults = describe(TORCHRUN, on_cpu=True)
    assert words == "4, by torchrun; this is process 1; coordinator gpu03:41234"
    assert faults == []


def test_without_a_launcher_there_is_one_and_nothing_to_complain_of(own_name):
    own_name[:] = ["127.0.0.1"]
    assert describe(PROXY, on_cpu=True) == ("1, no launcher of several was found", [])
    off = TORCHRUN | PROXY | {"JAXDRL_HOSTS": "off"}
    assert describe(off, on_cpu=True) == ("1, by JAXDRL_HOSTS=off", [])


def test_variables_that_cannot_be_used_are_a_fault():
    words, (fault,) = describe(TORCHRUN | {"RANK": "4"}, on_cpu=True)
    assert words == "unclear"
    assert "RANK = '4': must be an integer from 0 to 3" in fault


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "::1"])
def test_on_cpus_a_host_whose_name_only_itself_can_reach_is_a_fault(own_name, address):
    own_name[:] = [address, "10.0.0.4"]
    _, (fault,) = describe(TORCHRUN, on_cpu=True)
    assert fault.startswith(f"this host calls itself 'gpu04', which is {address} here")
    assert "/etc/hosts" in fault
    assert describe(TORCHRUN, on_cpu=False)[1] == []  # GPUs find their own way
    for host in ("localhost", "127.0.0.1", "[::1]"):
        of_this_host = TORCHRUN | {"JAX_COORDINATOR_ADDRESS": f"{host}:41234"}
        assert describe(of_this_host, on_cpu=True)[1] == []
    assert describe(TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}, on_cpu=True)[1] == []


def test_a_name_that_stands_for_nothing_is_a_fault_too():
    (fault,) = name_faults("gpu04", [])
    assert fault.startswith("this host calls itself 'gpu04', which is the name of no host here")
    assert name_faults("gpu04", ["fe80::1%eth0", "127.0.0.1"]) == []


def test_names_are_looked_up():
    assert "127.0.0.1" in addresses_of("127.0.0.1")
    assert addresses_of("no such host.invalid") == []


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_proxy_is_a_fault_with_what_exempts_the_coordinator(name):
    environ = TORCHRUN | {name: "http://proxy.example:3128"}
    _, (fault,) = describe(environ, on_cpu=False)
    assert fault.startswith(f"{name} is set: ")
    assert "set no_proxy=gpu03 (in small letters)" in fault
    assert describe(environ | {"no_proxy": "gpu03"}, on_cpu=False)[1] == []
    _, (fault,) = describe(environ | {"no_proxy": "localhost,.example, "}, on_cpu=False)
    assert "set no_proxy=localhost,.example,gpu03 (" in fault


# Each row was tried on a client of jaxlib 0.10.2 and a proxy where nobody listens.
@pytest.mark.parametrize(
    ("environ", "connects"),
    [
        ({}, True),
        (PROXY, False),
        ({"HTTP_PROXY": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9"}, True),
        (PROXY | {"https_proxy": ""}, True),
        (PROXY | {"no_proxy": "localhost,127.0.0.1"}, True),
        (PROXY | {"no_proxy": "a, 127.0.0.1"}, True),
        (PROXY | {"no_proxy": "0.0.1"}, True),
        (PROXY | {"no_proxy": ".0.0.1"}, True),
        (PROXY | {"no_proxy": "127.0.0.0/8"}, True),
        (PROXY | {"no_proxy": "*"}, False),
        (PROXY | {"NO_PROXY": "127.0.0.1"}, False),
        (PROXY | {"no_grpc_proxy": "127.0.0.1"}, True),
        (PROXY | {"no_grpc_proxy": "", "no_proxy": "127.0.0.1"}, False),
    ],
)
def test_the_proxy_that_grpc_takes(environ, connects):
    assert (proxy_faults(environ, "127.0.0.1:8476") == []) == connects
