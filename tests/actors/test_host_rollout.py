"""Trajectories in environments of the host, against the same episodes played one by one."""

import threading
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from counting_host import counting, is_truncated, length_of, make_counting
from jaxdrl import Network, PPOConfig, spaces
from jaxdrl.actors.episodes import replay
from jaxdrl.actors.host_rollout import host_collector
from jaxdrl.algorithms.acting import acting_part
from jaxdrl.algorithms.rollout import Decision
from jaxdrl.config.settings import with_settings
from jaxdrl.core.trees import raw
from jaxdrl.envs.host.protocol import HostBatch, HostEnvironment, on_host

N, T, GAMMA = 6, 10, 0.5
WEIGHTS = np.array([1.0, 10.0, 0.5], np.float32)  # V is exact in float32
CONFIG = with_settings(
    PPOConfig(), num_shards=1, num_envs=N, num_steps=T, num_minibatches=1, gamma=GAMMA
)


def linear():
    """V is the product with a vector, and all actions are equally likely."""

    def apply(params, carry, obs, episode_start):
        return jnp.zeros((obs.shape[0], 3)), obs @ params["value"], carry

    return Network(lambda num_envs: (), lambda key, obs: {"value": jnp.asarray(WEIGHTS)}, apply)


def counting_steps():
    """The carry is the number of steps since the episode began, and V ten times that."""

    def apply(params, carry, obs, episode_start):
        carry = jnp.where(episode_start, 0.0, carry) + 1.0
        return jnp.zeros((obs.shape[0], 3)), 10.0 * carry + params["zero"], carry

    return Network(jnp.zeros, lambda key, obs: {"zero": jnp.zeros(())}, apply)


LINEAR, COUNTS_STEPS = linear(), counting_steps()


def logged(log, num_envs):
    """Copies that write down every reset, as `(row, seed)`."""
    batch = make_counting(num_envs)

    def reset(rows, seeds):
        log.extend((row, int(seeds[row])) for row in np.flatnonzero(rows))
        return batch.reset(rows, seeds)

    return batch._replace(reset=reset)


COUNTING = counting()


@cache
def agent_of(env, config, network):
    """An algorithm whose programs are compiled once for all copies that count."""
    return jaxdrl.ppo(env, config, network=network)


def started(env, config=CONFIG, *, network=LINEAR, device=None, key=0):
    """`(learner, actor, collector)`, none of whose episodes has begun."""
    agent = agent_of(COUNTING if env.name == COUNTING.name else env, config, network)
    state = jax.jit(agent.init)(jax.random.key(key))
    _, env_state = jax.vmap(env.reset, in_axes=(0, None))(state.actor.key, ())
    actor = state.actor.replace(env_state=env_state)
    device = device or jax.devices()[0]
    collector = host_collector(env, agent.acting, device, config.num_envs)
    return acting_part(state.learner), actor, collector


def collected(collector, learner, num=1):
    return [collector.collect(learner, lambda: None) for _ in range(num)]


def on_host_(tree):
    """Copies of all arrays."""
    return jax.tree.map(lambda x: np.array(raw(x)), tree)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, on_host_(a), on_host_(b))


def columns(tree, rows, axis):
    return jax.tree.map(lambda x: np.take(x, rows, axis=axis), on_host_(tree))


