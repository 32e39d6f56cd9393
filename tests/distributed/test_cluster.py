"""Which of several processes this one is, from the variables that each launcher really sets."""

import subprocess
import sys

import pytest

from jaxdrl.distributed import addresses
from jaxdrl.distributed.cluster import Cluster, bind_address, count_gpus, find
from jaxdrl.errors import ConfigError

# A batch script of a job of four tasks: it is task 0 of nothing, and nobody else was started.
SLURM_BATCH = {
    "SLURM_JOB_ID": "200505",
    "SLURM_JOBID": "200505",
    "SLURM_JOB_NAME": "train",
    "SLURM_JOB_NODELIST": "gnode[10,20]",
    "SLURM_NODELIST": "gnode[10,20]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS": "4",
    "SLURM_NPROCS": "4",
    "SLURM_TASKS_PER_NODE": "2(x2)",
    "SLURM_NODEID": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_GTIDS": "0",
    "SLURMD_NODENAME": "gnode10",
}
# Task 3 of `srun` within it.
SLURM_TASK = SLURM_BATCH | {
    "SLURM_STEP_ID": "0",
    "SLURM_STEPID": "0",
    "SLURM_STEP_NODELIST": "gnode[10,20]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_GTIDS": "2,3",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURMD_NODENAME": "gnode20",
}
# The shell that `salloc --ntasks=4` opens where it is a step, and likewise `srun --pty bash`.
SLURM_SHELL = SLURM_BATCH | {
    "SLURM_STEP_ID": "4294967290",
    "SLURM_STEP_NODELIST": "gnode10",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_STEP_TASKS_PER_NODE": "1",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_NODE_RANK": "0",
    "OMPI_UNIVERSE_SIZE": "4",
    "PMIX_RANK": "2",
}
OPEN_MPI_4 = OPEN_MPI | {
    "PMIX_NAMESPACE": "1531576321",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}
OPEN_MPI_5 = OPEN_MPI | {
    "PMIX_NAMESPACE": "prterun-gpu-node-03-257891@1",
    "PMIX_SERVER_URI41": "prterun-gpu-node-03-257891@0.0;tcp4://127.0.0.1:43581",
    "PRTE_LAUNCHED": "1",
}
TORCHRUN = {
    "MASTER_ADDR": "node1.cluster",
    "MASTER_PORT": "29500",
    "WORLD_SIZE": "4",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "0",
    "GROUP_WORLD_SIZE": "2",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
TORCH_BY_HAND = {k: TORCHRUN[k] for k in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")}
JAX = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.5:1234",
    "JAX_NUM_PROCESSES": "3",
    "JAX_PROCESS_ID": "2",
}
POD = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "JOB_COMPLETION_INDEX": "3",
    "HOSTNAME": "train-workers-0-3",
    "JAX_NUM_PROCESSES": "4",
}
POD_NAME = "train-workers-0-3.train.rl.svc.cluster.local"


def found(environ, **arguments):
    return find(environ, **{"visible_gpus": 0, "host_name": POD_NAME, **arguments})


def port(cluster):
    return int(cluster.coordinator.rpartition(":")[2])


def test_the_variables_of_jax():
    assert found(JAX) == Cluster("10.0.0.5:1234", 3, 2, None, "JAX_NUM_PROCESSES")
    assert found(JAX | {"JAX_LOCAL_DEVICE_IDS": "2,3"}).local_device_ids == (2, 3)


@pytest.mark.parametrize(
    ("environ", "host", "index", "local", "found_by"),
    [
        (SLURM_TASK, "gnode10", 3, (1, 2), "SLURM step 200505.0"),
        (OPEN_MPI_4, "10.96.0.1", 2, (0, 2), "Open MPI"),
        (OPEN_MPI_5, "gpu-node-03", 2, (0, 2), "Open MPI"),
        (TORCHRUN, "node1.cluster", 1, (1, 2), "torchrun"),
        (TORCH_BY_HAND, "node1.cluster", 1, (None, None), "RANK and WORLD_SIZE"),
        (POD, "train-workers-0-0.train.rl.svc.cluster.local", 3, (None, None), "Kubernetes"),
        (SLURM_SHELL | TORCH_BY_HAND, "node1.cluster", 1, (None, None), "RANK and WORLD_SIZE"),
    ],
    ids=["slurm", "openmpi4", "openmpi5", "torchrun", "by-hand", "kubernetes", "hand-in-shell"],
)
def test_every_launcher_is_found(environ, host, index, local, found_by):
    cluster = found(environ)
    assert cluster.coordinator.rpartition(":")[0] == host
    assert 1 <= port(cluster) <= 65535
    assert (cluster.num_processes, cluster.index, cluster.found_by) == (4, index, found_by)
    assert (cluster.local_index, cluster.local_count) == local


