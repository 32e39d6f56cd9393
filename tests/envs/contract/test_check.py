"""The contract test finds each way of breaking the contract, and nothing where it is kept."""

import itertools

import gymnax
import jax
import jax.numpy as jnp
import pytest
from gymnax.environments.bsuite.catch import Catch

import jaxdrl
import probe_agents as agents
import probe_environments as probes
from jaxdrl import ConfigError, spaces
from jaxdrl.cli import main
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs import from_gymnax
from jaxdrl.envs.contract.check import check_environment

TIMED = jaxdrl.time_limit(jaxdrl.make("CartPole-v1"), 30)


def broken(env, **how):
    """What is broken, and in detail."""
    report = check_environment(env, **{"num_steps": 64, **how})
    assert report.holds == (not report.broken)
    return {found.what: found.detail for found in report.broken}


def notes(env):
    return {f.what: f.detail for f in check_environment(env).findings if f.verdict == "note"}


@pytest.mark.parametrize(
    "env",
    [
        jaxdrl.make("CartPole-v1"),
        TIMED,
        jaxdrl.make("Pendulum-v1"),
        jaxdrl.make("Breakout-MinAtar"),
        jaxdrl.randomize(jaxdrl.make("CartPole-v1"), {"length": (0.3, 0.7)}),
        probes.constant_reward(5, "truncated"),
        probes.constant_reward(5, "terminated"),
        probes.random_observation(),
        agents.team(),
        agents.last_move_wins(),
    ],
    ids=lambda env: env.name,
)
def test_sound_environments_pass(env):
    report = check_environment(env)
    assert report.holds, str(report)
    assert str(report).startswith(f"{env.name}: {len(report.findings)} checks, none failed\n")


def test_a_step_that_resets_by_itself_is_found_by_the_key_that_it_splits():
    env, params = gymnax.make("CartPole-v1")

    def step(key, env_state, action, params):
        with default_promotion():
            obs, env_state, reward, done, truncated, _ = env.step(key, env_state, action, params)
        terminated = done & ~truncated
        return obs, env_state, reward.astype(jnp.float32), terminated, truncated & ~terminated, {}

    found = broken(from_gymnax(env, params)._replace(step=step))
    reset = found["step does not reset the environment"]
    assert "the counter of steps is back at its start, at environment" in reset
    assert "the state at the end is that of a reset, at environment" in reset
    assert "the last observation is the true successor" in found


def test_a_step_that_goes_back_to_its_first_state_is_found():
    inner = TIMED

    def reset(key, params):
        obs, env_state = inner.reset(key, params)
        return obs, (env_state, (obs, env_state))

    def step(key, env_state, action, params):
        now, first = env_state
        obs, now, reward, terminated, truncated, info = inner.step(key, now, action, params)
        ended = terminated | truncated
        back = lambda x, y: jnp.where(ended, x, y)  # noqa: E731
        obs, now = jax.tree.map(back, first, (obs, now))
        return obs, (now, first), reward, terminated, truncated, info

    found = broken(inner._replace(reset=reset, step=step))
    assert "step does not reset the environment" in found


def test_a_last_observation_that_is_of_the_next_episode_is_found():
    inner = TIMED

    def step(key, env_state, action, params):
        step_key, reset_key = jax.random.split(key)
        obs, env_state, reward, terminated, truncated, info = inner.step(
            step_key, env_state, action, params
        )
        fresh, _ = inner.reset(reset_key, params)
        obs = jnp.where(terminated | truncated, fresh, obs)
        return obs, env_state, reward, terminated, truncated, info

    found = broken(inner._replace(step=step))
    assert list(found) == ["the last observation is the true successor"]


def spoilt(change):
    """CartPole with a limit of 30 whose results `change(obs, reward, terminated, truncated)`."""

    def step(key, env_state, action, params):
        obs, env_state, *flags, info = TIMED.step(key, env_state, action, params)
        obs, *flags = change(obs, *flags)
        return obs, env_state, *flags, info

    return TIMED._replace(step=step)


