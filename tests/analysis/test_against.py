"""`jaxdrl evaluate --against` and `--round-robin`, with runs of a tiny game."""

import contextlib
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest

import jaxdrl
from jaxdrl.analysis import against, checkpoint_ratings
from jaxdrl.cli import main
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.settings import with_settings
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation import matches
from jaxdrl.evaluation.tournament import RoundRobin
from jaxdrl.runs import assemble
from jaxdrl.runs.restore import Player
from probe_environments import constant_reward
from probe_games import higher_number
from small_runs import PPO

GAMES = {
    "higher_number": higher_number(),
    "longer": higher_number(num_rounds=4)._replace(name="longer"),
    "together": higher_number()._replace(name="together", is_competitive=False),
}
GAME = Experiment(
    env="higher_number",
    total_env_steps=3 * 16 * 8,
    devices=2,
    checkpoint_every=1,
    algorithm=with_settings(PPO, learning_rate=0.05),
)


@pytest.fixture(scope="module", autouse=True)
def games():
    """The games of this file have names, as those of a suite do."""
    make = assemble.make
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "make", lambda name, **how: GAMES.get(name) or make(name, **how))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The directories of three runs, of which the first has three checkpoints."""
    root = tmp_path_factory.mktemp("runs")
    experiments = {
        "first": GAME,
        "second": dataclasses.replace(GAME, seed=1, total_env_steps=1),
        "together": dataclasses.replace(GAME, env="together", total_env_steps=1),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        for name, experiment in experiments.items():
            jaxdrl.run(dataclasses.replace(experiment, run_dir=root / name))
    return root


def ended(*args):
    """`(exit code, output, errors)` of `jaxdrl evaluate ARGS`."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main.main(["evaluate", *map(str, args)])
        except SystemExit as error:
            code = error.code
    return code, output.getvalue(), errors.getvalue()


def test_a_match_against_another_run_is_told_by_seat(runs, tmp_path):
    file = tmp_path / "match.json"
    flags = ["--against", runs / "second", "--num-episodes", 40, "--random-moves", 1]
    code, output, _ = ended(runs / "first", *flags, "--json", file)
    assert code == 0
    figures = json.loads(file.read_text())
    assert figures["opponent"] == {
        "run_dir": str(runs / "second"), "update": 1, "env_steps": 128
    }  # fmt: skip
    assert (figures["update"], figures["env"], figures["greedy"]) == (3, "higher_number", True)
    returns = np.array(figures["returns"])
    assert returns.shape == (40, 2)
    own = np.where(np.arange(40) % 2 == 0, returns[:, 0], returns[:, 1])
    other = returns.sum(axis=1) - own
    for name, won in (("win", own > other), ("draw", own == other), ("loss", own < other)):
        assert figures[f"{name}_share"] == won.mean()
        low, high = matches.wilson_interval(int(won.sum()), 40)
        assert (figures[f"{name}_share_ci95_low"], figures[f"{name}_share_ci95_high"]) == (
            low,
            high,
        )
        for seat in (0, 1):
            assert figures["seats"][seat][f"{name}_share"] == won[seat::2].mean()
    assert figures["mean_return"] == pytest.approx(own.mean())
    assert figures["num_games"] == 40
    rows = [line.split() for line in output.splitlines()]
    assert rows[0][-5:] == ["greedy", "after", "1", "random", "move"]
    assert rows[1] == ["agent", "games", "win", "draw", "loss"]
    assert [row[:2] for row in rows[2:5]] == [["0", "20"], ["1", "20"], ["all", "40"]]
    assert rows[4][2] == f"{100 * figures['win_share']:.1f}%"


def test_a_match_against_random_players_is_the_evaluation_of_a_run(runs, tmp_path):
    file = tmp_path / "match.json"
    flags = ["--against", "random", "--num-episodes", 60, "--seed", 3, "--json", file]
    code, output, _ = ended(runs / "first", *flags)
    assert code == 0
    assert "against uniformly random players: 60 whole games, greedy" in output
    assert "Open them with" not in output
    figures = json.loads(file.read_text())
    assert figures["opponent"] == "random"
    code, output, _ = ended(runs / "first", "--num-episodes", 60, "--seed", 3, "--json", file)
    alone = json.loads(file.read_text())
    assert alone["mean_return"] == figures["mean_return"]
    assert alone["opponents"] == "random"
    assert "played one of 2 agents, each in turn, against random opponents" in output


def test_greedy_games_that_repeat_are_remarked_on(runs):
    code, output, _ = ended(runs / "first", "--against", runs / "second", "--num-episodes", 10)
    assert code == 0
    assert "different games  2 of 10" in output
    assert "only 2 of 10 differ. Open them with --random-moves 2" in output
    _, output, _ = ended(
        runs / "first", "--against", runs / "second", "--num-episodes", 10, "--sampled"
    )
    assert "whole games, sampled" in output
    assert "Open them with" not in output


def test_of_agents_that_work_together_each_has_its_own_mean(runs, tmp_path):
    file = tmp_path / "e.json"
    code, output, _ = ended(runs / "together", "--num-episodes", 8, "--sampled", "--json", file)
    assert code == 0
    figures = json.loads(file.read_text())
    assert np.mean(figures["agent_mean_returns"]) == pytest.approx(figures["mean_return"])
    assert len(figures["agent_mean_returns"]) == 2
    assert "opponents" not in figures
    assert "the return of an episode is the mean over its 2 agents" in output
    assert "mean of each agent" in output


