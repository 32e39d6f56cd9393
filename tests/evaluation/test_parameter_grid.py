"""A policy over a grid of parameters, and training in environments that draw theirs."""

import contextlib
import dataclasses
import io
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from rich.console import Console

import jaxdrl
from counting_host import counting
from jaxdrl import PPOConfig
from jaxdrl.analysis import figures, robustness_map
from jaxdrl.analysis.evaluate_run import vary_run
from jaxdrl.cli import main
from jaxdrl.config.settings import with_settings
from jaxdrl.core.spaces import Box, Discrete
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs import vector
from jaxdrl.envs.protocol import Environment, replace_params
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation import parameter_grid
from jaxdrl.evaluation.parameter_grid import Variation, parse_variation, vary
from small_runs import CARTPOLE

CONFIG = with_settings(PPOConfig(), num_envs=16, num_steps=8, num_minibatches=2, hidden_sizes=(8,))
GRID = (Variation("length", 0.25, 1.0, 3), Variation("max_steps_in_episode", 10, 40, 2))


@pytest.fixture(scope="module")
def trained():
    env = jaxdrl.make("CartPole-v1", max_steps_in_episode=30)
    agent = jaxdrl.ppo(env, CONFIG)
    return env, agent, jax.jit(agent.init)(jax.random.key(0))


def test_every_cell_is_the_evaluation_of_its_environment(trained):
    env, agent, state = trained
    key = jax.random.key(3)
    found = vary(env, agent.policy, state.learner, jax.random.clone(key), GRID, num_episodes=16)
    assert found.mean_return.shape == (3, 2)
    for i, length in enumerate((0.25, 0.625, 1.0)):
        for j, limit in enumerate((10, 40)):
            params = {"length": length, "max_steps_in_episode": limit}
            cell = jaxdrl.evaluate(
                jaxdrl.make("CartPole-v1", **params),
                agent.policy,
                state.learner,
                jax.random.fold_in(key, 2 * i + j),
                num_episodes=16,
            )
            assert found.mean_return[i, j] == cell.mean_return
            assert found.ci95_low[i, j] == cell.ci95_low
            assert found.ci95_high[i, j] == cell.ci95_high
    assert (found.mean_return[:, 0] <= 10).all()
    assert found.mean_return[:, 1].max() > 10


@struct.dataclass
class ClockParams:
    """How many steps an episode of `endless` has."""

    max_steps_in_episode: int = 3


def endless():
    """Reward 1 at each step, and no end but that of the limit, which is 3."""

    def reset(key, params):
        del key, params
        return jnp.zeros(1), jnp.zeros((), jnp.int32)

    def step(key, time, action, params):
        del key, action
        time = time + 1
        over = time >= params.max_steps_in_episode
        return jnp.zeros(1), time, jnp.float32(1.0), jnp.zeros_like(over), over, {}

    space, params = Box(0.0, 1.0, (1,)), ClockParams()
    return Environment("endless", reset, step, space, Discrete(2), params, max_episode_steps=3)


def test_a_cell_is_played_to_the_end_of_the_limit_that_it_raises():
    def act(learner, carry, obs, episode_start, key, *, greedy=False):
        return jnp.zeros(episode_start.shape, jnp.int32), carry

    learner = LearnerState((), (), None, None, (), jnp.int32(0))
    policy, key = Policy(lambda num_envs: (), act), jax.random.key(0)
    limits = Variation("max_steps_in_episode", 2, 8, 4)
    found = vary(endless(), policy, learner, key, [limits], num_episodes=2)
    assert found.mean_return.tolist() == [2.0, 4.0, 6.0, 8.0]
    assert found.ci95_low.tolist() == found.ci95_high.tolist() == [2.0, 4.0, 6.0, 8.0]


def test_the_worst_cells_are_named(trained):
    env, agent, state = trained
    found = vary(env, agent.policy, state.learner, jax.random.key(0), GRID, num_episodes=4)
    worst = found.worst(6)
    means = [mean for _, mean in worst]
    assert means == sorted(means)
    assert means[0] == found.mean_return.min()
    assert {tuple(params) for params, _ in worst} == {("length", "max_steps_in_episode")}
    assert len({tuple(params.values()) for params, _ in worst}) == 6