@pytest.mark.parametrize(
    ("change", "what", "words"),
    [
        (
            lambda obs, reward, *ends: (obs, reward, ends[0] | ends[1], ends[0] | ends[1]),
            "terminated and truncated exclude each other",
            "both at environment",
        ),
        (
            lambda obs, reward, terminated, truncated: (obs, reward / 0, terminated, truncated),
            "rewards are finite",
            "environment 0, step 1 of an episode",
        ),
        (
            lambda obs, reward, terminated, truncated: (obs + 1e9, reward, terminated, truncated),
            "observations are finite and in observation_space",
            "outside at environment 0, step 1",
        ),
        (
            lambda obs, reward, terminated, truncated: (
                obs * jnp.nan,
                reward,
                terminated,
                truncated,
            ),
            "observations are finite and in observation_space",
            "not finite at environment 0, step 1",
        ),
        (
            lambda obs, reward, terminated, truncated: (obs, 1, terminated, truncated),
            "shapes and dtypes are the same after reset and step",
            "reward has shape () and dtype int32",
        ),
        (
            lambda obs, reward, terminated, truncated: (obs.nothing, reward, terminated, truncated),
            "reset and step can be traced",
            "AttributeError",
        ),
        (
            lambda obs, reward, terminated, truncated: (obs[:2], reward, terminated, truncated),
            "shapes and dtypes are the same after reset and step",
            "float32[4] after reset and float32[2] after step",
        ),
    ],
)
def test_bad_results_are_named_with_their_step(change, what, words):
    found = broken(spoilt(change))
    assert list(found) == [what] and words in found[what], found


def test_a_limit_that_is_not_kept_is_found():
    endless = jaxdrl.make("Pendulum-v1")
    what = "episodes keep to max_episode_steps"
    assert (
        "it is 20, but one continues: environment"
        in broken(endless._replace(max_episode_steps=20))[what]
    )
    unsaid = jaxdrl.time_limit(endless, 10)._replace(max_episode_steps=None)
    assert "it is None, but an episode is truncated" in broken(unsaid)[what]


def test_keys_that_environments_share_are_found():
    def reset(key, params):
        obs, inner = TIMED.reset(key, params)
        return obs, {"inner": inner, "rng": jax.random.key(0)}

    def step(key, env_state, action, params):
        obs, inner, *rest = TIMED.step(key, env_state["inner"], action, params)
        return obs, {"inner": inner, "rng": env_state["rng"]}, *rest

    found = broken(TIMED._replace(reset=reset, step=step))
    assert list(found) == ["the key in env_state['rng'] differs between environments"]


def test_numbers_from_outside_are_found():
    numbers = itertools.count(1.0)

    def reset(key, params):
        obs, env_state = TIMED.reset(key, params)
        return obs * next(numbers), env_state

    assert "reset contains different numbers" in next(
        iter(broken(TIMED._replace(reset=reset)).values())
    )


def test_a_mask_that_allows_nothing_is_found():
    env = TIMED._replace(action_mask=lambda obs: jnp.broadcast_to(obs[0] > 0, (2,)))
    assert "it allows none at environment" in broken(env)["action_mask always allows an action"]
    allowed = TIMED._replace(action_mask=lambda obs: jnp.array([False, True]))
    assert not broken(allowed)


def test_masks_are_kept_in_play():
    nvec = (2, 3)

    def reset(key, params):
        return jnp.zeros(1), jnp.zeros((), jnp.int32)

    def step(key, env_state, action, params):
        reward = jnp.where((action == jnp.array([1, 2])).all(), 0.0, jnp.nan)
        no = jnp.zeros((), bool)
        return jnp.zeros(1), env_state + 1, reward, no, env_state >= 4, {}

    mask = jnp.array([False, True, False, False, True])
    env = jaxdrl.Environment(
        "masked",
        reset,
        step,
        spaces.Box(0.0, 1.0, (1,)),
        spaces.MultiDiscrete(nvec),
        max_episode_steps=5,
        action_mask=lambda obs: mask,
    )
    assert not broken(env)


