"""Runs of several processes come to the same bits and lines as those of one with as many devices.

Those with the same program, that is; on other numbers of devices: `test_bits_of_hosts.py`.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
MAIN = "from jaxdrl.cli.main import main; main()"
STEPS = ("--total-env-steps", str(12 * 128))
KINDS = {
    "feed-forward": (),
    "gru": ("--memory", "gru", "--memory-size", "8"),
    "normalised": ("--normalize-observations", "--normalize-rewards"),
    "population": ("--members", "8", "--pbt", "--pbt-every", "2", "--learning-rate", "1e-4:1e-2"),
}


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        from disturbances import cases, processes

        yield SimpleNamespace(cases=cases, processes=processes)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The runs of this file, which find each other's programs."""
    return tmp_path_factory.mktemp("hosts")


def by_slurm(count, port):
    of_all = {
        "SLURM_JOB_ID": str(port),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "node03",
        "SLURMD_NODENAME": "node03",
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_NTASKS": str(count),
        "SLURM_NODEID": "0",
        "SLURM_STEP_TASKS_PER_NODE": str(count),
    }
    return [of_all | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(count)]


def by_open_mpi(count, extra):
    names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
    sizes = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")
    of_all = dict.fromkeys(sizes, str(count)) | extra
    return [of_all | dict.fromkeys(names, str(i)) for i in range(count)]


def by_open_mpi_4(count, port):
    uri = f"1531576320.0;tcp://127.0.0.1:{port}"
    return by_open_mpi(count, {"OMPI_MCA_orte_hnp_uri": uri})


def by_open_mpi_5(count, port):
    return by_open_mpi(count, {"PMIX_NAMESPACE": f"prterun-node03-{port}@1"})


def by_torchrun(count, port):
    of_all = {
        "TORCHELASTIC_RUN_ID": str(port),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    return [of_all | {"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(count)]


def arguments(made, kind, run_dir, *more):
    words = made.processes.SMALL.split()
    if kind == "population":
        words[0] = "sweep"
    return [*words, *STEPS, *KINDS[kind], "--run-dir", str(run_dir), "--resume", *more]


def trained(made, kind, run_dir, count, devices, variables=None):
    """What a run comes to with so many processes and devices of each."""
    command = [sys.executable, str(made.processes.CHILD), *arguments(made, kind, run_dir)]
    port = made.processes.free_port()
    variables = [{}] if count == 1 else (variables or made.processes.by_jax)(count, port)
    folder = run_dir.with_name(f"{run_dir.name}-output")
    running = made.processes.running([command] * count, variables, folder, devices=devices)
    with running as together:
        assert together.wait(280)
        assert together.codes() == [0] * count, made.cases.tails(together)
        said = [together.text(index) for index in range(count)]
    return made.cases.outcome(run_dir), said


def test_a_run_whose_process_is_killed_goes_on_in_one_to_the_same_bits(made, directory):
    """Two processes of two devices until their second save, against one of four."""
    expected, _ = trained(made, "feed-forward", directory / "straight", 1, 4)
    run_dir, marker = directory / "killed", directory / "marker"
    plan = {"process": 1, "phase": "saving", "action": "SIGKILL", "marker": str(marker)}
    command = arguments(made, "feed-forward", run_dir)
    output = directory / "killed-output"
    with made.processes.train(command, 2, output, plan, devices=2) as together:
        assert together.wait(120)
        seconds = time.time() - float(marker.read_text())
        assert together.codes() == [75, -9], made.cases.tails(together)
        assert "error: process 1 on host " in together.text(0)
        assert "it was killed, or ended without a word" in together.text(0)
        assert made.processes.tagged(together.tag) == []
    assert seconds < 10
    assert len(list((run_dir / "checkpoints" / "00000002").glob("rows-*.npz"))) == 2
    again, said = trained(made, "feed-forward", run_dir, 1, 4)
    assert "resum" in said[0]
    assert again == expected
    assert [line["update"] for line in again["metrics"]] == list(range(1, 13))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "found_by"),
    [
        (by_slurm, "SLURM step "),
        (by_open_mpi_4, "Open MPI"),
        (by_open_mpi_5, "Open MPI"),
        (by_torchrun, "torchrun"),
    ],
)
def test_processes_of_every_launcher_find_each_other(made, directory, variables, found_by):
    expected, _ = trained(made, "feed-forward", directory / "straight", 1, 4)
    run_dir = directory / variables.__name__
    found, said = trained(made, "feed-forward", run_dir, 2, 2, variables)
    assert found == expected
    assert f"hosts: process 0 of 2, by {found_by}" in said[0]


@pytest.mark.slow
def test_launch_trains_to_the_same_bits(made, directory):
    expected, _ = trained(made, "feed-forward", directory / "straight", 1, 4)
    run_dir, launch = directory / "launched", ["launch", "--processes", "2", "--"]
    command = [sys.executable, "-c", MAIN, *launch, *arguments(made, "feed-forward", run_dir)]
    output = directory / "launched-output"
    with made.processes.running([command], [{}], output, devices=2) as together:
        assert together.wait(280)
        assert together.codes() == [0], together.text(0)
        assert "[0] hosts: process 0 of 2, by JAX_NUM_PROCESSES" in together.text(0)
    assert made.cases.outcome(run_dir) == expected
    assert json.loads((run_dir / "result.json").read_text())["env_steps"] == 12 * 128
