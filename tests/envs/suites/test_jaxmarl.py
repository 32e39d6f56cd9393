"""The JaxMARL adapter against JaxMARL itself, and what it refuses."""

import re
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
import suite_contract
from jaxdrl import PPOConfig
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.agents import random_actions
from jaxdrl.envs.domain_randomization import parse_ranges
from jaxdrl.envs.protocol import replace_params
from jaxdrl.envs.suites import registry
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError
from jaxdrl.networks.build import check_mask

pytest.importorskip("jaxmarl")
from jaxdrl.envs.suites import jaxmarl_games
from jaxdrl.envs.suites.jaxmarl_import import import_environment


def some_slow(fast, slow):
    return [*fast, *(pytest.param(task, marks=pytest.mark.slow) for task in slow)]


def particles(name, **params):
    return getattr(import_environment("mpe"), name)(**params)


def smax(scenario, **params):
    module = import_environment("smax")
    scenario = module.map_name_to_scenario(scenario)
    return module.HeuristicEnemySMAX(scenario=scenario, **params)


def of_speaker_and_listener(obs, state):
    """A speaker with 3 numbers and 3 actions, a listener with 11 and 5."""
    del state
    speaker = jnp.zeros(11).at[:3].set(obs["speaker_0"])
    mask = jnp.array([[True, True, True, False, False], [True] * 5])
    return {"obs": jnp.stack([speaker, obs["listener_0"]]), "action_mask": mask}


def of_tag(obs, state):
    """Three adversaries with 16 numbers, and one who runs away with 14."""
    del state
    rows = [obs["adversary_0"], obs["adversary_1"], obs["adversary_2"]]
    return {"obs": jnp.stack([*rows, jnp.zeros(16).at[:14].set(obs["agent_0"])])}


def of_battle(obs, state):
    mask = their_env("SMAX-3m").get_avail_actions(state)
    of_allies = [[x[f"ally_{i}"] for i in range(3)] for x in (obs, mask)]
    return {"obs": jnp.stack(of_allies[0]), "action_mask": jnp.stack(of_allies[1]) == 1}


def of_hanabi(obs, state):
    mask = their_env("hanabi").get_legal_moves(state)
    both = [[x["agent_0"], x["agent_1"]] for x in (obs, mask)]
    return {"obs": jnp.stack(both[0]), "action_mask": jnp.stack(both[1]) == 1}


def of_kitchen(obs, state):
    del state
    return {"obs": jnp.stack([obs["agent_0"], obs["agent_1"]]).astype(jnp.int8)}


def of_coins(obs, state):
    del state
    return {"obs": jnp.stack([obs["0"], obs["1"]]).astype(jnp.float32)}


# By task: JaxMARL's environment, our observation of its, steps within its limit, and how many of
# five episodes end at least.
TASKS = {
    "MPE_simple_speaker_listener_v4": (
        partial(particles, "SimpleSpeakerListenerMPE"),
        of_speaker_and_listener,
        20,
        0,
    ),
    "MPE_simple_tag_v3": (partial(particles, "SimpleTagMPE"), of_tag, 20, 0),
    "SMAX-3m": (partial(smax, "3m"), of_battle, 40, 1),
    "hanabi": (lambda: import_environment("hanabi").Hanabi(), of_hanabi, 40, 1),
    "overcooked_v2": (
        lambda: import_environment("overcooked_v2").OvercookedV2(),
        of_kitchen,
        40,
        0,
    ),
    "coin_game": (
        lambda: import_environment("coin_game").CoinGame(num_inner_steps=40),
        of_coins,
        20,
        0,
    ),
}


@lru_cache
def their_env(task):
    with default_promotion():
        return TASKS[task][0]()


@lru_cache
def their_task(task):
    raw, to_ours = their_env(task), TASKS[task][1]
    agents = raw.agents

    def convert(obs, state):
        ids = jnp.eye(len(agents), dtype=bool)
        return {**to_ours(obs, state), "agent_id": ids}

    def reset(key):
        obs, state = raw.reset(jax.random.key_data(key))  # which Overcooked uses twice
        return convert(obs, state), state

    def step(key, state, action):
        actions = {agent: action[i] for i, agent in enumerate(agents)}
        key = jax.random.key_data(key)
        obs, state, reward, done, _ = raw.step_env(key, state, actions)
        reward = jnp.stack([jnp.float32(reward[agent]) for agent in agents])
        return convert(obs, state), state, reward, done["__all__"]

    return suite_contract.Theirs(reset, step)