@pytest.mark.parametrize(
    "environ",
    [
        {},
        SLURM_BATCH,
        SLURM_SHELL,
        SLURM_TASK | {"SLURM_JOB_ID": "200999", "SLURMD_NODENAME": "gnode33"},
        SLURM_TASK | {"SLURM_JOB_ID": "200999", "SLURM_JOB_NODELIST": "gnode20"},
        SLURM_SHELL | {"JAX_COORDINATOR_ADDRESS": "gnode10:1234"},
        {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"},
        {"MASTER_ADDR": "node1", "MASTER_PORT": "29500", "WORLD_SIZE": "4"},
        TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
        SLURM_TASK | TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_WORLD_SIZE": ""},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {"PMIX_NAMESPACE": "slurm.pmix.12.0", "PMIX_RANK": "3"},
        {k: v for k, v in POD.items() if k != "JAX_NUM_PROCESSES"},
        POD | {"JAX_NUM_PROCESSES": "1", "JOB_COMPLETION_INDEX": "0"},
        JAX | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
        TORCHRUN | {"JAX_NUM_PROCESSES": "1"},
        JAX | {"JAXDRL_HOSTS": "off"},
        SLURM_TASK | {"JAXDRL_HOSTS": "off", "SLURM_PROCID": "nine"},
    ],
    ids=[
        "nothing",
        "batch-script",
        "shell-of-salloc",
        "step-of-another-job",
        "step-of-another-job-there",
        "coordinator-and-one-task",
        "stale-master",
        "no-rank",
        "torchrun-of-one",
        "torchrun-of-one-in-srun",
        "mpirun-of-one",
        "pmix-alone",
        "job-with-index",
        "job-of-one-pod",
        "jax-of-one",
        "jax-of-one-beats-torchrun",
        "off",
        "off-with-wrong-variables",
    ],
)
def test_what_does_not_say_that_there_are_several_processes(environ):
    assert found(environ) is None


def test_the_innermost_launcher_is_taken():
    """`srun torchrun` leaves the variables of both, and `mpirun` starts its daemons by `srun`."""
    daemon = SLURM_TASK | {"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "0"}
    assert found(daemon | TORCHRUN) == found(TORCHRUN)
    assert found(daemon | OPEN_MPI_4) == found(OPEN_MPI_4)
    assert found(daemon | JAX) == found(JAX)
    # Scripts give the variables of torch to the tasks of srun, some with the wrong rank.
    assert found(SLURM_TASK | TORCH_BY_HAND | {"RANK": "0"}) == found(SLURM_TASK)


@pytest.mark.parametrize(
    "environ", [SLURM_TASK, OPEN_MPI_4, OPEN_MPI_5, TORCHRUN, TORCH_BY_HAND, POD]
)
def test_a_given_coordinator_has_the_last_word(environ):
    given = environ | {"JAX_COORDINATOR_ADDRESS": "[fd00::1]:99"}
    assert found(given).coordinator == "[fd00::1]:99"
    assert found(given).index == found(environ).index
    moved = found(environ | {"JAX_COORDINATOR_PORT": "5000"})
    assert moved.coordinator.split(":")[0] == found(environ).coordinator.split(":")[0]
    assert port(moved) == 5000


def test_processes_of_one_host_talk_over_the_loopback_interface():
    """The name of a host may resolve to an address on which nobody listens."""
    here = {"SLURM_STEP_NODELIST": "gnode20", "SLURM_STEP_NUM_NODES": "1", "SLURM_NODEID": "0"}
    on_one = SLURM_TASK | here | {"SLURM_STEP_TASKS_PER_NODE": "4"}
    cases = [
        on_one,
        {k: v for k, v in on_one.items() if k != "SLURM_STEP_TASKS_PER_NODE"},
        OPEN_MPI_4 | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "2"},
        OPEN_MPI_5 | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "2"},
        TORCHRUN | {"LOCAL_WORLD_SIZE": "4"},
    ]
    assert [found(case).coordinator.split(":")[0] for case in cases] == ["127.0.0.1"] * 5