def test_what_is_printed_and_written_of_a_map_are_its_figures():
    means = np.arange(12.0).reshape(3, 4)[::-1]
    variations = (Variation("a", 0.0, 1.0, 3), Variation("b", 10.0, 40.0, 4))
    found = parameter_grid.RobustnessMap(variations, 5, means, means - 1.0, means + 2.0)
    assert parameter_grid.figures_of(found) == {
        "vary": {"a": [0.0, 0.5, 1.0], "b": [10.0, 20.0, 30.0, 40.0]},
        "num_episodes": 5,
        "mean_return": means.tolist(),
        "ci95_low": (means - 1.0).tolist(),
        "ci95_high": (means + 2.0).tolist(),
    }
    console = Console(file=io.StringIO(), width=200)
    robustness_map.show(console, found)
    assert console.file.getvalue().splitlines() == [
        "12 cells of 5 episodes: mean return 5.5, 1 in the worst quarter, from 0 to 11",
        "  among the worst: a=1, b=10: 0",
        "  among the worst: a=1, b=20: 1",
        "  among the worst: a=1, b=30: 2",
    ]


def test_what_follows_from_other_parameters_is_recomputed():
    env = jaxdrl.make("CartPole-v1")
    params = replace_params(env, {"length": 2.0, "masspole": 0.5})
    assert params.polemass_length == 1.0
    assert params.total_mass == 1.5
    assert replace_params(env, {}) == env.default_params
    made = jaxdrl.make("CartPole-v1", length=2.0, masspole=0.5).default_params
    assert made == params
    # What is asked for by name at the making is what one gets.
    assert jaxdrl.make("CartPole-v1", length=2.0, total_mass=9.0).default_params.total_mass == 9.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("length", "must be NAME=LOW:HIGH:NUM, such as length=0.25:1.0:16"),
        ("length=1:2", "must be NAME=LOW:HIGH:NUM"),
        ("length=a:b:c", "must be NAME=LOW:HIGH:NUM"),
        ("length=2:1:4", "vary.length = '2:1': must be LOW:HIGH with LOW below HIGH"),
        ("length=0:inf:4", "vary.high = inf: must be a finite number"),
        ("length=1:2:1", "vary.num = 1: must be an integer of at least 2"),
        ("lenght=1:2:4", "lenght = 1.0: CartPole-v1 has no such parameter; the nearest: length"),
        ("xyz=1:2:4", "xyz = 1.0: CartPole-v1 has no such parameter; it has max_steps_in_episode,"),
        ("total_mass=1:2:4", "total_mass = 1.0: is computed from other parameters of CartPole"),
        ("max_steps_in_episode=1:2:3", "max_steps_in_episode = 1.5: must be a whole number"),
    ],
)
def test_what_cannot_be_varied_is_refused(trained, text, message):
    env, agent, state = trained
    with pytest.raises(ConfigError) as caught:
        vary(env, agent.policy, state.learner, jax.random.key(0), [parse_variation(text)])
    assert message in str(caught.value)


@pytest.mark.parametrize("variations", [[], [GRID[0], GRID[0]]])
def test_a_grid_has_different_axes(trained, variations):
    env, agent, state = trained
    with pytest.raises(ConfigError, match="must name"):
        vary(env, agent.policy, state.learner, jax.random.key(0), variations)


def test_parameters_that_are_no_dataclass_are_none():
    env = jaxdrl.make("CartPole-v1")._replace(default_params=())
    with pytest.raises(ConfigError, match="it has none"):
        replace_params(env, {"length": 1.0})


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    changed = dataclasses.replace(CARTPOLE, run_dir=path, randomize=("length=0.25:2.0",))
    with contextlib.redirect_stdout(io.StringIO()):
        jaxdrl.run(changed)
    return path