def joined(trajectories):
    """Several trajectories as one; the carry is left out."""
    parts = [on_host_(trajectory.replace(carry=())) for trajectory in trajectories]
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def played(seeds, actions, bad=lambda steps: None):
    """What one copy of the environment gives for its actions, by name, step by step."""
    rows, seeds, final = [], iter(seeds), None
    seed, steps, total, returned, discounted = next(seeds), 0, 0, 0.0, 0.0
    for action in actions:
        obs = np.array([seed % 97, steps, total], np.float32)
        steps, total = steps + 1, total + action
        final = np.array([seed % 97, steps, total], np.float32)
        reward = steps + 0.1 * action if bad(steps) is None else bad(steps)
        usable = reward if abs(reward) <= 1e15 else 0.0
        returned, discounted = returned + usable, usable + GAMMA * discounted
        ends = steps == length_of(seed)
        row = {
            "obs": obs,
            "value": obs @ WEIGHTS,
            "reward": np.float32(reward),
            "terminated": ends and not is_truncated(seed),
            "truncated": ends and is_truncated(seed),
            "discounted_return": discounted,
            "episode_return": returned,
            "episode_length": steps,
            "episode_start": steps == 1,
            "next_value": final @ WEIGHTS,
        }
        rows.append(row)
        if ends:
            seed, steps, total, returned, discounted = next(seeds), 0, 0, 0.0, 0.0
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def check(trajectory, log, **changes):
    """Every field of a trajectory `[T, N]` against `played`."""
    ended = 0
    for row in range(N):
        seeds = [seed for reset, seed in log if reset == row]
        expected = played(seeds, trajectory.action[:, row], **changes)
        counts = ~expected["terminated"]  # V does not matter after the end
        for name, value in expected.items():
            given = getattr(trajectory, name)[:, row]
            if name == "next_value":
                given, value = given[counts], value[counts]
            np.testing.assert_allclose(given, value, rtol=1e-6, err_msg=name)
        ended += expected["truncated"].any() and expected["terminated"].any()
    assert ended  # both ends were seen in one of the rows
    np.testing.assert_allclose(trajectory.log_prob, -np.log(3.0), rtol=1e-6)
    assert {0, 1, 2} == set(trajectory.action.flat)


def test_each_row_is_that_of_the_episodes_played_one_by_one():
    log = []
    env = counting(partial(logged, log))
    learner, actor, collector = started(env)
    assert collector.begin(actor) == 0
    parts = collected(collector, learner, 4)
    check(joined([part.trajectory for part in parts]), log)
    dtypes = dtypes_of(parts[0].trajectory)
    _, expected = jax.eval_shape(jaxdrl.ppo(env, CONFIG, network=LINEAR).rollout, learner, actor)
    assert dtypes == dtypes_of(expected)


def test_final_observations_are_kept_where_an_algorithm_asks_for_them():
    learner, actor, collector = started(COUNTING)
    asked = agent_of(COUNTING, CONFIG, LINEAR).acting._replace(keep_final_obs=True)
    keeping = host_collector(COUNTING, asked, jax.devices()[0], N)
    for one in (collector, keeping):
        one.begin(actor)
    (plain,), (kept,) = collected(collector, learner), collected(keeping, learner)
    cut = np.asarray(kept.trajectory.truncated)
    assert cut.any()
    value = np.asarray(kept.trajectory.final_obs) @ WEIGHTS
    np.testing.assert_array_equal(value[cut], np.asarray(kept.trajectory.next_value)[cut])
    assert_same(kept.trajectory.replace(final_obs=()), plain.trajectory)


def test_every_actor_knows_which_of_the_environments_are_its_own():
    def decide(learner, carry, obs, episode_start, keys, *, env_ids):
        action = env_ids % 3
        value = jnp.zeros(env_ids.shape)
        return Decision(action, action, value, value, carry)

    learner, actor, _ = started(COUNTING)
    acting = agent_of(COUNTING, CONFIG, LINEAR).acting._replace(decide=decide)
    collector = host_collector(COUNTING, acting, jax.devices()[0], N, first=2 * N + 1)
    collector.begin(actor)
    (part,) = collected(collector, learner)
    expected = np.broadcast_to((2 * N + 1 + np.arange(N)) % 3, (T, N))
    np.testing.assert_array_equal(part.trajectory.action, expected)


def dtypes_of(trajectory):
    return {name: str(x.dtype) for name, x in vars(trajectory).items() if not isinstance(x, tuple)}


def reset_at_once(log, num_envs):
    """As auto-resetting packages do it: the observation after an end is that of a reset."""
    batch = logged(log, num_envs)

    def step(action):
        obs, reward, terminated, truncated = batch.step(action)
        ended = (terminated | truncated)[:, None]
        return np.where(ended, obs * [1, 0, 0], obs), reward, terminated, truncated

    return batch._replace(step=step)