def test_a_step_that_vmap_changes_is_found():
    @jax.custom_batching.custom_vmap
    def one(x):
        return x

    @one.def_vmap
    def _(size, batched, x):
        return x + 1.0, batched[0]

    found = broken(spoilt(lambda obs, reward, *ends: (obs, one(reward), *ends)))
    detail = "an environment alone differs from one of 8 at step 1"
    assert found == {"vmap changes nothing": detail}


def test_what_may_be_meant_so_is_a_note():
    found = notes(probes.constant_reward(5, "truncated"))
    assert "all start alike" in found["episodes start differently"]
    endless = probes.bad_reward(10**6)._replace(max_episode_steps=None)
    assert "no episode ended in 512 steps" in notes(endless)["step does not reset the environment"]

    def reset(key, params):
        obs, env_state = TIMED.reset(key, params)
        return obs, env_state.replace(num_steps=jnp.asarray(0))

    def step(key, env_state, action, params):
        strong = env_state.replace(num_steps=env_state.num_steps.astype(jnp.int32))
        return TIMED.step(key, strong, action, params)

    assert "num_steps" in notes(TIMED._replace(reset=reset, step=step))["weak types"]


def test_the_counts_are_those_of_numpy():
    """Rewards, lengths and ends of a fixed clock, worked out by hand."""
    report = check_environment(probes.constant_reward(5, "terminated"), num_envs=3, num_steps=20)
    details = {found.what: found.detail for found in report.findings}
    assert details["rewards are finite"] == "1 to 1"
    ends = "at the ends of 12 episodes, 12 terminated, 0 truncated"
    assert details["step does not reset the environment"] == ends


@pytest.mark.parametrize(("name", "value"), [("num_envs", 0), ("num_steps", -1)])
def test_bad_numbers_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} = {value}"):
        check_environment(TIMED, **{name: value})


def without_a_reward(self, *args, step_env=Catch.step_env):
    obs, state, reward, done, info = step_env(self, *args)
    return obs, state, jnp.full_like(reward, jnp.nan), done, info


def test_the_command_says_what_is_broken_and_ends_with_1(capsys, monkeypatch):
    main.main(["check", "Catch-bsuite", "--num-steps", "20", "--num-envs", "2"])
    assert capsys.readouterr().out.startswith("Catch-bsuite: ")
    monkeypatch.setattr(Catch, "step_env", without_a_reward)
    with pytest.raises(SystemExit) as caught:
        main.main(["check", "Catch-bsuite", "--num-steps", "20", "--num-envs", "2"])
    assert caught.value.code == 1
    assert "BROKEN  rewards are finite" in capsys.readouterr().out


def changed_step(env, change):
    """`env`, whose step gives what `change(env_state, action, results)` makes of its results."""

    def step(key, env_state, action, params):
        return change(env_state, action, env.step(key, env_state, action, params))

    return env._replace(step=step)


def test_an_inactive_agent_with_influence_is_found():
    def change(env_state, action, results):
        obs, after, reward, *rest = results
        return obs, after, reward.at[0].add(action[2].astype(jnp.float32)), *rest

    found = broken(changed_step(agents.team(), change))
    assert list(found) == ["what inactive agents do has no effect"]
    assert "change step 3 of environment" in next(iter(found.values()))


def test_steps_without_an_active_agent_are_noted():
    env = agents.team(dies_after=0)._replace(active=lambda obs: (obs[-1] > 0) & (obs[3] == 0))
    assert "none is in" in notes(env)["some agent is active"]


def test_the_reward_and_the_observation_of_each_agent_are_looked_at():
    def change(env_state, action, results):
        obs, after, reward, *rest = results
        reward = reward.at[1].set(jnp.where(env_state[0] == 3, jnp.nan, reward[1]))
        return (
            obs.at[2, 0].set(jnp.where(env_state[0] == 2, jnp.inf, obs[2, 0])),
            after,
            reward,
            *rest,
        )

    found = broken(changed_step(agents.team(), change))
    assert "step 4 of an episode" in found["rewards are finite"]
    assert "step 3 of an episode" in found["observations are finite and in observation_space"]
