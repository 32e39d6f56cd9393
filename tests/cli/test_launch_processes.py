"""`jaxdrl launch` with small scripts in place of training: none of them imports jax."""

import contextlib
import fcntl
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from jaxdrl.cli import launch_processes, main
from jaxdrl.cli.launch_processes import VERBS, share_gpus
from jaxdrl.distributed import peers
from jaxdrl.errors import ConfigError

ROOT = Path(__file__).parents[2]
MAIN = "from jaxdrl.cli.main import main; main()"
IMPATIENT = (
    "from jaxdrl.cli import child_processes; import signal; "
    "child_processes.STEPS = ((0.3, signal.SIGTERM), (1.0, signal.SIGKILL)); "
)
IS_LINUX = sys.platform == "linux"
BEGIN = """
import os, signal, sys, time
from pathlib import Path
process = int(os.environ.get("JAX_PROCESS_ID", -1))
def wait_for(*names):
    while not all(Path(name).exists() for name in names):
        time.sleep(0.01)
"""
"""The beginning of every script; they run in a directory of their own."""


def command(folder, script, *flags, program=MAIN, arguments=()):
    (folder / "script.py").write_text(BEGIN + script)
    return [sys.executable, "-c", program, "launch", *flags, "--", "script.py", *arguments]


def environment(**variables):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | variables