def test_an_environment_that_gives_the_observation_of_the_reset_is_found():
    log = []
    learner, actor, collector = started(counting(partial(reset_at_once, log)))
    collector.begin(actor)
    trajectory = joined([part.trajectory for part in collected(collector, learner, 4)])
    with pytest.raises(AssertionError, match="next_value"):
        check(trajectory, log)


def test_rewards_that_are_not_usable_are_left_out_of_the_returns():
    def bad(steps):
        return {2: np.nan, 4: np.inf, 5: 1e20}.get(steps)

    def make(num_envs):
        batch = logged(log, num_envs)

        def step(action):
            obs, reward, *ends = batch.step(action)
            known = [bad(steps) for steps in obs[:, 1]]
            reward = np.where(np.equal(known, None), reward, np.array(known, np.float32))
            return obs, reward, *ends

        return batch._replace(step=step)

    log = []
    learner, actor, collector = started(counting(make))
    collector.begin(actor)
    trajectory = joined([part.trajectory for part in collected(collector, learner, 3)])
    check(trajectory, log, bad=bad)


def test_it_goes_on_from_a_state_to_the_same_bits():
    learner, actor, collector = started(counting())
    collector.begin(actor)
    first, second, third = collected(collector, learner, 3)
    assert len(np.unique(first.actor.episode_length)) > 2
    _, _, again = started(counting())
    assert again.begin(first.actor) == 0
    for expected, given in zip((second, third), collected(again, learner, 2), strict=True):
        assert_same(given.trajectory, expected.trajectory)
        assert_same(given.actor, expected.actor)


def seeded_once(num_envs):
    """Copies that take no other seed than that of their first reset."""
    first, number = np.zeros(num_envs, np.uint32), np.zeros(num_envs, np.uint32)
    batch = make_counting(num_envs)

    def reset(rows, seeds):
        if not number.any():
            assert rows.all()
            first[:] = seeds
        number[rows] += 1
        return batch.reset(rows, first % 1000 + 5 * number)

    def seek(seeds, episode, actions, num_actions):
        assert not number.any()
        first[:], number[:] = seeds, episode + 1
        every = np.ones(num_envs, bool)
        obs, _ = replay(batch, every, first % 1000 + 5 * number, actions, num_actions)
        return obs

    return batch._replace(reset=reset, seek=seek)


@pytest.mark.parametrize("num_steps", [2, T])
def test_copies_that_are_seeded_only_once_go_on_to_the_same_bits(num_steps):
    env, config = counting(seeded_once), with_settings(CONFIG, num_steps=num_steps)
    learner, actor, collector = started(env, config)
    assert collector.begin(actor) == 0
    parts = collected(collector, learner, 6)
    assert (parts[-1].actor.env_state.episode > 0).all()
    for before, after in pairwise(parts):
        _, _, again = started(env, config)
        assert again.begin(before.actor) == 0
        assert_same(collected(again, learner)[0].trajectory, after.trajectory)
    _, _, again = started(env, config)
    assert again.begin(parts[0].actor, anew=True) == N
    anew = collected(again, learner)[0]
    np.testing.assert_array_equal(anew.trajectory.episode_length[0], 1)
    _, _, again = started(env, config)
    assert again.begin(anew.actor) == 0


def test_episodes_longer_than_a_trajectory_are_continued():
    config = with_settings(CONFIG, num_steps=2)
    learner, actor, collector = started(counting(), config)
    collector.begin(actor)
    parts = collected(collector, learner, 8)
    for before, after in pairwise(parts):
        _, _, again = started(counting(), config)
        assert again.begin(before.actor) == 0
        assert_same(collected(again, learner)[0].actor, after.actor)