def test_ports_are_agreed_and_differ_between_jobs_and_steps():
    task = {"SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"}
    assert found(SLURM_TASK | task).coordinator == found(SLURM_TASK).coordinator
    ids = [(str(job), str(step)) for job in range(200505, 200525) for step in range(5)]
    ports = [
        port(found(SLURM_TASK | {"SLURM_JOB_ID": job, "SLURM_STEP_ID": step})) for job, step in ids
    ]
    assert len(set(ports)) == len(ids) and min(ports) > 60999  # which Linux gives away no more


def test_the_store_of_torchrun_keeps_its_port():
    """By hand nobody else listens there; under torchrun its agent does."""
    assert port(found(TORCH_BY_HAND)) == 29500
    assert port(found(TORCHRUN)) not in (29500, port(found(TORCHRUN | {"MASTER_PORT": "29501"})))
    other = found(TORCHRUN | {"RANK": "3", "GROUP_RANK": "1"})
    assert other.coordinator == found(TORCHRUN).coordinator


# Devices


def task(local_index, local_count, **more):
    """A task of the first of two nodes that have `local_count` tasks each."""
    counts = {
        "SLURM_STEP_NUM_TASKS": str(2 * local_count),
        "SLURM_STEP_TASKS_PER_NODE": f"{local_count}(x2)",
        "SLURM_PROCID": str(local_index),
        "SLURM_LOCALID": str(local_index),
        "SLURM_NODEID": "0",
        "SLURMD_NODENAME": "gnode10",
    }
    return SLURM_TASK | counts | more


@pytest.mark.parametrize(
    ("environ", "visible_gpus", "ids"),
    [
        (task(0, 1), 8, None),
        (task(5, 8), 8, (5,)),
        (task(1, 2), 8, (4, 5, 6, 7)),
        (task(5, 8), 1, None),
        (task(1, 4), 2, None),
        (task(1, 2, SLURM_GPUS_ON_NODE="4"), 2, None),
        (task(1, 2, SLURM_GPUS_ON_NODE="2", SLURM_GPUS_PER_TASK="2"), 2, None),
        (task(5, 8), 0, None),
        (task(5, 8, JAX_PLATFORMS="cpu"), 8, None),
        (task(5, 8, JAX_PLATFORMS="cuda,cpu"), 8, (5,)),
        (task(5, 8, JAX_LOCAL_DEVICE_IDS="0"), 8, (0,)),
        (TORCHRUN, 2, (1,)),
        (OPEN_MPI_5, 8, (0, 1, 2, 3)),
        (TORCH_BY_HAND, 8, None),
        (JAX, 8, None),
        (POD, 8, None),
    ],
)
def test_gpus_are_shared_by_the_processes_that_see_them(environ, visible_gpus, ids):
    assert found(environ, visible_gpus=visible_gpus).local_device_ids == ids


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        ("0,1,2,3", 4),
        ("6", 1),
        ("", 0),
        ("-1", 0),
        ("NoDevFiles", 0),
        ("0,1,-1,2", 2),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,MIG-3eb8e3b5-1d4f-5a0e-8f3c-000000000000", 2),
    ],
)
def test_visible_gpus_are_counted(visible, count):
    assert count_gpus({"CUDA_VISIBLE_DEVICES": visible}) == count


def test_gpus_of_the_driver_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxdrl.distributed.cluster.GPUS", tmp_path)
    for name in ("0000:17:00.0", "0000:65:00.0"):
        (tmp_path / name).mkdir()
    assert count_gpus({}) == 2
    monkeypatch.setattr("jaxdrl.distributed.cluster.GPUS", tmp_path / "no-driver")
    assert count_gpus({}) == 0