def run(folder, script, *flags, variables=None, **how):
    """A finished `jaxdrl launch`."""
    return subprocess.run(
        command(folder, script, *flags, **how),
        cwd=folder,
        env=environment(**(variables or {})),
        input="words\n",
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextlib.contextmanager
def started(folder, script, *flags, **how):
    """`jaxdrl launch`, whose scripts say that they are there by a file of the name of their number.

    Nothing of it is left behind.
    """
    process = subprocess.Popen(
        command(folder, script, *flags, **how),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids(folder, count):
    """The process ids that the scripts write into files of the names of their numbers."""
    files = [folder / str(process) for process in range(count)]
    wait_until(lambda: all(file.exists() and file.read_text().endswith("\n") for file in files))
    return [int(file.read_text()) for file in files]


WRITE_PID = 'Path(str(process)).write_text(f"{os.getpid()}\\n")\n'

# What the processes get and print.


def test_each_process_knows_its_number_and_prints_with_it(tmp_path):
    script = """
    print(os.environ["JAX_NUM_PROCESSES"], os.environ["JAX_COORDINATOR_ADDRESS"], sys.argv[1:])
    print("trouble", file=sys.stderr)
    print(sys.stdin.read() + "no end of line", end="")
    """
    arguments = ["a b", "--", "--processes", "5", "--x=y", ""]
    done = run(tmp_path, f"if True:{script}", "--processes", "3", arguments=arguments)
    assert done.returncode == 0
    lines = sorted(done.stdout.splitlines())
    assert re.fullmatch(r"\[0\] 3 127\.0\.0\.1:\d+ \['a b', .*", lines[0])
    expected = [lines[0].removeprefix("[0] "), "no end of line"]
    assert lines == [f"[{process}] {line}" for process in range(3) for line in expected]
    assert lines[0].endswith(repr(arguments))
    assert sorted(done.stderr.splitlines()) == [f"[{process}] trouble" for process in range(3)]


def test_lines_are_whole_however_they_are_written(tmp_path):
    script = """
letters = "abcd"[process] * 5000
for _ in range(50):
    for part in (letters[:2500], letters[2500:], "\\n"):
        os.write(1 + process % 2, part.encode())
"""
    done = run(tmp_path, script, "--processes", "4")
    for output, processes in ((done.stdout, (0, 2)), (done.stderr, (1, 3))):
        lines = sorted(output.splitlines())
        assert lines == sorted(f"[{i}] {'abcd'[i] * 5000}" for i in processes for _ in range(50))


@pytest.mark.skipif(not IS_LINUX, reason="other systems do not pin processes to cores")
@pytest.mark.parametrize("num_processes", [2, 3])
def test_each_process_has_its_share_of_the_cores(tmp_path, num_processes):
    cores = sorted(os.sched_getaffinity(0))
    done = run(
        tmp_path, "print(sorted(os.sched_getaffinity(0)))", "--processes", str(num_processes)
    )
    each = len(cores) // num_processes
    for i in range(num_processes):
        own = cores[i * each : (i + 1) * each] if each else [cores[i % len(cores)]]
        assert f"[{i}] {own}\n" in done.stdout


def test_one_process_is_as_without_launch(tmp_path):
    script = "print({'JAX_NUM_PROCESSES', 'JAX_COORDINATOR_ADDRESS'} & set(os.environ), process)"
    done = run(tmp_path, script, "--processes", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "set() -1\n", "")


def test_lines_of_a_terminal_have_room_for_the_prefix(tmp_path):
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    script = "import shutil; print(shutil.get_terminal_size().columns)"
    environ = {name: value for name, value in environment().items() if name != "COLUMNS"}
    done = subprocess.run(
        command(tmp_path, script), cwd=tmp_path, env=environ, stdout=follower, timeout=60
    )
    assert done.returncode == 0
    assert sorted(os.read(leader, 1000).decode().split()) == ["96", "96", "[0]", "[1]"]
    os.close(leader)
    os.close(follower)


@pytest.fixture
def with_gpus(tmp_path, monkeypatch):
    """As if JAX's plugin for GPUs were installed."""
    (tmp_path / "jax_cuda12_plugin").mkdir()
    (tmp_path / "jax_cuda12_plugin" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("with_gpus")
@pytest.mark.parametrize(
    ("visible", "platforms", "num_processes", "shares", "note"),
    [
        ("4,5,6,7", "", 2, [[0, 1], [2, 3]], ""),
        ("0,1", "cuda,cpu", 2, [[0], [1]], ""),
        ("0,1,2,-1,4", "", 2, [[0], [1]], "1 of 3 GPUs is not used; 1 or 3 processes use all"),
        ("0,1", "", 1, [], ""),
        ("", "", 2, [], ""),
        ("0", "cpu", 2, [], ""),
    ],
)
def test_gpus_are_shared(visible, platforms, num_processes, shares, note):
    environ = {"CUDA_VISIBLE_DEVICES": visible, "JAX_PLATFORMS": platforms}
    assert share_gpus(num_processes, environ) == (shares, note)


@pytest.mark.usefixtures("with_gpus")
def test_each_process_gets_its_gpus(tmp_path):
    variables = {
        "CUDA_VISIBLE_DEVICES": "0,1,2",
        "JAX_PLATFORMS": "",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    done = run(tmp_path, 'print(os.environ["JAX_LOCAL_DEVICE_IDS"])', variables=variables)
    assert sorted(done.stdout.splitlines()) == ["[0] 0", "[1] 1"]
    assert done.stderr == "launch: 1 of 3 GPUs is not used; 1 or 3 processes use all\n"


@pytest.mark.usefixtures("with_gpus")
def test_fewer_gpus_than_processes_are_refused():
    with pytest.raises(ConfigError) as caught:
        share_gpus(2, {"CUDA_VISIBLE_DEVICES": "3"})
    assert str(caught.value) == (
        "processes = 2: there is 1 GPU, and each process needs one of its own; "
        "--processes 1, or JAX_PLATFORMS=cpu to compute on the CPU"
    )


# How they end.


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("pass", 0, ""),
        ("sys.exit(7 * (process == 1))", 7, "process 1 ended with code 7"),
        ("sys.exit(2 if process == 2 else 75)", 2, ""),
        ("sys.exit(75)", 75, r"process \d ended with code 75 because another one failed"),
        (
            "time.sleep(0.5 * (process != 1))\n"
            "os.kill(os.getpid(), signal.SIGKILL) if process == 1 else sys.exit(75)",
            137,
            "process 1 was killed by SIGKILL",
        ),
        (
            "time.sleep(0.5 * (process != 1))\nsys.exit(75 if process == 1 else 3)",
            3,
            r"process [02] ended with code 3",
        ),
    ],
)
def test_the_exit_code_is_that_of_the_cause(tmp_path, script, code, words):
    done = run(tmp_path, script, "--processes", "3")
    assert done.returncode == code
    assert re.fullmatch(f"launch: {words}\n" if words else "", done.stderr), done.stderr


@pytest.mark.skipif(not IS_LINUX, reason="looks into /proc")
def test_all_end_when_one_is_killed(tmp_path):
    script = """
child = os.fork() if process == 2 else None
if child == 0:
    time.sleep(600)  # what a process leaves behind
if process == 2:
    Path("3").write_text(f"{child}\\n")
if process == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path(str(process)).write_text(f"{os.getpid()}\\n")
time.sleep(600)
"""
    with started(tmp_path, script, "--processes", "3", program=IMPATIENT + MAIN) as process:
        found = pids(tmp_path, 4)
        os.kill(found[2], signal.SIGSEGV)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (128 + signal.SIGSEGV, "")
        first, second, last = errors.splitlines()
        after = "0.3 s after the failure of another; sending SIGTERM"
        assert first == f"launch: processes 0, 1 still run {after}"
        ends = r"process(es)? 0(, 1)? still runs? 1 s after that; sending SIGKILL"
        assert re.fullmatch(f"launch: {ends}", second)
        assert last == "launch: process 2 was killed by SIGSEGV"
        assert not any(map(is_running, found))


@pytest.mark.skipif(not IS_LINUX, reason="looks into /proc")
def test_a_stopped_process_can_end_after_the_failure_of_another(tmp_path):
    script = f"""
if process == 0:
    {WRITE_PID.strip()}
    os.kill(os.getpid(), signal.SIGSTOP)
    sys.exit(75)
wait_for("0")
time.sleep(0.1)
stat = Path("/proc", Path("0").read_text().strip(), "stat")
while stat.read_text().rpartition(")")[2].split()[0] != "T":
    time.sleep(0.01)
sys.exit(3)
"""
    done = run(tmp_path, script)
    assert (done.returncode, done.stderr) == (3, "launch: process 1 ended with code 3\n")


@pytest.mark.skipif(not IS_LINUX, reason="other systems let them run on")
def test_a_launch_that_is_killed_leaves_no_process_behind(tmp_path):
    with started(tmp_path, WRITE_PID + "time.sleep(600)", "--processes", "3") as process:
        found = pids(tmp_path, 3)
        process.kill()
        wait_until(lambda: not any(map(is_running, found)), seconds=5)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_reaches_each_process_once(tmp_path, name):
    script = f"""
seen = []
signal.signal(signal.{name}, lambda number, frame: seen.append(number))
{WRITE_PID}
while not Path("second").exists():
    time.sleep(0.01)
    if seen:
        Path(f"seen{{process}}").touch()
wait_for("second")
while len(seen) < 2:
    time.sleep(0.01)
time.sleep(0.1)
print(len(seen))
sys.exit(130 if process == 1 else 0)
"""
    with started(tmp_path, script, "--restarts", "1") as process:
        pids(tmp_path, 2)
        os.killpg(process.pid, signal.Signals[name])  # as a terminal does
        wait_until(lambda: all((tmp_path / f"seen{i}").exists() for i in range(2)))
        (tmp_path / "second").touch()
        os.killpg(process.pid, signal.Signals[name])
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert sorted(output.splitlines()) == ["[0] 2", "[1] 2"]


def test_ignored_signals_stay_ignored(tmp_path):
    script = f"{WRITE_PID}\nprint(signal.getsignal(signal.SIGHUP).name)\nwait_for('end')"
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); " + MAIN
    with started(tmp_path, script, program=ignoring) as process:
        pids(tmp_path, 2)
        process.send_signal(signal.SIGHUP)
        (tmp_path / "end").touch()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert sorted(output.splitlines()) == ["[0] SIG_IGN", "[1] SIG_IGN"]


def test_an_output_that_nobody_reads_stops_nothing(tmp_path):
    script = f"""
{WRITE_PID}
wait_for("closed")
for _ in range(1000):
    print("x" * 1000)
Path(f"done{{process}}").touch()
"""
    with started(tmp_path, script) as process:
        pids(tmp_path, 2)
        process.stdout.close()
        (tmp_path / "closed").touch()
        assert process.wait(timeout=60) == 0
    assert all((tmp_path / f"done{i}").exists() for i in range(2))


# Starting again.

COUNT = """
port = os.environ["JAX_COORDINATOR_ADDRESS"]
with open(f"starts{process}", "a") as file:
    file.write(port + "\\n")
attempt = len(Path(f"starts{process}").read_text().splitlines())
"""


def starts(folder):
    return [(folder / f"starts{i}").read_text().splitlines() for i in range(2)]


def test_all_start_again_after_one_was_killed(tmp_path):
    script = f"""{COUNT}
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
Path(f"ready{{process}}").touch()
if attempt == 1 and process == 1:
    wait_for("ready0")
    os.kill(os.getpid(), signal.SIGKILL)
if attempt == 1:
    time.sleep(600)
if attempt == 2:
    sys.exit(75)
print("trained")
"""
    done = run(tmp_path, script, "--restarts", "3", program=IMPATIENT + MAIN)
    assert done.returncode == 0
    late, *others = done.stderr.splitlines()
    assert late.endswith("; sending SIGTERM")
    first, second = (line for line in others if "still run" not in line)  # on a busy machine
    assert first == "launch: process 1 was killed by SIGKILL; starting again (1 of 3)"
    ended = r"process [01] ended with code 75 because another one failed"
    assert re.fullmatch(rf"launch: {ended}; starting again \(2 of 3\)", second)
    assert sorted(done.stdout.splitlines()) == ["[0] trained", "[1] trained"]
    ports = starts(tmp_path)
    assert ports[0] == ports[1]
    assert len(ports[0]) == 3


KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("end", "code", "restarts", "num_starts"),
    [
        ("sys.exit(75)", 75, 0, 1),
        ("sys.exit(75)", 75, 2, 3),
        ("sys.exit(1)", 1, 2, 1),
        ("sys.exit(2)", 2, 2, 1),
        (f"wait_for('starts0', 'starts1')\nsys.exit(2) if process else {KILLED}", 2, 2, 1),
    ],
)
def test_it_gives_up(tmp_path, end, code, restarts, num_starts):
    done = run(tmp_path, f"{COUNT}\n{end}", "--restarts", str(restarts))
    assert done.returncode == code
    assert done.stderr.count("starting again") == num_starts - 1
    assert all(len(ports) == num_starts for ports in starts(tmp_path))