def test_two_collectors_of_half_the_environments_collect_the_same_columns():
    learner, actor, collector = started(counting())
    collector.begin(actor)
    first, second = collected(collector, learner, 2)
    for rows in (np.array([0, 1, 2]), np.array([5, 3, 4])):  # in any order
        config = with_settings(CONFIG, num_envs=3)
        _, _, half = started(counting(), config)
        part = jax.tree.map(lambda x, rows=rows: x[rows], actor)
        half.begin(part)
        for expected in (first, second):
            given = collected(half, learner)[0]
            assert_same(given.trajectory, columns(expected.trajectory, rows, axis=1))
            assert_same(given.actor, columns(expected.actor, rows, axis=0))


def test_actions_follow_from_the_key_of_the_copy_and_the_number_of_its_step():
    learner, actor, collector = started(COUNTING)
    collector.begin(actor)
    parts = collected(collector, learner, 3)
    assert parts[-1].actor.env_state.num_steps.tolist() == [3 * T] * N

    @partial(jax.vmap, in_axes=(None, 0))  # over the copies
    @partial(jax.vmap, in_axes=(0, None))  # over the steps
    def action(step, key):
        return jax.random.categorical(jax.random.fold_in(key, step), jnp.zeros(3))

    expected = np.array(action(np.arange(3 * T, dtype=np.int32), actor.key)).T
    np.testing.assert_array_equal(joined([p.trajectory for p in parts]).action, expected)


def test_another_key_begins_other_episodes_and_acts_otherwise():
    found = []
    for key in (0, 1):
        learner, actor, collector = started(counting(), key=key)
        collector.begin(actor)
        found.append(on_host_(collected(collector, learner)[0].trajectory))
    assert (found[0].obs[0, :, 0] != found[1].obs[0, :, 0]).any()
    assert (found[0].action != found[1].action).any()


def drifting(num_envs, made):
    """Copies whose observations differ in one row each time that they are made."""
    batch, made[0] = make_counting(num_envs), made[0] + 1
    drift = np.zeros((num_envs, 3), np.float32)
    drift[1] = made[0]

    def step(action):
        obs, *rest = batch.step(action)
        return obs + drift * (obs[:, 1:2] > 0), *rest

    return batch._replace(step=step)


@pytest.mark.parametrize("kind", ["cannot replay", "says it can", "anew"])
def test_episodes_that_cannot_be_continued_are_counted_and_begin_anew(kind):
    made = [0]
    env = {
        "cannot replay": counting(replays=False),
        "says it can": counting(partial(drifting, made=made)),
        "anew": counting(),
    }[kind]
    config = with_settings(CONFIG, num_steps=2)  # shorter than any episode
    learner, actor, collector = started(env, config)
    assert collector.begin(actor) == 0  # no episode has been lost before the first
    first = collected(collector, learner)[0]
    length = np.array(first.actor.episode_length)
    assert length.all()
    lost = np.arange(N) == 1 if kind == "says it can" else np.ones(N, bool)
    _, _, again = started(env, config)
    assert again.begin(first.actor, anew=kind == "anew") == lost.sum()
    second = collected(again, learner)[0]
    np.testing.assert_array_equal(second.trajectory.episode_start[0], lost)
    np.testing.assert_array_equal(
        second.trajectory.episode_length[0], np.where(lost, 1, length + 1)
    )
    given = np.array(second.trajectory.episode_return[0])[lost]
    np.testing.assert_allclose(given, np.array(second.trajectory.reward[0])[lost])
    given = np.array(second.trajectory.discounted_return[0])[lost]
    np.testing.assert_allclose(given, np.array(second.trajectory.reward[0])[lost])
    before, after = (on_host_(part.actor.env_state.episode) for part in (first, second))
    ended = on_host_(second.trajectory.terminated | second.trajectory.truncated)
    np.testing.assert_array_equal(after, before + ended.sum(axis=0) + lost)
    if kind == "anew":
        assert again.begin(second.actor) == 0


