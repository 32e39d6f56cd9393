"""The end of a command that trains: commands that can be copied, and that make sense."""

import shlex
from types import SimpleNamespace

import pytest

import jaxdrl
from jaxdrl import launch
from jaxdrl.cli import main, next_steps


def ended(run_dir, env="CartPole-v1", *, env_steps=512_000, is_written=True, **result):
    found = {"env_steps": env_steps, **result}
    made = jaxdrl.make(env) if isinstance(env, str) else env
    return SimpleNamespace(run_dir=run_dir, env=made, result=found, is_written=is_written)


def test_the_commands_are_those_of_the_run(tmp_path):
    run_dir = tmp_path / "a run"
    commands = [shlex.split(line) for line in next_steps.next_steps(ended(run_dir))]
    assert commands == [
        ["jaxdrl", "plot", str(run_dir)],
        ["jaxdrl", "render", str(run_dir), "--out", "film.gif"],
        ["jaxdrl", "resume", str(run_dir), "--total-env-steps", "1000000"],
    ]


@pytest.mark.parametrize(
    "env",
    ["MemoryChain-bsuite", jaxdrl.make("CartPole-v1")._replace(host=object())],
    ids=["without a drawing", "of the host"],
)
def test_no_film_where_it_might_be_refused(env, tmp_path):
    commands = next_steps.next_steps(ended(tmp_path, env))
    assert [line.split()[1] for line in commands] == ["plot", "evaluate", "resume"]


@pytest.mark.parametrize("env_steps", [1, 7, 999, 15_000, 106_496, 149_999, 10**9])
def test_the_longer_length_is_longer(env_steps, tmp_path):
    last = next_steps.next_steps(ended(tmp_path, env_steps=env_steps))[-1]
    assert 4 * env_steps / 3 <= int(last.split()[-1]) <= 3 * env_steps


@pytest.mark.parametrize("has_best", [True, False])
def test_a_sweep_goes_on_with_its_best_settings_if_there_are_any(has_best, tmp_path):
    if has_best:
        (tmp_path / "best.json").touch()
    commands = next_steps.next_steps(ended(tmp_path, settings=[{"setting": 0}]))
    verbs = [line.split()[1] for line in commands]
    assert verbs == ["plot", "render", "train"][: 2 + has_best]
    assert "resume" not in " ".join(commands)


@pytest.mark.parametrize(("index", "is_said"), [(0, True), (1, False)])
@pytest.mark.parametrize("verb", ["train CartPole-v1", "sweep CartPole-v1 --seeds 2", "resume x"])
def test_one_process_says_them_at_the_end(verb, index, is_said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jax._src.distributed.global_state.process_id", index)
    for name in ("run", "resume"):
        monkeypatch.setattr(launch, name, lambda *_, **__: ended(tmp_path / ("long" * 30)))
    main.main(verb.split())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (3 if is_said else 0)  # none is cut, however long the directory
    assert not lines or lines[0].startswith("next: jaxdrl plot ")


@pytest.mark.parametrize("verb", ["train CartPole-v1", "sweep CartPole-v1 --seeds 2", "resume x"])
def test_a_result_that_could_not_be_written_is_a_failure(verb, tmp_path, monkeypatch, capsys):
    for name in ("run", "resume"):
        monkeypatch.setattr(launch, name, lambda *_, **__: ended(tmp_path, is_written=False))
    with pytest.raises(SystemExit) as caught:
        main.main(verb.split())
    assert caught.value.code == 1
    assert capsys.readouterr().out == ""