def test_after_a_signal_it_does_not_start_again(tmp_path):
    script = f"{COUNT}{WRITE_PID}\ntime.sleep(600)"
    with started(tmp_path, script, "--restarts", "3") as process:
        pids(tmp_path, 2)
        process.terminate()
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (128 + signal.SIGTERM, "", "")
    assert all(len(ports) == 1 for ports in starts(tmp_path))


def test_the_code_of_a_lost_peer_is_that_of_the_processes():
    assert launch_processes.PEER_FAILED == peers.PEER_FAILED


# What is refused.

EXAMPLE = "jaxdrl launch --processes 2 -- train CartPole-v1"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", f"launch: the command comes after --, as in: {EXAMPLE}"),
        ("train CartPole-v1", f"launch: the command comes after --, as in: {EXAMPLE}"),
        ("--", f"command = '': must be given after --, as in: {EXAMPLE}"),
        (
            "-- trian CartPole-v1",
            "command = 'trian': is neither a verb nor a Python script (.py); the nearest verb: "
            "train",
        ),
        (
            "-- launch -- train CartPole-v1",
            "command = 'launch': cannot start itself; name the verb that each process runs, such "
            "as train",
        ),
        ("-- absent.py", "command = 'absent.py': there is no such file"),
        ("--processes 0 -- envs", "processes = 0: must be an integer from 1 to 256"),
        ("--processes 257 -- envs", "processes = 257: must be an integer from 1 to 256"),
        ("--restarts -1 -- envs", "restarts = -1: must be an integer of at least 0"),
        (
            "--restarts 3 -- train CartPole-v1 --run-dir here",
            "restarts = 3: a restart repeats the command, and train would begin a new run; add "
            "--resume, which continues the run in --run-dir",
        ),
    ],
)
def test_a_launch_that_cannot_work_is_refused(args, message):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as caught:
        main.main(["launch", *args.split()])
    assert caught.value.code == 2
    assert errors.getvalue() == f"error: {message}\n"