# Wrong variables


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"JAXDRL_HOSTS": "no"}, "JAXDRL_HOSTS = 'no': must be 'auto'.*'off'"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_NUM_PROCESSES is not set, but JAX_COORD.* is:"),
        (
            {"JAX_PROCESS_ID": "0"},
            "JAX_NUM_PROCESSES is not set, but JAX_PROCESS_ID is: .* least 1",
        ),
        (JAX | {"JAX_PROCESS_ID": ""}, "JAX_PROCESS_ID is not set, but JAX_NUM_PRO.* from 0 to 2"),
        (JAX | {"JAX_PROCESS_ID": "3"}, "JAX_PROCESS_ID = '3': must be an integer from 0 to 2"),
        (JAX | {"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID = '-1': must be an integer from 0 to 2"),
        (JAX | {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES = 'two'.*JAXDRL_HOSTS=off makes"),
        (JAX | {"JAX_NUM_PROCESSES": "0"}, "JAX_NUM_PROCESSES = '0': .* at least 1"),
        (JAX | {"JAX_COORDINATOR_ADDRESS": ""}, "JAX_COORDINATOR_ADDRESS is not set.*HOST:PORT"),
        (
            JAX | {"JAX_COORDINATOR_ADDRESS": "a"},
            "JAX_COORDINATOR_ADDRESS = 'a': must be HOST:PORT",
        ),
        (JAX | {"JAX_COORDINATOR_ADDRESS": "a:70000"}, "'a:70000': must be .* from 1 to 65535"),
        (JAX | {"JAX_COORDINATOR_ADDRESS": "fd00::1:80"}, r"must be HOST:PORT .*\[fd00::1\]:8476"),
        (JAX | {"JAX_COORDINATOR_ADDRESS": "http://a:80"}, "must be HOST:PORT"),
        (JAX | {"JAX_LOCAL_DEVICE_IDS": "0,x"}, "JAX_LOCAL_DEVICE_IDS = '0,x': must be diff"),
        (JAX | {"JAX_LOCAL_DEVICE_IDS": "1, 1"}, "JAX_LOCAL_DEVICE_IDS = '1, 1': must be diff"),
        (SLURM_TASK | {"JAX_COORDINATOR_PORT": "0"}, "JAX_COORDINATOR_PORT = '0': .* 1 to 65535"),
        (SLURM_TASK | {"SLURM_PROCID": "4"}, "SLURM_PROCID = '4': must be an integer from 0 to 3"),
        (SLURM_TASK | {"SLURM_PROCID": ""}, "SLURM_PROCID is not set"),
        (SLURM_TASK | {"SLURM_JOB_ID": ""}, "SLURM_JOB_ID is not set"),
        (
            SLURM_TASK | {"SLURM_LOCALID": "2"},
            "SLURM_LOCALID = '2': must be an integer from 0 to 1",
        ),
        (SLURM_TASK | {"SLURM_STEP_NODELIST": "gnode[10,20"}, "SLURM_STEP_NODELIST = 'gnode"),
        (SLURM_TASK | {"SLURM_STEP_NODELIST": "gnode[a-b]"}, "SLURM_STEP_NODELIST: 'gnode"),
        (
            SLURM_TASK | {"SLURM_STEP_TASKS_PER_NODE": "2"},
            "TASKS_PER_NODE = '2': must list 2 nodes",
        ),
        (OPEN_MPI, "JAX_COORDINATOR_ADDRESS is not set"),
        (OPEN_MPI_4 | {"OMPI_COMM_WORLD_SIZE": ""}, "OMPI_COMM_WORLD_SIZE is not set"),
        (OPEN_MPI_4 | {"OMPI_COMM_WORLD_RANK": "4"}, "OMPI_COMM_WORLD_RANK = '4': .* from 0 to 3"),
        (TORCHRUN | {"WORLD_SIZE": ""}, "WORLD_SIZE is not set"),
        (TORCHRUN | {"MASTER_ADDR": ""}, "MASTER_ADDR is not set: must be the host of process 0"),
        (TORCH_BY_HAND | {"MASTER_PORT": "http"}, "MASTER_PORT = 'http': .* from 1 to 65535"),
        (TORCH_BY_HAND | {"MASTER_PORT": ""}, "MASTER_PORT is not set"),
        (POD | {"JOB_COMPLETION_INDEX": "4"}, "JOB_COMPLETION_INDEX = '4': .* from 0 to 3"),
    ],
)
def test_wrong_variables_are_refused_by_name(environ, says):
    with pytest.raises(ConfigError, match=says):
        found(environ)


def test_gpus_that_cannot_be_shared_are_refused():
    with pytest.raises(
        ConfigError, match="3 GPUs cannot be shared equally by 2 processes of a host"
    ):
        found(TORCHRUN, visible_gpus=3)


@pytest.mark.parametrize("name", ["train-workers-0-3", "localhost", "other-2.train.rl.svc"])
def test_a_pod_without_a_service_needs_a_coordinator(name):
    with pytest.raises(ConfigError, match=f"'{name}', the name of this pod.* headless Service"):
        found(POD, host_name=name)
    assert found(POD | {"JAX_COORDINATOR_ADDRESS": "train:80"}, host_name=name).index == 3


# Lists of nodes and addresses


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("node1", ["node1"]),
        ("node1,node7", ["node1", "node7"]),
        ("gpu[03-05,09],login1", ["gpu03", "gpu04", "gpu05", "gpu09", "login1"]),
        ("gpu[098-101]-ib", ["gpu098-ib", "gpu099-ib", "gpu100-ib", "gpu101-ib"]),
        ("r[1-2]n[08-09],a.b", ["r1n08", "r1n09", "r2n08", "r2n09", "a.b"]),
    ],
)
def test_lists_of_nodes(nodes, names):
    assert addresses.expand_nodes("SLURM_STEP_NODELIST", nodes) == names


