"""How the processes of a run end together: signals, refusals, a stuck process, a link that is cut.

All of them are slow; `experiments/host_faults.py` loses processes in every way.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
COUNT = 4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        from disturbances import cases, processes

        yield SimpleNamespace(cases=cases, processes=processes)


@pytest.fixture(scope="module")
def directory(made, tmp_path_factory):
    """The runs of this file, which find each other's programs."""
    found = tmp_path_factory.mktemp("hosts")
    made.cases.undisturbed(found)
    return found


def gone_after(made, together, marker, but=()):
    """Seconds from what disturbs a run until all its processes are gone."""
    assert made.processes.until(marker.exists, 280), made.cases.tails(together)
    assert together.wait(60, but), made.cases.tails(together)
    assert set(made.processes.tagged(together.tag)) == {together.processes[i].pid for i in but}
    ended = [time for index, time in together.gone.items() if index not in but]
    return max(ended) - float(marker.read_text())


def disturbed(made, directory, name, process, phase, action, *more):
    """`(run directory, marker, context of the processes)` of a run."""
    run_dir, folder = directory / name, directory / f"{name}-output"
    folder.mkdir()
    plan = {"process": process, "phase": phase, "action": action, "marker": str(folder / "marker")}
    command = made.cases.command(run_dir, made.cases.UPDATES, *more)
    return run_dir, folder / "marker", made.processes.train(command, COUNT, folder, plan)


@pytest.mark.parametrize("process", [0, 2])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_to_one_process_stops_all_after_the_same_update(made, directory, name, process):
    what = f"{name}-{process}"
    run_dir, marker, running = disturbed(made, directory, what, process, "updating", name)
    with running as together:
        gone_after(made, together, marker)  # Python itself takes its time to end
        assert together.codes() == [0] * COUNT, made.cases.tails(together)
        assert re.search(rf"{name}: stopped after update \d+ of 20", together.text(0))
    said = max(output.stat().st_mtime for output in together.outputs)
    assert said - float(marker.read_text()) < 5
    (last,) = sorted((run_dir / "checkpoints").iterdir())[-1:]
    update = int(re.search(r"stopped after update (\d+)", together.text(0))[1])
    assert update < made.cases.UPDATES
    assert int(last.name) == update
    summed = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(summed, cwd=last, check=True)
    assert made.cases.finish(made.cases.command(run_dir), 2, directory / f"{what}-again") == ""
    assert made.cases.outcome(run_dir) == made.cases.outcome(directory / "undisturbed-1")


@pytest.mark.parametrize("process", [0, 2])
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_while_compiling_ends_all(made, directory, name, code, process):
    what = f"compiling-{name}-{process}"
    run_dir, marker, running = disturbed(made, directory, what, process, "compiling", name)
    with running as together:
        seconds = gone_after(made, together, marker)
        assert together.codes() == [code] * COUNT, made.cases.tails(together)
        assert f"{name}: stopped before training could start" in together.text(0)
    assert seconds < 5
    assert not list(run_dir.glob("checkpoints/*"))


@pytest.mark.parametrize("process", [0, 2])
def test_a_stuck_process_is_named(made, directory, process):
    what = f"stuck-{process}"
    more = ("--stuck-after", "10")
    _, marker, running = disturbed(made, directory, what, process, "updating", "stuck", *more)
    with running as together:
        seconds = gone_after(made, together, marker)
        assert set(together.codes()) == {75}, made.cases.tails(together)
        for index in range(COUNT):
            words = rf"error: .*process {process} on host \S+ is stuck: updating"
            assert re.search(words, together.text(index)), together.text(index)
    assert seconds < 15


def refused(made, directory, name, *, commands=None, variables=({},) * COUNT):
    """What process 0 prints where four processes start a run differently, and refuse in time."""
    run_dir, folder = directory / name, directory / f"{name}-output"
    command = [sys.executable, str(made.processes.CHILD), *made.cases.command(run_dir)]
    commands = [command] * COUNT if commands is None else commands(command)
    markers = [folder / f"met-{index}" for index in range(COUNT)]
    plans = [
        {"process": index, "phase": "meeting", "action": "none", "marker": str(marker)}
        for index, marker in enumerate(markers)
    ]
    found = made.processes.by_jax(COUNT, made.processes.free_port())
    variables = [
        one | own | {"DISTURBED": json.dumps(plan)}
        for one, own, plan in zip(found, variables, plans, strict=True)
    ]
    with made.processes.running(commands, variables, folder) as together:
        assert together.wait(280)
        assert together.codes() == [2] * COUNT, made.cases.tails(together)
        said = [together.text(index) for index in range(COUNT)]
    met = max(float(marker.read_text()) for marker in markers)
    assert max(together.gone.values()) - met < 5
    assert not any("compiled in" in text for text in said)
    assert not any("error" in text for text in said[1:])  # process 0 speaks for all
    assert not list(run_dir.glob("checkpoints/*"))
    return said[0]