def test_a_recurrent_network_keeps_its_state_before_each_sequence():
    config = with_settings(CONFIG, sequence_length=5)
    learner, actor, collector = started(counting(), config, network=COUNTS_STEPS)
    collector.begin(actor)
    parts = collected(collector, learner, 3)
    before = np.zeros(N)
    for part in parts:
        trajectory = on_host_(part.trajectory)
        np.testing.assert_array_equal(trajectory.value, 10 * trajectory.episode_length)
        goes_on = ~trajectory.terminated
        expected = 10 * (trajectory.episode_length + 1)
        np.testing.assert_array_equal(trajectory.next_value[goes_on], expected[goes_on])
        # The carry is not reset before the first step of an episode has been seen.
        np.testing.assert_array_equal(trajectory.carry, [before, trajectory.episode_length[4]])
        before = trajectory.episode_length[-1]
    _, _, again = started(counting(), config, network=COUNTS_STEPS)
    again.begin(parts[0].actor)
    assert_same(collected(again, learner)[0].trajectory, parts[1].trajectory)


SEEN = spaces.Dict({"pixels": spaces.Box(0, 255, (2, 2), "uint8"), "side": spaces.Discrete(2)})


def moving(action_space, taken, num_envs):
    """A picture of noise, and which of two sides is allowed; writes down its actions."""
    number = np.zeros(num_envs, np.uint32)

    def look():
        mixed = number * np.uint32(2654435761)
        shifts = np.arange(0, 32, 8, dtype=np.uint32).reshape(2, 2)
        pixels = (mixed[:, None, None] >> shifts).astype(np.uint8)
        return {"pixels": pixels, "side": (mixed >> 31).astype(np.int32)}

    def reset(rows, seeds):
        number[rows] = seeds[rows]
        return look()

    def step(action):
        taken.append(action)
        assert action.flags.writeable and action.shape == (num_envs, *action_space.shape)
        number[:] += 1
        ends = number % 5 == 0
        return look(), np.ones(num_envs, np.float32), ends, np.zeros_like(ends)

    return HostBatch(reset=reset, step=step, close=lambda: None)


def only_side(obs):
    return jax.nn.one_hot(obs["side"], 2).astype(jnp.bool)


BOX = spaces.Box([-1.0, 0.0], [1.0, 0.5], (2,))


@pytest.mark.parametrize(
    ("space", "mask"),
    [(BOX, None), (spaces.Discrete(2), only_side), (spaces.MultiDiscrete((2, 3)), None)],
    ids=["box", "masked", "multi_discrete"],
)
def test_dictionaries_images_bounds_and_masks(space, mask):
    taken = []
    host = HostEnvironment(make=partial(moving, space, taken), replays=True)
    env = on_host("here/Moving", host, SEEN, space, max_episode_steps=5, action_mask=mask)
    config = with_settings(CONFIG, num_envs=4, normalize_observations=True)
    learner, actor, collector = started(env, config, network=None)
    collector.begin(actor)
    first, second = (on_host_(part.trajectory) for part in collected(collector, learner, 2))
    assert (first.obs["pixels"].dtype, first.obs["side"].dtype) == ("uint8", "int32")
    whole = joined([first, second])
    last = whole.obs["pixels"].reshape(2 * T, 4, 4)[..., 0]
    goes_on = ~whole.terminated[:-1]
    steps = (last[1:].astype(int) - last[:-1]) % 256  # lowest byte of the multiplier
    assert (steps[goes_on] == 2654435761 % 256).all() and whole.terminated.any()
    env_action = np.stack(taken)
    assert env_action.dtype == space.dtype
    assert all(space.contains(action) for action in env_action.reshape(-1, *space.shape))
    if space is BOX:
        middle, half = (BOX.low + BOX.high) / 2, (BOX.high - BOX.low) / 2
        expected = np.clip(middle + half * whole.action, BOX.low, BOX.high)
        np.testing.assert_allclose(env_action, expected, atol=1e-6)
        assert (whole.action != env_action).any()
    else:
        np.testing.assert_array_equal(env_action, whole.action)
    if mask:
        np.testing.assert_array_equal(whole.action, whole.obs["side"])


