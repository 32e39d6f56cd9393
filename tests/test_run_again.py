"""One and the same call starts a run, goes on with it, and gives its result: `run(resume=True)`."""

import dataclasses

import pytest

import jaxdrl
from jaxdrl import launch
from jaxdrl.cli import main
from jaxdrl.errors import ConfigError
from jaxdrl.runs import train_run
from jaxdrl.runs.metrics_log import sha256
from jaxdrl.runs.run_dir import read_run
from small_runs import CARTPOLE, lines_of, read, run_quietly, stopped_after, without_speed

pytestmark = pytest.mark.usefixtures("compile_cache")


def again(experiment, **arguments):
    return run_quietly(experiment, resume=True, **arguments)


def files_of(run_dir):
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run that nothing has stopped, in a directory of its own."""
    run_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    return run_quietly(dataclasses.replace(CARTPOLE, run_dir=run_dir))[0]


def test_it_starts_goes_on_and_gives_the_result(undisturbed, tmp_path, monkeypatch):
    experiment = dataclasses.replace(CARTPOLE, run_dir=tmp_path / "run")
    (tmp_path / "run").mkdir()
    words = stopped_after(1, experiment, resume=True)  # it starts in a directory that is there
    assert words.startswith("SIGTERM: stopped after update 1 of 3")
    run, output = again(experiment)
    assert "resuming from update 1 (" in output
    assert sha256(run.state) == sha256(undisturbed.state)
    assert run.result["state_sha256"] == undisturbed.result["state_sha256"]
    assert without_speed(tmp_path / "run") == without_speed(undisturbed.run_dir)

    monkeypatch.setattr(train_run, "train", lambda *_: pytest.fail("trained"))
    before = files_of(tmp_path / "run")
    found, output = again(experiment)
    assert (found.result, found.run_dir) == (run.result, experiment.run_dir)
    assert sha256(found.state) == sha256(run.state)
    assert found.evaluation.mean_return == run.evaluation.mean_return
    assert f"results: {experiment.run_dir}" in output
    assert files_of(tmp_path / "run") == before


def test_a_run_that_was_killed_while_it_compiled_starts_again(undisturbed, tmp_path, monkeypatch):
    experiment = dataclasses.replace(CARTPOLE, run_dir=tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(train_run, "compile_run", lambda *_: 1 / 0)
        again(experiment)
    assert (tmp_path / "run" / "config.json").exists()
    run, output = again(experiment)
    assert "resuming from update 0, the start: it ended before its first checkpoint" in output
    assert run.result["state_sha256"] == undisturbed.result["state_sha256"]


@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_longer_call_extends_a_run_on_the_devices_that_there_are_now(tmp_path, devices):
    experiment = dataclasses.replace(CARTPOLE, run_dir=tmp_path / "run", evaluate_every=None)
    again(experiment)
    longer = dataclasses.replace(experiment, total_env_steps=500, devices=devices)
    run, output = again(longer)
    assert "resuming from update 3 (" in output
    assert "annealed over 500 steps, the new length" in output
    assert [line["update"] for line in lines_of(run.run_dir)] == [1, 2, 3, 4]
    assert read(run.run_dir, "config.json")["devices"]["num"] == devices
    assert read_run(run.run_dir).experiment.total_env_steps == 500
    with pytest.raises(
        ConfigError, match=r"total_env_steps = 300 has been reached; --total-env-steps M "
    ):
        again(experiment)  # it is shorter than what is done


def test_a_run_that_on_update_has_ended_goes_on_to_its_length(undisturbed, tmp_path):
    experiment = dataclasses.replace(CARTPOLE, run_dir=tmp_path / "run")
    run, _ = again(experiment, on_update=lambda update, metrics: update == 1)
    assert run.result["stopped_early"]
    run, output = again(experiment)
    assert "resuming from update 2 (" in output
    assert run.result["state_sha256"] == undisturbed.result["state_sha256"]


def test_other_settings_are_refused_and_nothing_is_changed(undisturbed):
    before = files_of(undisturbed.run_dir)
    given = dataclasses.replace(CARTPOLE, run_dir=undisturbed.run_dir)
    for field, value in {"seed": 5, "log_every": 2, "env": "Acrobot-v1"}.items():
        with pytest.raises(ConfigError, match=f"holds a run with {field} = .*, and not {value!r}"):
            again(dataclasses.replace(given, **{field: value}))
    with pytest.raises(ConfigError, match=r"already holds a run \(config.json\)"):
        run_quietly(given)
    assert files_of(undisturbed.run_dir) == before


def test_without_a_directory_there_is_nothing_to_look_for():
    with pytest.raises(ConfigError) as caught:
        jaxdrl.run(CARTPOLE, resume=True)
    assert str(caught.value) == (
        "resume = True: needs the directory of the run: --run-dir (run_dir)"
    )


@pytest.mark.parametrize(("flags", "expected"), [([], False), (["--resume"], True)])
def test_the_command_says_whether_it_may_go_on(tmp_path, monkeypatch, flags, expected):
    received = []
    monkeypatch.setattr(launch, "run", lambda experiment, **how: received.append(how))
    main.main(["train", "CartPole-v1", "--run-dir", str(tmp_path), *flags])
    assert received == [{"resume": expected}]
