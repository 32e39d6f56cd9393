"""`jaxdrl evaluate`: the figures of a run's policy."""

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest

import jaxdrl
from jaxdrl.cli import main
from jaxdrl.errors import ConfigError
from jaxdrl.runs.restore import Player, player_names
from jaxdrl.runs.sweep_members import Member
from small_runs import CARTPOLE


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of three updates, with a checkpoint of the first and the last."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with contextlib.redirect_stdout(io.StringIO()):
        jaxdrl.run(dataclasses.replace(CARTPOLE, run_dir=path, checkpoint_every=1))
    return path


def ended(args):
    """`(exit code, output, errors)` of `jaxdrl ARGS`."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main.main([str(arg) for arg in args])
        except SystemExit as error:
            code = error.code
    return code, output.getvalue(), errors.getvalue()


def test_the_figures_are_those_of_the_returns(run_dir, tmp_path):
    file = tmp_path / "deep" / "evaluation.json"
    code, output, _ = ended(["evaluate", run_dir, "--num-episodes", "64", "--json", file])
    assert code == 0
    figures = json.loads(file.read_text())
    returns = np.array(figures.pop("returns"))
    assert returns.shape == (64,)
    assert returns.max() <= 12  # the limit of its episodes, which the run directory knows
    assert figures["mean_return"] == pytest.approx(returns.mean())
    assert figures["median_return"] == np.median(returns)
    assert figures["interquartile_mean"] == pytest.approx(np.sort(returns)[16:48].mean())
    assert (figures["min_return"], figures["max_return"]) == (returns.min(), returns.max())
    assert figures["ci95_low"] <= figures["mean_return"] <= figures["ci95_high"]
    assert (figures["update"], figures["env_steps"]) == (3, 3 * 128)
    assert "CartPole-v1, after update 3 (384 steps): 64 whole episodes, greedy" in output
    assert f"mean return           {figures['mean_return']:.4g} (95% interval " in output
    again = jaxdrl.evaluate_run(run_dir, num_episodes=64)
    np.testing.assert_array_equal(again.evaluation.returns, returns)


def test_seed_sampling_and_checkpoint_matter(run_dir):
    def returns(**changes):
        return jaxdrl.evaluate_run(run_dir, num_episodes=64, **changes).evaluation.returns.tolist()

    plain = returns()
    assert returns(seed=1) != plain
    assert returns(greedy=False) != plain
    assert jaxdrl.evaluate_run(run_dir, num_episodes=8, checkpoint=2).update == 2
    sampled = jaxdrl.evaluate_run(run_dir, num_episodes=8, greedy=False)
    assert sampled.figures["greedy"] is False


def test_two_runs_are_compared_by_the_difference_of_their_means(run_dir, tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        jaxdrl.run(dataclasses.replace(CARTPOLE, seed=1, run_dir=tmp_path / "other"))
    file = tmp_path / "both.json"
    flags = ["--num-episodes", "32", "--json", file, "--compare", tmp_path / "other"]
    code, output, _ = ended(["evaluate", run_dir, *flags])
    assert code == 0
    ours, theirs = (np.array(one["returns"]) for one in json.loads(file.read_text()).values())
    assert f"first minus second: {ours.mean() - theirs.mean():.4g} (95% interval" in output


@pytest.mark.parametrize("vary", [[], ["--vary", "max_steps_in_episode=3:12:2"]])
def test_two_checkpoints_of_one_run_are_both_kept(run_dir, tmp_path, vary):
    file, out = tmp_path / "both.json", tmp_path / "both.svg"
    flags = ["--checkpoint", "1", "--num-episodes", "16", *vary, "--json", file]
    other = run_dir / ".." / run_dir.name
    for compared in (run_dir, other):
        picture = ["--out", out] if vary else []
        code, output, _ = ended(["evaluate", run_dir, "--compare", compared, *flags, *picture])
        assert code == 0
        first, second = content = json.loads(file.read_text())
        assert (first, second) == (f"{run_dir}, update 1", f"{compared}, update 3")
        assert [one["update"] for one in content.values()] == [1, 3]
        for name in content:
            assert f"{name}\n" in output
            assert not vary or name in out.read_text()
    alone = json.loads(file.read_text())
    ended(["evaluate", run_dir, *flags])
    assert json.loads(file.read_text()) == alone[first]


def test_policies_to_compare_have_names_that_differ(tmp_path):
    def player(directory, update=3, number=None):
        member = None if number is None else Member(number, number, 0, 1, {}, {})
        return Player(None, None, None, tmp_path / directory, update, 0, member)

    def names(*players):
        return [name.removeprefix(f"{tmp_path}/") for name in player_names(players)]

    assert names(player("a/x"), player("b/x")) == ["a/x", "b/x"]
    assert names(player("x"), player("y", 4)) == ["x", "y"]
    assert names(player("x"), player("x", 4)) == ["x, update 3", "x, update 4"]
    assert names(player("x", 3, 0), player("x", 3, 1)) == ["x, member 0", "x, member 1"]
    both = names(player("x", 3, 0), player("x", 4, 1))
    assert both == ["x, update 3, member 0", "x, update 4, member 1"]
    assert names(player("x"), player("x")) == ["x", "x (2)"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_episodes": 10**9}, r"num_episodes = 1000000000: .* from 1 to 1000000"),
        ({"num_episodes": 0}, "num_episodes = 0: must be an integer from 1 to 1000000"),
        ({"seed": -1}, "seed = -1: must be an integer from 0 to 2\\*\\*32 - 1"),
        ({"checkpoint": 17}, "checkpoint = 17: not in .*; it has those of updates 1, 2, 3"),
    ],
)
def test_bad_numbers_are_refused(run_dir, changes, message):
    with pytest.raises(ConfigError, match=message):
        jaxdrl.evaluate_run(run_dir, **changes)
