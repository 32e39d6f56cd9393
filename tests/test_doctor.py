"""`jaxdrl doctor`: the numbers of devices and environments that train fastest."""

import io

import pytest
from rich.console import Console

import jaxdrl
from jaxdrl import cli, doctor
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
    found = jaxdrl.diagnose("CartPole-v1")
    assert list(found.by_devices) == [1, 2, 4, 8]
    assert (found.num_devices, found.num_envs) == (4, 1024)
    assert speeds[:4] == [(512, 1), (512, 2), (512, 4), (512, 8)]
    # The two that no longer pay are the last.
    assert speeds[4:] == [(64, 4), (256, 4), (1024, 4), (4096, 4), (16384, 4)]


def test_it_is_said_what_to_run(speeds):
    output = io.StringIO()
    found = jaxdrl.diagnose("CartPole-v1")
    doctor.print_diagnosis(Console(file=output, width=200), found)
    lines = output.getvalue().splitlines()
    assert lines[-1] == "jaxdrl train CartPole-v1 --devices 4 --ppo.num-envs 1024"
    assert "4 devices pay: 1.43x the speed of one; 1024 environments saturate" in lines[-2]
    assert any(line.startswith("processor") for line in lines)


def test_a_measurement_is_of_training():
    config = jaxdrl.PPOConfig(num_envs=16, num_steps=8, hidden_sizes=(8,))
    assert doctor.measure(jaxdrl.make("CartPole-v1"), config, 2, 0.01) > 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["CartPole-v9"], "env = 'CartPole-v9': "),
        (["--seconds", "0"], "seconds = 0.0: must be a finite number above 0"),
    ],
)
def test_bad_input_is_refused(capsys, args, message):
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", *args])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_number_that_is_none_is_refused_in_python_too():
    with pytest.raises(ConfigError, match="seconds"):
        jaxdrl.diagnose(seconds=float("nan"))