@pytest.mark.parametrize(
    "task",
    some_slow(
        ["MPE_simple_speaker_listener_v4", "MPE_simple_tag_v3", "coin_game"],
        ["SMAX-3m", "hanabi", "overcooked_v2"],
    ),
)
def test_agrees_with_jaxmarl_step_by_step(task):
    _, _, limit, num_ended = TASKS[task]
    env = jaxdrl.make(f"jaxmarl/{task}", max_episode_steps=limit)
    assert suite_contract.check_agreement(env, their_task(task), limit) >= num_ended


def play(env, num_steps, *, action=None):
    """`(obs [T, A, ...], states, terminated [T], truncated [T])` after each of some steps."""

    def step(carry, key):
        obs, state = carry
        keys = jax.random.split(key)
        chosen = random_actions(env, keys[0], obs)[0] if action is None else action
        obs, state, _, *ends = env.step(keys[1], state, chosen, env.default_params)[:5]
        return (obs, state), (obs, state, *ends)

    def run(key):
        keys = jax.random.split(key)
        start = env.reset(keys[0], env.default_params)
        return jax.lax.scan(step, start, jax.random.split(keys[1], num_steps))[1]

    return suite_contract.jit(run)(jax.random.key(0))


@pytest.mark.parametrize(
    ("task", "limit"), [("MPE_simple_spread_v3", 25), ("MPE_simple_facmac_v1", 25)]
)
def test_a_limit_truncates_after_just_that_many_steps(task, limit):
    """JaxMARL ends these after 26, as if they were over."""
    env = jaxdrl.make(f"jaxmarl/{task}")
    _, _, terminated, truncated = play(env, limit + 1)
    assert env.max_episode_steps == limit and not terminated.any()
    assert np.flatnonzero(truncated).tolist() == [limit - 1, limit]


@pytest.mark.slow
def test_a_battle_is_over_when_a_team_is_dead_and_not_after_its_limit():
    """Who stands still before enemies that do not shoot is there for ever."""
    env = jaxdrl.make("jaxmarl/SMAX-3m", max_episode_steps=None, enemy_shoots=0)
    stop = jnp.full(3, 4)
    _, _, terminated, truncated = play(env, 103, action=stop)
    assert not terminated.any() and not truncated.any()
    env = jaxdrl.make("jaxmarl/SMAX-3m", max_episode_steps=200)
    _, states, terminated, _ = play(env, 60, action=stop)
    dead = ~states.inner.state.unit_alive[:, :3].any(axis=1)
    assert terminated.any()
    np.testing.assert_array_equal(terminated, dead)


@pytest.mark.slow
def test_who_is_dead_is_not_active_and_may_only_stop():
    env = jaxdrl.make("jaxmarl/SMAX-3m")
    obs, states, _, _ = play(env, 40)
    active = jax.vmap(jax.vmap(env.active))(obs)
    alive = np.asarray(states.inner.state.unit_alive[:, :3])
    np.testing.assert_array_equal(active, alive)
    assert alive.any() and not alive.all()
    assert (np.asarray(obs["action_mask"])[~alive] == (np.arange(8) == 4)).all()


@pytest.mark.slow
def test_one_is_active_in_hanabi_and_the_others_may_only_wait():
    env = jaxdrl.make("jaxmarl/hanabi", num_agents=3)
    obs, states, _, _ = play(env, 10)
    active = np.asarray(jax.vmap(jax.vmap(env.active))(obs))
    np.testing.assert_array_equal(active, np.asarray(states.cur_player_idx) == 1)
    mask = np.asarray(obs["action_mask"])
    assert (mask[~active] == (np.arange(mask.shape[-1]) == mask.shape[-1] - 1)).all()
    assert not mask[active][:, -1].any() and mask[active].any(axis=-1).all()