@pytest.mark.parametrize("vary", [("length=0.25:1:3",), ("length=0.25:1:3", "force_mag=5:15:4")])
def test_the_command_writes_a_map_and_a_picture(run_dir, tmp_path, vary):
    flags = [word for text in vary for word in ("--vary", text)]
    files = ["--json", str(tmp_path / "map.json"), "--out", str(tmp_path / "map.png")]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main.main(["evaluate", str(run_dir), *flags, *files, "--num-episodes", "4"])
    content = json.loads((tmp_path / "map.json").read_text())
    shape = (3,) if len(vary) == 1 else (3, 4)
    assert np.shape(content["mean_return"]) == shape
    assert content["vary"]["length"] == [0.25, 0.625, 1.0]
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert f"{np.prod(shape)} cells of 4 episodes: mean return" in output.getvalue()
    assert "among the worst: length=" in output.getvalue()


def test_a_picture_of_more_than_two_parameters_or_of_none_is_refused(run_dir, tmp_path):
    found = parameter_grid.RobustnessMap((*GRID, GRID[0]), 1, *[np.zeros((3, 2, 3))] * 3)
    with pytest.raises(ConfigError, match="can show one or two parameters"):
        robustness_map.draw({"": found}, tmp_path / "map.png")
    with contextlib.redirect_stderr(io.StringIO()) as errors, pytest.raises(SystemExit):
        main.main(["evaluate", str(run_dir), "--out", "map.png"])
    assert "is the picture of --vary" in errors.getvalue()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--vary", "length=0.25:1:3", "--out", "map.gif"], "must end in one of .png, .svg, .pdf"),
        (
            [f"--vary={name}=1:2:2" for name in ("length", "gravity", "tau")]
            + ["--out", "map.png"],
            "can show one or two parameters",
        ),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_played(
    run_dir, capsys, no_compile, flags, message
):
    with pytest.raises(SystemExit) as caught:
        main.main(["evaluate", str(run_dir), "--num-episodes", "13", *flags])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("vary", [("length=0.25:1:3",), ("length=0.25:1:3", "force_mag=5:15:4")])
def test_two_runs_side_by_side(run_dir, tmp_path, vary, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    flags = [word for text in vary for word in ("--vary", text)]
    files = ["--json", str(tmp_path / "maps.json"), "--out", str(tmp_path / "maps.png")]
    both = [str(run_dir), "--compare", str(other)]
    drawn, save = [], figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda *args: (drawn.append(args[0]), save(*args)))
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main.main(["evaluate", *both, *flags, *files, "--num-episodes", "4"])
    content = json.loads((tmp_path / "maps.json").read_text())
    assert list(content) == [str(run_dir), str(other)]
    assert content[str(run_dir)] == content[str(other)]
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    assert output.getvalue().count("cells of 4 episodes") == 2
    assert "first minus second: 0 on average" in output.getvalue()
    words = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    trained = "trained on 0.25 to 2" if len(vary) == 1 else "trained on parameters drawn from here"
    assert trained in words


# Training in environments that draw their parameters.


def lengths_and_states(env, num_steps=60, num_envs=32):
    """Drawn lengths `[T, N]`, and whether an episode ended before, of random play."""

    def body(carry, key):
        env_state, ended = carry
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(2 * num_envs))
        action = jnp.zeros(num_envs, jnp.int32)
        stepped = vector.step(env, keys[:num_envs], keys[num_envs:], env_state, action)
        ended = stepped.terminated | stepped.truncated
        return (stepped.env_state, ended), (stepped.env_state.drawn["length"], ended)

    @jax.jit
    def play(key):
        reset_key, run_key = jax.random.split(key)
        _, env_state = vector.reset(env, jax.random.split(reset_key, num_envs))
        start = (env_state, jnp.zeros(num_envs, bool))
        first = env_state.drawn["length"]
        return first, jax.lax.scan(body, start, jax.random.split(run_key, num_steps))[1]

    first, (later, ended) = jax.device_get(play(jax.random.key(0)))
    return np.concatenate([first[None], later]), ended


def test_each_copy_draws_its_own_and_anew_at_each_reset():
    env = jaxdrl.randomize(jaxdrl.make("CartPole-v1"), {"length": (0.5, 2.0)})
    lengths, ended = lengths_and_states(env)
    assert ended.sum() > 100
    np.testing.assert_array_equal(lengths[1:] != lengths[:-1], ended)
    drawn = np.unique(lengths)
    assert len(drawn) == 32 + ended.sum()
    assert (drawn.min() >= 0.5, drawn.max() <= 2.0) == (True, True)
    assert drawn.mean() == pytest.approx(1.25, abs=0.1)
    assert drawn.std() == pytest.approx(1.5 / np.sqrt(12), abs=0.05)


