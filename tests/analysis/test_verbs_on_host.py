"""Every verb that reads a run, for runs in environments of the host."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

import jaxdrl
from counting_host import LONGEST, counting, dictionary, make_counting
from jaxdrl.analysis import watch
from jaxdrl.analysis.evaluate_run import vary_run
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.settings import with_settings
from jaxdrl.envs.host.protocol import HostEnvironment
from jaxdrl.errors import ConfigError
from small_runs import PPO, run_quietly

MADE = {"counting": counting, "dictionary": dictionary}
CHANGES = {"counting": {"memory": "gru", "memory_size": 4, "normalize_observations": True}}


@pytest.fixture(scope="module")
def run_dirs(tmp_path_factory):
    """A short run in each environment."""
    directory, found = tmp_path_factory.mktemp("runs"), {}
    for name, made in MADE.items():
        found[name] = directory / name
        experiment = Experiment(
            env=made().name,
            total_env_steps=128 * 2,
            num_eval_episodes=8,
            devices=1,
            run_dir=found[name],
            algorithm=with_settings(PPO, **CHANGES.get(name, {})),
        )
        run_quietly(experiment, env=made())
    return found


@pytest.mark.parametrize("name", MADE)
def test_evaluate_plays_the_policy_that_restore_gives(run_dirs, name):
    env = MADE[name]()
    found = jaxdrl.evaluate_run(run_dirs[name], env=env, num_episodes=20)
    assert (found.env, found.update, found.env_steps) == (env.name, 2, 256)
    of_run = jaxdrl.restore(run_dirs[name], env=env)
    again = jaxdrl.evaluate(
        of_run.env,
        of_run.algorithm.policy,
        of_run.state.learner,
        jax.random.fold_in(jax.random.key(0), 2),
        num_episodes=20,
    )
    np.testing.assert_allclose(found.evaluation.returns, again.returns, rtol=1e-5)
    assert len(set(found.evaluation.lengths.tolist())) > 2


def test_a_film_shows_the_episodes_that_evaluate_counts(run_dirs, tmp_path):
    path = tmp_path / "film.gif"
    jaxdrl.render_run(run_dirs["counting"], path, env=counting(), num_envs=4)
    found = jaxdrl.evaluate_run(run_dirs["counting"], env=counting(), num_episodes=4)
    with Image.open(path) as film:
        assert film.n_frames == found.evaluation.lengths.max() + 1


def test_what_has_no_picture_has_no_film(run_dirs, tmp_path):
    """And none is begun."""
    with pytest.raises(ConfigError, match=r"env = 'test/Dictionary': has no picture"):
        jaxdrl.render_run(run_dirs["dictionary"], tmp_path / "a.gif", env=dictionary())
    assert not (tmp_path / "a.gif").exists()


def test_pictures_of_several_sizes_are_refused(run_dirs, tmp_path):
    def make(num_envs):
        sizes = iter(range(4, 100))
        batch = make_counting(num_envs)
        return batch._replace(draw=lambda row: np.zeros((next(sizes), 4, 3), np.uint8))

    env = counting()._replace(host=HostEnvironment(make, replays=True))
    with pytest.raises(ConfigError, match="all pictures must have one size"):
        jaxdrl.render_run(run_dirs["counting"], tmp_path / "a.gif", env=env, num_envs=2)


@pytest.mark.parametrize("name", MADE)
def test_an_exported_policy_acts_as_that_of_the_run(run_dirs, name, tmp_path):
    env, num = MADE[name](), 9
    found = jaxdrl.export_policy(run_dirs[name], tmp_path / "policy.zip", env=env)
    assert found.about["env"] == env.name
    batch = env.host.make(num)
    obs = batch.reset(np.ones(num, bool), np.arange(num, dtype=np.uint32))
    of_run, start = jaxdrl.restore(run_dirs[name], env=env), np.ones(num, bool)
    policy, learner = of_run.algorithm.policy, of_run.state.learner
    carry, key = policy.initial_carry(num), jax.random.key(0)
    has_memory = bool(jax.tree.leaves(carry))
    args = (obs, {"actor": carry["actor"]}, start) if has_memory else (obs,)  # not the critic's
    given = jaxdrl.load_policy(tmp_path / "policy.zip")(*args)
    action = given[0] if len(args) > 1 else given
    wanted, _ = policy.act(learner, carry, obs, start, key, greedy=True)
    np.testing.assert_allclose(action, wanted, rtol=1e-5, atol=1e-6)


def test_a_policy_is_compared_on_observations_that_the_environment_gives(run_dirs, tmp_path):
    given = []

    def make(num_envs):
        batch = make_counting(num_envs)

        def reset(rows, seeds):
            given.append(batch.reset(rows, seeds))
            return given[-1]

        return batch._replace(reset=reset, close=lambda: given.append("closed"))

    env = counting()._replace(host=HostEnvironment(make, replays=True))
    jaxdrl.export_policy(run_dirs["counting"], tmp_path / "policy.zip", env=env)
    assert len(np.unique(given[-2], axis=0)) == 7
    assert given[1::2] == ["closed"] * (len(given) // 2)


def test_a_grid_of_parameters_is_refused(run_dirs):
    with pytest.raises(ConfigError, match=r"vary: test/Counting runs on the host"):
        vary_run(run_dirs["counting"], ["length=1:2:2"], env=counting())


def test_watch_and_plot_read_its_metrics(run_dirs, tmp_path):
    snapshot = watch.take(run_dirs["counting"])
    assert (snapshot.env, snapshot.state, snapshot.env_steps) == ("test/Counting", "finished", 256)
    with contextlib.redirect_stdout(io.StringIO()):
        jaxdrl.plot_runs([run_dirs["counting"]], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_the_run_says_that_its_environment_was_given(run_dirs):
    config = json.loads((run_dirs["counting"] / "config.json").read_text())
    assert config["overrides"] == ["env"]
    assert config["env_params"] == {"max_episode_steps": LONGEST, "replays": True}
    with pytest.raises(ConfigError, match=r"made with env of your own.*env=my_env"):
        jaxdrl.restore(run_dirs["counting"])
    with pytest.raises(ConfigError, match=r"env: its parameter"):
        jaxdrl.restore(run_dirs["counting"], env=dictionary())
    with pytest.raises(ConfigError, match=r"max_episode_steps is 5, and the run was made with 9"):
        jaxdrl.restore(run_dirs["counting"], env=jaxdrl.time_limit(counting(), 5))
    with pytest.raises(ConfigError, match=r"replays is False, and the run was made with True"):
        jaxdrl.restore(run_dirs["counting"], env=counting(replays=False))