def test_rewards_for_steps_towards_a_dish_are_added_as_wanted():
    """Cook 0 takes an onion, and puts it into the pot: a shaped reward of 3."""
    env = jaxdrl.make("jaxmarl/overcooked_v2", shaped_reward=0.5)
    right, up, stay, interact = 0, 3, 4, 5
    # The first of the two starts at the right: pile, back, and up to the pot.
    moves = [right, interact, 2, up, interact]

    def run(params):
        _, state = env.reset(jax.random.key(0), params)

        def step(state, move):
            action = jnp.stack([move, jnp.asarray(stay)])
            _, state, reward, *_ = env.step(jax.random.key(1), state, action, params)
            return state, reward

        return jax.lax.scan(step, state, jnp.array(moves))[1]

    rewards = suite_contract.jit(run)
    assert rewards(env.default_params).tolist() == [[0, 0]] * 4 + [[1.5, 0]]
    assert not rewards(replace_params(env, {"shaped_reward": 0.0})).any()


def test_the_world_state_is_the_same_for_all():
    spread = jaxdrl.make("jaxmarl/MPE_simple_tag_v3", world_state=1, agent_ids=0)
    obs, _ = jax.jit(spread.reset)(jax.random.key(3), ())
    with default_promotion():
        raw, _ = their_env("MPE_simple_tag_v3").reset(jax.random.key(3))
    both = jnp.concatenate([raw[a] for a in ("adversary_0", "adversary_1", "adversary_2")])
    expected = np.concatenate([both, raw["agent_0"]])
    assert set(obs) == {"obs", "world_state"}
    np.testing.assert_array_equal(obs["world_state"], np.tile(expected, (4, 1)))


@pytest.mark.slow
def test_the_world_state_of_a_battle_is_that_of_smax():
    env = jaxdrl.make("jaxmarl/SMAX-3m", world_state=1)
    obs, _ = jax.jit(env.reset)(jax.random.key(3), ())
    with default_promotion():
        raw, _ = their_env("SMAX-3m").reset(jax.random.key(3))
    np.testing.assert_array_equal(obs["world_state"], np.tile(raw["world_state"], (3, 1)))


def parts(env):
    return {name: part.shape for name, part in env.observation_space.items}


@pytest.mark.parametrize(
    ("task", "params", "num_agents", "limit", "obs", "actions"),
    [
        ("MPE_simple_spread_v3", {"num_agents": 5.0, "num_landmarks": 5}, 5, 25, (30,), 5),
        ("MPE_simple_world_comm_v3", {"action_type": "Discrete"}, 6, 25, (34,), 20),
        ("MPE_simple_tag_v3", {"max_episode_steps": 7.0, "damping": 0.1}, 4, 7, (16,), 5),
        ("overcooked_v2", {"layout": "two_rooms"}, 2, 400, (5, 9, 35), 6),
        ("overcooked_v2", {"agent_view_size": 2}, 2, 400, (5, 5, 30), 6),
        ("coin_game", {}, 2, 10, (36,), 5),
    ],
)
def test_parameters_shapes_and_limits(task, params, num_agents, limit, obs, actions):
    env = jaxdrl.make(f"jaxmarl/{task}", **params)
    check_types(env)
    check_mask(env)
    assert (env.num_agents, env.max_episode_steps) == (num_agents, limit)
    assert parts(env)["obs"] == obs and parts(env)["agent_id"] == (num_agents,)
    assert env.action_space.n == actions and not env.is_competitive
    assert jax.config.jax_numpy_dtype_promotion == "strict"