def test_a_drawn_environment_is_the_one_with_these_parameters():
    base = jaxdrl.make("CartPole-v1")
    env = jaxdrl.randomize(base, {"length": (0.5, 2.0), "masspole": (0.1, 0.5)})
    _, state = env.reset(jax.random.key(0), env.default_params)
    plain = jaxdrl.make("CartPole-v1", **{k: float(v) for k, v in state.drawn.items()})
    inner = state.inner
    for action in (0, 1, 1, 0):
        obs, state, *_ = env.step(jax.random.key(1), state, action, env.default_params)
        plain_obs, inner, *_ = plain.step(jax.random.key(1), inner, action, plain.default_params)
        np.testing.assert_allclose(obs, plain_obs, rtol=1e-6)


def test_a_run_trains_in_what_is_drawn_and_is_evaluated_in_what_it_was_named_for(run_dir):
    restored = jaxdrl.restore(run_dir)
    lengths = np.asarray(restored.state.actor.env_state.drawn["length"])
    assert len(np.unique(lengths)) == CARTPOLE.algorithm.num_envs
    assert restored.env.default_params.length == 0.5
    _, state = restored.env.reset(jax.random.key(0), restored.env.default_params)
    assert not hasattr(state, "drawn")


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (("length",), "must be NAME=LOW:HIGH, such as length=0.25:1.0"),
        (("length=2:1",), "randomize.length = '2:1': must be LOW:HIGH with LOW below HIGH"),
        (("length=1:2", "length=2:3"), "names a parameter that is given twice"),
        (("width=1:2",), "CartPole-v1 has no such parameter"),
        (("total_mass=1:2",), "is computed from other parameters"),
        (("max_steps_in_episode=10:20",), "is an integer, 12; only float parameters can be drawn"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(tmp_path, ranges, message):
    experiment = dataclasses.replace(CARTPOLE, run_dir=tmp_path / "run", randomize=ranges)
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(ConfigError) as caught:
        jaxdrl.run(experiment)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_drawn_parameters_buy_robustness(tmp_path):
    """In the worst quarter of the grid: 500 against 15 when it was written."""
    grid = ("length=0.25:4.0:16", "force_mag=5:15:16")
    worst = {}
    for name, ranges in (("plain", ()), ("drawn", ("length=0.25:4.0", "force_mag=5:15"))):
        experiment = dataclasses.replace(
            jaxdrl.make_experiment("CartPole-v1"),
            total_env_steps=1_500_000,
            randomize=ranges,
            run_dir=tmp_path / name,
        )
        jaxdrl.run(experiment)
        found = vary_run(tmp_path / name, grid)
        worst[name] = np.sort(found.mean_return, axis=None)[:64].mean()
    assert worst["drawn"] > 300
    assert worst["plain"] < 100


def test_more_cells_than_can_be_played_are_refused(trained):
    env, agent, state = trained
    for nums, num_episodes in (((10**9,), 1), ((1000, 1000), 4), ((3,), 10**6)):
        names = ("length", "gravity")
        variations = [Variation(n, 0.25, 1.0, num) for n, num in zip(names, nums, strict=False)]
        with pytest.raises(ConfigError, match=r"vary = '.* cells': must be at most .* with"):
            vary(
                env,
                agent.policy,
                state.learner,
                jax.random.key(0),
                variations,
                num_episodes=num_episodes,
            )


def test_parameters_of_an_environment_of_the_host_do_not_vary_in_a_program():
    env, policy = counting(), Policy(lambda num: (), lambda *_, **__: pytest.fail("it acts"))
    learner, grid = LearnerState((), (), None, None, (), ()), [parse_variation("length=1:2:2")]
    with pytest.raises(ConfigError, match=r"vary: test/Counting runs on the host.*each made with"):
        vary(env, policy, learner, jax.random.key(0), grid)
    with pytest.raises(ConfigError, match=r"randomize = .*of test/Counting.*: is for .* in JAX"):
        jaxdrl.randomize(env, {"length": (1.0, 2.0)})