def test_checkpoints_of_a_run_are_rated(runs, tmp_path):
    file, out = tmp_path / "ratings.json", tmp_path / "ratings.svg"
    flags = ["--round-robin", "--num-episodes", 20, "--random-moves", 1]
    code, output, _ = ended(runs / "first", *flags, "--json", file, "--out", out)
    assert code == 0
    figures = json.loads(file.read_text())
    updates = sorted(int(path.name) for path in (runs / "first" / "checkpoints").iterdir())
    num = len(updates)  # 3, or 2 where the disk was slow
    assert figures["updates"] == updates
    assert figures["env_steps"] == [128 * update for update in updates]
    assert np.shape(figures["scores"]) == (num, num)
    assert sum(figures["elo"]) == pytest.approx(0.0, abs=1e-6)
    # Trained for longer it names greater numbers.
    assert figures["elo"][-1] > figures["elo"][0]
    rows = [line.split() for line in output.splitlines()]
    assert rows[0][:4] == ["higher_number,", str(num), "checkpoints:", "20"]
    assert [row[0] for row in rows[2 : 2 + num]] == list(map(str, updates))
    assert rows[1 + num][1:3] == ["384", f"{figures['elo'][-1]:.0f}"]
    assert f"picture: {out}" in output
    assert "<svg" in out.read_text()


def test_a_damaged_checkpoint_is_left_out_of_the_ratings(runs, tmp_path):
    run, file = tmp_path / "run", tmp_path / "ratings.json"
    shutil.copytree(runs / "first", run)
    first, last = run / "checkpoints" / "00000001", run / "checkpoints" / "00000003"
    shutil.copytree(first, run / "checkpoints" / "00000002", dirs_exist_ok=True)
    code, output, _ = ended(run, "--round-robin", "--num-episodes", 2, "--json", file)
    assert code == 0
    words = "warning: the checkpoint of update 2 is not valid, and is left out"
    assert words in output
    assert json.loads(file.read_text())["updates"] == [1, 3]
    shutil.rmtree(run / "checkpoints" / "00000002")
    (last / "state.npz").write_bytes(b"")
    code, _, errors = ended(run, "--round-robin")
    assert code == 2
    assert "has 1 checkpoint to play, and a round robin takes at least 2" in errors


@pytest.mark.parametrize(
    ("run", "flags", "message"),
    [
        ("first", "--against {together}", "name together, and .* in one with name higher_number"),
        ("second", "--round-robin", "round_robin = True: .* has 1 checkpoint to play"),
        ("together", "--against random", "against = 'together': nobody wins"),
        ("first", "--against {none}", "is not a run"),
        ("first", "--against random --compare {second}", "compare = .* does not go with --against"),
        ("first", "--against random --vary a=1:2:3", "vary = .* does not go with --against"),
        ("first", "--against random --round-robin", "round_robin = .* go with --against"),
        ("first", "--round-robin --checkpoint 1", "checkpoint = 1: is not for --round-robin"),
        ("first", "--random-moves 1", "random_moves = 1: opens the games of --against or"),
        ("first", "--against random --random-moves 3", "num_random_moves = 3: must be less than"),
        ("first", "--against random --out x.png", "out = 'x.png': is the picture of --vary or"),
        ("first", "--round-robin --out x.txt", "out = 'x.txt': must end in one of"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(runs, run, flags, message):
    names = {name: runs / name for name in ("together", "second", "none")}
    code, output, errors = ended(runs / run, *flags.format(**names).split())
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1

    assert re.search(message, errors), errors


def test_an_environment_of_one_agent_is_refused():
    player = Player(constant_reward(3, "terminated"), None, None, "a", 0, 0, None)
    with pytest.raises(ConfigError, match="against: constant_reward has one agent, so there is"):
        against.play_players(player, None, 2, True, 0, 0)


def test_environments_that_differ_are_both_named():
    @dataclasses.dataclass(frozen=True)
    class Params:
        size: int
        weight: float = 1.0

    def player(env, where):
        return Player(env, None, None, where, 0, 0, None)

    first = GAMES["higher_number"]._replace(default_params=Params(3))
    against.require_same_env(player(first, "a"), player(first._replace(), "b"))
    again = higher_number()._replace(default_params=Params(3))  # made anew
    against.require_same_env(player(first, "a"), player(again, "b"))
    for other, words in (
        (GAMES["longer"], "name longer, and 'a' in one with name higher_number"),
        (first._replace(default_params=Params(4)), "size 4, and 'a' in one with size 3"),
        (first._replace(max_episode_steps=9), "max_episode_steps 9, and 'a' in one with"),
        (first._replace(action_space=jaxdrl.spaces.Discrete(3)), r"action_space Discrete\(n=3, .*"),
    ):
        with pytest.raises(ConfigError, match=f"against = 'b': was trained in .* {words}"):
            against.require_same_env(player(first, "a"), player(other, "b"))


@pytest.mark.parametrize("num", [2, 3, 25])
def test_the_picture_holds_any_number_of_checkpoints(num, tmp_path):
    wins = np.triu(np.full((num, num), 10), 1).T
    zeros = np.zeros(num)
    names = tuple(map(str, range(num)))
    found = RoundRobin(names, wins, 0 * wins, wins, 0, np.arange(num), zeros, zeros + num)
    players = [
        Player(GAMES["longer"], None, None, "x", i, 1000 * 2**i if num < 9 else 10**6 * i, None)
        for i in range(num)
    ]
    ratings = checkpoint_ratings.Ratings(tuple(players), True, 2, found)
    checkpoint_ratings.draw(ratings, tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    for words in ("longer, 10 games of each two checkpoints, greedy after 2 random moves",):
        assert words in text