@pytest.mark.parametrize(
    ("name", "field", "own"),
    [
        ("version", "jaxdrl", {"DISTURBED_VERSION": "1"}),
        ("flags", "XLA_FLAGS", {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}),
        ("x64", "jax_enable_x64", {"JAX_ENABLE_X64": "1"}),
    ],
)
def test_processes_that_start_otherwise_are_refused(made, directory, name, field, own):
    text = refused(made, directory, name, variables=[{}, {}, own, {}])
    assert re.search(rf"error: {field} = .* in process 2 on host ", text)


def test_other_settings_are_refused(made, directory):
    def commands(command):
        return [command] * 2 + [[*command, "--learning-rate", "0.5"]] + [command]

    text = refused(made, directory, "settings", commands=commands)
    assert re.search(r"error: learning_rate = 0\.5 in process 2 on host ", text)


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"),
    reason="needs namespaces, and so root and Linux",
)


@needs_root
def test_a_run_directory_that_one_host_does_not_see_is_refused(made, directory):
    def commands(command):
        (directory / "own").mkdir()
        hidden = f'mount --bind {directory / "own"} {directory / "shared"} && exec "$@"'
        apart = ["unshare", "--mount", "sh", "-c", hidden, "sh"]
        command = [word.replace("/unseen", "/shared/unseen") for word in command]
        return [command] * 2 + [[*apart, *command]] + [command]

    (directory / "shared").mkdir()
    text = refused(made, directory, "unseen", commands=commands)
    assert "error: run_dir = " in text
    assert re.search(r"process 2 on host \S+ does not see what process 0 on host ", text)


def link(name, other):
    """Two network namespaces with a link between them."""
    for words in (
        f"netns add {name}",
        f"netns add {other}",
        f"link add {name} netns {name} type veth peer name {other} netns {other}",
        f"-n {name} addr add 10.99.0.1/24 dev {name}",
        f"-n {other} addr add 10.99.0.2/24 dev {other}",
        *(f"-n {one} link set {device} up" for one in (name, other) for device in (one, "lo")),
    ):
        subprocess.run(["ip", *words.split()], check=True)


@needs_root
def test_processes_end_where_the_link_between_their_hosts_is_cut(made, directory):
    names = f"jda{os.getpid()}", f"jdb{os.getpid()}"
    folder, run_dir = directory / "link-output", directory / "link"
    folder.mkdir()
    lines = ["127.0.0.1 localhost", *(f"10.99.0.{i + 1} {n}" for i, n in enumerate(names))]
    (folder / "hosts").write_text("\n".join(lines) + "\n")
    command = [sys.executable, str(made.processes.CHILD), *made.cases.command(run_dir, 100_000)]
    start = f'hostname "$0" && mount --bind {folder / "hosts"} /etc/hosts && exec "$@"'
    commands = [
        ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", start, name, *command]
        for name in (names[0], names[0], names[1], names[1])
    ]
    address = {"JAX_COORDINATOR_ADDRESS": "10.99.0.1:7351"}
    variables = [one | address for one in made.processes.by_jax(COUNT, 7351)]
    try:
        link(*names)
        with made.processes.running(commands, variables, folder) as together:
            began = made.processes.until((run_dir / "checkpoints" / "00000002").exists, 280)
            assert began, made.cases.tails(together)
            subprocess.run(["ip", "-n", names[0], "link", "set", names[0], "down"], check=True)
            cut = time.time()
            assert together.wait(60), made.cases.tails(together)
            assert set(together.codes()) == {75}, made.cases.tails(together)
            for index, other in enumerate((names[1], names[1], names[0], names[0])):
                assert re.search(rf"error: .*process \d on host {other} ", together.text(index))
        assert max(together.gone.values()) - cut < 12
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)
