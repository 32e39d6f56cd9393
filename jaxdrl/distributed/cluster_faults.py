"""What a launcher's variables say in words, and what would keep its processes apart. No jax."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from jaxdrl.distributed import addresses
from jaxdrl.distributed.cluster import Cluster, find
from jaxdrl.distributed.launchers import Environ
from jaxdrl.errors import ConfigError

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables that gRPC, by which processes reach the coordinator, obeys: the first that is set, even
to nothing. It reads no others, and none in capitals."""

EXEMPTIONS = ("no_grpc_proxy", "no_proxy")
"""Variables with the hosts that it reaches without a proxy; the first that is set counts."""


def describe(environ: Environ, *, on_cpu: bool) -> tuple[str, list[str]]:
    """The processes that a launcher has started this one among: `(in words, faults)`.

    Args:
      environ: environment variables.
      on_cpu: whether the processes compute on CPUs.
    """
    try:
        cluster = find(environ)
    except ConfigError as error:
        return "unclear", [f"the variables of the launcher are not usable: {error}"]
    if cluster is None:
        is_off = environ.get("JAXDRL_HOSTS") == "off"
        return "1, by JAXDRL_HOSTS=off" if is_off else "1, no launcher of several was found", []
    words = (
        f"{cluster.num_processes}, by {cluster.found_by}; this is process {cluster.index}; "
        f"coordinator {cluster.coordinator}"
    )
    found = proxy_faults(environ, cluster.coordinator)
    if on_cpu and not _is_on_one_host(cluster):
        name = socket.gethostname()
        found += name_faults(name, addresses_of(name))
    return words, found


def _is_on_one_host(cluster: Cluster) -> bool:
    host, _ = addresses.split("coordinator", cluster.coordinator)
    is_here = host == "localhost" or host.startswith("127.") or host == "::1"
    return is_here or cluster.local_count == cluster.num_processes


def addresses_of(name: str) -> list[str]:
    """The addresses that a host's name stands for here, the preferred one first."""
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(info[4][0]) for info in infos]


def name_faults(name: str, found: Sequence[str]) -> list[str]:
    """What is wrong with the name of this host, whose address other hosts compute with.

    Args:
      name: the name that this host has for itself.
      found: the addresses that it stands for, as `addresses_of` gives them.
    """
    if not found:
        return [
            f"this host calls itself {name!r}, which is the name of no host here: on CPUs, the "
            "processes of other hosts could not reach it; add its address to /etc/hosts"
        ]
    if not ipaddress.ip_address(found[0].partition("%")[0]).is_loopback:
        return []
    return [
        f"this host calls itself {name!r}, which is {found[0]} here: on CPUs, the processes of "
        "other hosts would be told this address and time out; in /etc/hosts, put this name beside "
        "the address of the network instead"
    ]


def proxy_faults(environ: Environ, coordinator: str) -> list[str]:
    """Says which proxy processes would go through to reach the coordinator.

    Args:
      environ: environment variables.
      coordinator: `HOST:PORT`.
    """
    given = next((name for name in PROXIES if name in environ), None)
    host, _ = addresses.split("coordinator", coordinator)
    if given is None or not environ[given] or is_exempt(environ, host):
        return []
    listed = environ.get("no_proxy", "").strip(", ")
    works = f"no_proxy={listed},{host}" if listed else f"no_proxy={host}"
    return [
        f"{given} is set: processes would reach the coordinator through that proxy, or not at all; "
        f"unset it, or set {works} (in small letters)"
    ]


def is_exempt(environ: Environ, host: str) -> bool:
    """Whether gRPC reaches a host without a proxy: it is listed by its end or by its network."""
    given = next((environ[name] for name in EXEMPTIONS if name in environ), "")
    entries = [entry.strip() for entry in given.split(",")]
    return any(entry and (host.endswith(entry) or _is_in(host, entry)) for entry in entries)


def _is_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
