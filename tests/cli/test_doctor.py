"""`jaxdrl doctor`: the numbers of devices and environments that train fastest."""

import io

import pytest
from rich.console import Console

import jaxdrl
from counting_host import counting
from jaxdrl.cli import doctor, main
from jaxdrl.cli.doctor import diagnose
from jaxdrl.cli.measure_on_host import Speeds
from jaxdrl.errors import ConfigError


@pytest.fixture
def speeds(monkeypatch):
    """A machine on which 4 devices are fastest and 1,024 environments saturate them."""
    measured = []

    def measure(env, config, num_devices, seconds):
        measured.append((config.num_envs, num_devices))
        return min(config.num_envs, 1000) * (10.0 - abs(num_devices - 4))

    monkeypatch.setattr(doctor, "measure", measure)
    return measured


def test_the_fastest_devices_and_the_environments_that_saturate_them_are_found(speeds):
    found = diagnose("CartPole-v1")
    assert list(found.by_devices) == [1, 2, 4, 8]
    assert (found.num_devices, found.num_envs) == (4, 1024)
    assert speeds[:4] == [(512, 1), (512, 2), (512, 4), (512, 8)]
    # The two that no longer pay are the last.
    assert speeds[4:] == [(64, 4), (256, 4), (1024, 4), (4096, 4), (16384, 4)]


def test_it_is_said_what_to_run(speeds):
    output = io.StringIO()
    found = diagnose("CartPole-v1")
    doctor.print_diagnosis(Console(file=output, width=200), found)
    lines = output.getvalue().splitlines()
    assert lines[-1] == "jaxdrl train CartPole-v1 --devices 4 --num-envs 1024"
    assert "4 devices are fastest: 1.43x the speed of one; 1024 environments saturate" in lines[-3]
    assert "the fastest setting need not learn best" in lines[-2]
    assert any(line.startswith("processor") for line in lines)


@pytest.mark.parametrize(
    ("fits", "says", "command"),
    [
        # One device holds 256 environments, two hold 512: 0 steps/s is what memory ended with.
        (256, "2 devices are fastest; one has too little memory", "--devices 2"),
        (31, "not even 64 environments fit into memory", None),
    ],
)
def test_where_memory_ends_is_said_and_nothing_is_divided_by_it(monkeypatch, fits, says, command):
    def measure(env, config, num_devices, seconds):
        return 100.0 / num_devices if config.num_envs <= fits * min(num_devices, 2) else 0.0

    monkeypatch.setattr(doctor, "measure", measure)
    lines, output = [], io.StringIO()
    found = diagnose("CartPole-v1", say=lines.append)
    doctor.print_diagnosis(Console(file=output, width=200), found)
    assert says in output.getvalue()
    assert any("512" in line and "measuring" in line for line in lines)
    assert any(line.startswith("1 device(s): out of memory") for line in lines)
    assert list(found.by_envs.values()).count(0.0) <= 1  # no larger number is tried
    if command is None:
        assert found.num_envs == 0
        assert "jaxdrl train" not in output.getvalue()
    else:
        assert output.getvalue().splitlines()[-1].endswith(f"{command} --num-envs 64")


def test_it_is_said_what_is_measured_and_how_long_it_may_take(speeds, monkeypatch):
    monkeypatch.setattr(doctor.machine, "busy_cores", lambda: 100.0)
    lines = []
    found = diagnose("CartPole-v1", say=lines.append)
    start = next(i for i, line in enumerate(lines) if line.startswith("measuring how"))
    assert "512 environments on 1, 2, 4, 8 device(s), then 64 to 65,536" in lines[start]
    assert "other processes keep 100.0 of" in lines[start - 1]
    assert lines[start - 1] in found.complaints
    assert len(lines) == start + 1 + 4 + 5
    assert all("steps/s (at most 0 s more)" in line for line in lines[start + 1 :])


def test_the_processes_of_a_launcher_are_shown_with_what_would_keep_them_apart(speeds, monkeypatch):
    launcher = {"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "1"}
    launcher |= {"JAX_COORDINATOR_ADDRESS": "gpu03:41234", "https_proxy": "http://proxy.example"}
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("grpc_proxy", raising=False)
    lines, output = [], io.StringIO()
    found = diagnose("CartPole-v1", say=lines.append)
    doctor.print_diagnosis(Console(file=output, width=200), found)
    (row,) = [line for line in output.getvalue().splitlines() if line.startswith("processes")]
    words = "4, by JAX_NUM_PROCESSES; this is process 1; coordinator gpu03:41234"
    assert row.split(maxsplit=1)[1].strip() == words
    (fault,) = [line for line in found.complaints if line.startswith("https_proxy is set")]
    start = next(i for i, line in enumerate(lines) if line.startswith("measuring how"))
    assert fault in lines[:start]  # before minutes of measurements


def test_a_measurement_is_of_training():
    config = jaxdrl.with_settings(jaxdrl.PPOConfig(), num_envs=16, num_steps=8, hidden_sizes=(8,))
    assert doctor.measure(jaxdrl.make("CartPole-v1"), config, 2, 0.01) > 0


def test_of_an_environment_of_the_host_acting_and_learning_are_measured_apart(monkeypatch):
    measured = []

    def measure(env, config, seconds):
        measured.append(config.num_envs)
        return Speeds(acting=min(config.num_envs, 60) * 100.0, learning=30_000.0)

    monkeypatch.setattr(doctor, "make", lambda name: counting())
    monkeypatch.setattr(doctor.measure_on_host, "measure", measure)
    lines, output = [], io.StringIO()
    found = diagnose("test/Counting", say=lines.append)
    doctor.print_diagnosis(Console(file=output, width=200), found)
    assert measured == [16, 64, 256, 1024]
    assert (found.num_devices, found.num_envs) == (1, 64)
    assert found.by_envs[16] == 1600.0
    words = "acting alone makes 6,000 steps/s, and learning 30,000: acting is the slower side by 5"
    assert any(line.startswith(f"64 environments: {words}") for line in lines)
    *_, conclusion, _, command = output.getvalue().splitlines()
    assert conclusion.startswith(f"test/Counting: {words}")
    assert conclusion.endswith("64 environments saturate one actor")
    assert command == "jaxdrl train test/Counting --devices 1 --num-envs 64"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["CartPole-v9"], "env = 'CartPole-v9': "),
        (["--seconds", "0"], "seconds = 0.0: must be a finite number above 0"),
    ],
)
def test_bad_input_is_refused(capsys, args, message):
    with pytest.raises(SystemExit) as caught:
        main.main(["doctor", *args])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_number_that_is_none_is_refused_in_python_too():
    with pytest.raises(ConfigError, match="seconds"):
        diagnose(seconds=float("nan"))