@pytest.fixture
def resolves(monkeypatch):
    """Makes names resolve to given addresses."""

    def resolve(**names):
        def getaddrinfo(host, *args, **kwargs):
            if host.replace(".", "_") not in names:
                raise OSError("Name or service not known")
            return [(0, 0, 0, "", (a, 0)) for a in names[host.replace(".", "_")]]

        monkeypatch.setattr("jaxdrl.distributed.addresses.socket.getaddrinfo", getaddrinfo)

    return resolve


def test_the_coordinator_binds_to_its_own_address(resolves, monkeypatch):
    own = {"10.0.0.5", "127.0.0.1", "127.0.1.1", "fd00::5"}
    monkeypatch.setattr("jaxdrl.distributed.addresses.is_own", own.__contains__)
    resolves(node1=["127.0.1.1", "fd00::5", "10.0.0.5"], six=["fd00::5"], localhost=["127.0.0.1"])
    assert bind_address("node1:80", {}) == "10.0.0.5:80"
    assert bind_address("six:80", {}) == "[fd00::5]:80"
    assert bind_address("localhost:80", {}) == "127.0.0.1:80"


def test_addresses_of_this_machine_are_known():
    assert bind_address("127.0.0.1:4321", {}) == "127.0.0.1:4321"
    assert addresses.is_own("127.0.0.1")
    assert not addresses.is_own("203.0.113.7")  # of documentation
    assert not addresses.is_own("0.0.0.0") and not addresses.is_own("::")


@pytest.mark.parametrize(
    ("coordinator", "says"),
    [
        (
            "node2:80",
            r"at node2:80: 'node2' is 203\.0\.113\.6 here, which is no address of this host",
        ),
        ("nowhere:80", r"'nowhere' is the name of no host here \(Name or service not known\)"),
        ("node1:80", r"'node1' is 127\.0\.1\.1 here, .*/etc/hosts.*ADDRESS=127\.0\.0\.1:80 for"),
        ("any:80", r"'any' is 0\.0\.0\.0 here, which is no address"),
    ],
)
def test_a_coordinator_elsewhere_is_refused(coordinator, says, resolves):
    resolves(node1=["127.0.1.1"], node2=["203.0.113.6"], any=["0.0.0.0"])
    with pytest.raises(ConfigError, match=says) as refused:
        bind_address(coordinator, {})
    assert "JAX_COORDINATOR_BIND_ADDRESS=ADDRESS:80" in str(refused.value)
    other = {"JAX_COORDINATOR_BIND_ADDRESS": "192.168.0.7:81"}
    assert bind_address(coordinator, other) == "192.168.0.7:81"
    with pytest.raises(ConfigError, match="JAX_COORDINATOR_BIND_ADDRESS = '7': must be HOST:PORT"):
        bind_address(coordinator, {"JAX_COORDINATOR_BIND_ADDRESS": "7"})


def test_looking_for_processes_imports_no_jax():
    code = "import sys, jaxdrl.distributed.cluster; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