def test_what_it_has_given_is_never_written_to():
    learner, actor, collector = started(counting())
    collector.begin(actor)
    copies, parts = [on_host_((learner, actor))], []
    for _ in range(3):
        parts += collected(collector, learner)
        copies.append(on_host_((parts[-1].trajectory, parts[-1].actor)))
    collector.begin(parts[0].actor)
    collected(collector, learner)
    assert_same((learner, actor), copies[0])
    for part, copy in zip(parts, copies[1:], strict=True):
        assert_same((part.trajectory, part.actor), copy)


def test_everything_is_on_the_device_of_the_actor():
    device = jax.devices()[3]
    learner, actor, collector = started(counting(), device=device)
    learner = jax.device_put(learner, jax.devices()[1])
    collector.begin(actor)
    part = collected(collector, learner)[0]
    arrays = jax.tree.leaves((part.trajectory, part.actor))
    assert all(isinstance(x, jax.Array) and x.devices() == {device} for x in arrays)
    assert set(part.seconds) == {"environment", "inference", "transfer"}
    assert all(seconds > 0 for seconds in part.seconds.values())


def test_the_state_may_be_donated_once_episodes_have_begun():
    config = with_settings(CONFIG, sequence_length=5)
    learner, actor, collector = started(counting(), config, network=COUNTS_STEPS)
    collector.begin(actor)
    jax.tree.map(lambda x: x.delete(), (actor.carry, actor.key, actor.obs, actor.episode_start))
    collected(collector, learner)


class StopError(Exception):
    """The run is to end."""


def test_errors_arrive_as_they_are_and_episodes_can_begin_again():
    fails = [False]

    def before_step():
        if fails[0]:
            raise OSError("lost the simulator")

    def stop():
        raise StopError

    env = counting(partial(make_counting, before_step=before_step))
    learner, actor, collector = started(env)
    with pytest.raises(RuntimeError, match="test/Counting: its environments have to begin first"):
        collected(collector, learner)
    collector.begin(actor)
    first, second = collected(collector, learner, 2)
    fails[0] = True
    with pytest.raises(OSError, match="lost the simulator"):
        collected(collector, learner)
    with pytest.raises(RuntimeError, match="have to begin first"):
        collected(collector, learner)
    fails[0] = False
    assert collector.begin(first.actor) == 0
    assert_same(collected(collector, learner)[0].trajectory, second.trajectory)
    with pytest.raises(StopError):
        collector.collect(learner, stop)


def test_it_asks_whether_to_go_on_before_each_step():
    learner, actor, collector = started(counting())
    collector.begin(actor)
    asked = []
    collector.collect(learner, lambda: asked.append(1))
    assert len(asked) == T


def test_close_ends_the_copies_also_those_that_are_being_made():
    closed, is_making, may_go_on = [], threading.Event(), threading.Event()

    def make(num_envs):
        is_making.set()
        assert may_go_on.wait(10)
        return make_counting(num_envs)._replace(close=lambda: closed.append(1))

    _, actor, collector = started(counting(make))
    may_go_on.set()
    collector.begin(actor)
    collector.close()
    assert closed == [1]
    collector.begin(actor)
    collector.begin(actor)
    assert len(closed) == 3
    is_making.clear()
    may_go_on.clear()
    errors = []

    def begin():
        try:
            collector.begin(actor)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=begin, daemon=True)
    thread.start()
    assert is_making.wait(10)
    num_closed = len(closed)
    collector.close()
    may_go_on.set()
    thread.join(10)
    assert len(closed) == num_closed + 1
    assert errors == ["test/Counting: its copies were closed while they were made"]


def test_what_has_been_compiled_serves_every_other_collector(request):
    learner, actor, collector = started(COUNTING)
    collector.begin(actor)
    first = collected(collector, learner, 2)[0]  # some of its episodes were truncated
    _, _, again = started(COUNTING)
    request.getfixturevalue("no_compile")
    collected(collector, learner, 2)
    again.begin(first.actor)
    collected(again, learner, 2)