@pytest.mark.parametrize(
    ("variables", "found_by", "whole"),
    [
        (
            {"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "1", "JAX_COORDINATOR_ADDRESS": "a:1"},
            "JAX_NUM_PROCESSES",
            "jaxdrl envs brax",
        ),
        (
            {
                "SLURM_STEP_NODELIST": "node1",
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_PROCID": "2",
                "SLURM_LOCALID": "2",
                "SLURM_JOB_ID": "7",
                "SLURM_STEP_ID": "0",
            },
            "SLURM step 7.0",
            "srun jaxdrl envs brax",
        ),
    ],
)
def test_within_several_processes_it_is_refused(monkeypatch, capsys, variables, found_by, whole):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        main.main(["launch", "--", "envs", "brax"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {found_by}: this is one of 4 processes already, each of which would start 2 more; "
        f"leave launch out: {whole}\n"
    )


def test_processes_that_would_not_meet_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("JAXDRL_HOSTS", "off")
    with pytest.raises(SystemExit):
        main.main(["launch", "--", "envs"])
    words = "error: JAXDRL_HOSTS = 'off': the processes would train apart; unset it\n"
    assert capsys.readouterr().err == words


def test_every_verb_can_be_launched(capsys):
    with pytest.raises(SystemExit):
        main.main(["--help"])
    listed = re.findall(r"• (\w+)", capsys.readouterr().out)
    assert sorted(listed) == sorted((*VERBS, "launch"))


def test_help_of_the_verb_comes_once(tmp_path):
    arguments = ["-c", MAIN, "launch", "--processes", "3", "--", "train", "--help"]
    shown = subprocess.run(
        [sys.executable, *arguments], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0
    assert shown.stdout.count("usage: jaxdrl train") == 1


# Real runs.


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--pbt", "--pbt-every", "2"]])
def test_a_sweep_of_two_processes_ends_as_that_of_one(tmp_path, more):
    flags = (
        "sweep CartPole-v1 --learning-rate log:1e-4:1e-2 --members 4 --seeds 1 --devices 2 "
        "--num-envs 16 --num-minibatches 2 --hidden-sizes 8 --total-env-steps 16384 --reproducible"
    )
    ends = {}
    for count in ("1", "2"):
        arguments = ["launch", "--processes", count, "--", *flags.split(), *more]
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments, "--run-dir", tmp_path / count],
            env=environment(JAX_PLATFORMS="cpu"),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        ends[count] = json.loads((tmp_path / count / "result.json").read_text())
    assert ends["1"]["state_sha256"] == ends["2"]["state_sha256"]
    assert ends["1"]["settings"] == ends["2"]["settings"]
    assert len(ends["1"]["settings"]) == 4