def test_continuous_actions_are_padded():
    name = "jaxmarl/MPE_simple_speaker_listener_v4"
    env = jaxdrl.make(name, action_type="Continuous")
    check_types(env)
    assert env.action_space.shape == (5,) and env.action_mask is None
    obs, state = env.reset(jax.random.key(0), ())
    action = jnp.linspace(0, 1, 10).reshape(2, 5)
    with default_promotion():
        raw = particles("SimpleSpeakerListenerMPE", action_type="Continuous")
        _, theirs = raw.reset(jax.random.key(0))
        given = {"speaker_0": action[0, :3], "listener_0": action[1]}
        their_obs, *_ = raw.step_env(jax.random.key(1), theirs, given)
    obs = env.step(jax.random.key(1), state, action, ())[0]["obs"]
    np.testing.assert_allclose(obs[1], their_obs["listener_0"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("task", jaxmarl_games.list_games())
def test_every_task_keeps_its_types(task):
    for params in ({}, {"agent_ids": 0, "world_state": 1}):
        env = jaxdrl.make(f"jaxmarl/{task}", **params)
        check_types(env)
        check_mask(env)
        assert env.name == f"jaxmarl/{task}" and env.draw is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", ["asymm_advantages", "grounded_coord_ring", "test_time_wide", "demo_cook_wide"]
)
def test_layouts_of_the_kitchen(layout):
    check_types(jaxdrl.make("jaxmarl/overcooked_v2", layout=layout))
    module = import_environment("overcooked_v2")
    assert layout in module.overcooked_v2_layouts
    check_types(jaxdrl.make("jaxmarl/overcooked_v2", layout=module.overcooked_v2_layouts[layout]))


def test_scenarios_are_those_of_smax():
    module = import_environment("smax.smax_env")
    assert set(jaxmarl_games.SCENARIOS) == set(module.MAP_NAME_TO_SCENARIO)
    assert registry.load("jaxmarl").list_tasks() == jaxmarl_games.list_games()


@pytest.mark.parametrize(
    "task",
    some_slow(
        ["MPE_simple_speaker_listener_v4"],
        ["MPE_simple_facmac_v1", "SMAX-3m", "hanabi", "overcooked_v2", "coin_game"],
    ),
)
def test_keeps_the_contract(task):
    report = jaxdrl.check_environment(jaxdrl.make(f"jaxmarl/{task}"), num_steps=64)
    assert report.holds, report


def test_the_preset_of_overcooked_shapes_rewards_in_training_alone():
    experiment = jaxdrl.make_experiment("jaxmarl/overcooked_v2")
    env = jaxdrl.make(experiment.env)
    assert env.default_params.shaped_reward == 0.0
    drawn = jaxdrl.randomize(env, parse_ranges(experiment.randomize))
    keys = jax.random.split(jax.random.key(0), 8)
    _, state = jax.vmap(drawn.reset, (0, None))(keys, drawn.default_params)
    weights = np.asarray(state.drawn["shaped_reward"])
    assert (weights > 0).all() and len(np.unique(weights)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("task", ["SMAX-3m", "overcooked_v2"])
def test_is_learnt_by_ppo(task):
    env = jaxdrl.make(f"jaxmarl/{task}", max_episode_steps=5)
    config = PPOConfig(num_envs=8, num_steps=4, num_epochs=1, num_minibatches=1)
    agent = jaxdrl.ppo(env, config)
    step = jaxdrl.jit_step(agent)
    state, _ = step(agent.init(jax.random.key(0)))
    state, metrics = step(state)
    assert float(metrics["num_episodes"]) == 8
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(state.learner.params)))


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        (
            "MPE_simple_spred_v3",
            {},
            "env = 'jaxmarl/MPE_simple_spred_v3': unknown; the nearest: MPE_simple_spread_v3",
        ),
        ("SMAX-4m", {}, "unknown; the nearest: SMAX-"),
        (
            "MPE_simple_spread_v3",
            {"num_agent": 4},
            "env_params.num_agent = 4: jaxmarl/MPE_simple_spread_v3 has no such parameter; the "
            "nearest: num_agents",
        ),
        (
            "MPE_simple_spread_v3",
            {"max_steps": 9},
            "env_params.max_steps = 9: use max_episode_steps instead",
        ),
        (
            "coin_game",
            {"num_inner_steps": 9},
            "env_params.num_inner_steps = 9: use max_episode_steps instead",
        ),
        ("MPE_simple_spread_v3", {"agent_ids": 2}, "env_params.agent_ids = 2: must be 0 or 1"),
        (
            "MPE_simple_spread_v3",
            {"action_type": "discrete"},
            "env_params.action_type = 'discrete': unknown; the nearest: Discrete",
        ),
        (
            "MPE_simple_reference_v3",
            {"num_agents": 3},
            "jaxmarl/MPE_simple_reference_v3: JaxMARL refuses",
        ),
        (
            "overcooked_v2",
            {"layout": "cramped_rom"},
            "env_params.layout = 'cramped_rom': unknown; the nearest: cramped_room",
        ),
        ("SMAX-3m", {"attack_mode": 3}, "env_params.attack_mode = 3: unknown; such as 'closest'"),
        ("SMAX-3m", {"max_episode_steps": 0}, "max_episode_steps = 0"),
    ],
)
def test_refuses(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        jaxdrl.make(f"jaxmarl/{task}", **params)
