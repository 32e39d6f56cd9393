"""Served actions are those of the agent, for each kind of policy and any number of clients."""

import asyncio
import functools
import json

import jax
import numpy as np
import pytest
from test_decisions import KINDS, MEMORY, loaded_of

from jaxdrl.serving.limits import Limits
from served import NPY, application, fixed, npy

NUMBERS = (1, 2, 64, 65, 1000)
SESSION = {"x-jaxdrl-session": "new"}


@functools.cache
def made(kind):
    """`(environment, settings, agent, its learner, the same as a version in use)`."""
    make, changes = KINDS[kind]
    env = make()
    return env, changes, *loaded_of(env, changes)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_answered_as_the_agent_acts(kind):
    env, changes, agent, learner, loaded = made(kind)
    own = jax.jit(agent.policy.act, static_argnames="greedy")
    keys = jax.random.split(jax.random.key(2), 1000)
    obs = jax.tree.map(np.asarray, jax.vmap(env.observation_space.sample)(keys))
    start, carry = np.ones(1000, bool), agent.policy.initial_carry(1000)
    expected, _ = own(learner, carry, obs, start, jax.random.key(1), greedy=True)
    has_memory, is_dict = "memory" in changes, isinstance(obs, dict)

    async def check():
        async with application(fixed(loaded)) as (_, ask):
            for num in NUMBERS:
                part = jax.tree.map(lambda x, n=num: x[:n], obs)
                body = {"obs": jax.tree.map(lambda x: x.tolist(), part)}
                body |= {"session": "new"} if has_memory else {}
                found = await ask("POST", "/act", json.dumps(body).encode())
                assert found.status == 200, found
                assert found.json["update"] == 7 and found.headers["x-jaxdrl-update"] == "7"
                close(found.json["action"], expected[:num])
                if not is_dict:
                    headers = NPY | (SESSION if has_memory else {})
                    found = await ask("POST", "/act", npy(part), headers)
                    assert found.array.dtype == expected.dtype
                    assert found.headers["x-jaxdrl-update"] == "7"
                    close(found.array, expected[:num])
            one = jax.tree.map(lambda x: x[0].tolist(), obs)
            body = {"obs": one} | ({"session": "new"} if has_memory else {})
            found = await ask("POST", "/act", json.dumps(body).encode())
            close(found.json["action"], expected[0])

    asyncio.run(check())


def close(found, expected):
    tolerance = 0 if expected.dtype.kind in "iu" else 1e-6
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_many_clients_at_once_are_each_answered_for_their_own_observations():
    _, _, agent, learner, loaded = made("continuous")
    obs = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    expected, _ = agent.policy.act(
        learner, (), obs, np.ones(300, bool), jax.random.key(1), greedy=True
    )

    async def check():
        async with application(fixed(loaded)) as (service, ask):
            bodies = [json.dumps({"obs": row.tolist()}).encode() for row in obs]
            bodies += [json.dumps({"obs": obs[i : i + 7].tolist()}).encode() for i in range(9)]
            found = await asyncio.gather(*(ask("POST", "/act", body) for body in bodies))
            for i, reply in enumerate(found):
                close(reply.json["action"], expected[i] if i < 300 else expected[i - 300 : i - 293])
            value = service.metrics.registry.get_sample_value
            assert value("jaxdrl_batch_rows_sum") == value("jaxdrl_observations_total") == 363
            assert value("jaxdrl_batch_rows_count") < 20  # and not 309
            assert value("jaxdrl_answers_total") == 309

    asyncio.run(check())


def test_sessions_act_as_players_side_by_side_do():
    """Some are asked at once, each in its order, and begin episodes at times of their own."""
    env, _, agent, learner, loaded = made("memory")
    own = jax.jit(agent.policy.act, static_argnames="greedy")
    rng = np.random.default_rng(0)
    keys = jax.random.split(jax.random.key(2), 60)
    obs = np.asarray(jax.vmap(env.observation_space.sample)(keys)).reshape(10, 6, -1)
    starts = rng.random((10, 6)) < 0.3
    starts[0] = True
    carry, expected = agent.policy.initial_carry(6), []
    for t in range(10):
        action, carry = own(learner, carry, obs[t], starts[t], jax.random.key(1), greedy=True)
        expected.append(np.asarray(action).tolist())

    async def check():
        async with application(fixed(loaded)) as (_, ask):
            names = [(await ask("POST", "/sessions")).json["session"] for _ in range(4)]
            assert len(set(names)) == 4 and all(len(name) == 32 for name in names)

            async def play(place, rows):
                """All the steps of a session at once, and without waiting."""
                asked = []
                for t in range(10):
                    start = starts[t, rows].tolist()
                    body = {"obs": obs[t, rows].tolist(), "session": names[place]}
                    body |= {"episode_start": start} if t else {}
                    asked.append(ask("POST", "/act", json.dumps(body).encode()))
                return [reply.json["action"] for reply in await asyncio.gather(*asked)]

            rows = [0, 1, 2, [3, 4, 5]]
            found = await asyncio.gather(*(play(i, row) for i, row in enumerate(rows)))
            for row, actions in zip(rows, found, strict=True):
                assert actions == [np.asarray(expected[t])[row].tolist() for t in range(10)]

    asyncio.run(check())


def test_a_session_keeps_its_state_with_a_new_version_of_the_run_and_not_of_another():
    env, _, agent, learner, first = made("memory")
    other = agent.init(jax.random.key(5)).learner
    obs = np.asarray(env.observation_space.sample(jax.random.key(0))).tolist()
    part = first.policy.part_of(other)
    second = fixed(first.__class__(**(vars(first) | {"part": part})), update=8)
    third = fixed(loaded_of(env, MEMORY)[2], update=9)
    states = []

    async def check():
        async with application(fixed(first)) as (service, ask):
            name = (await ask("POST", "/sessions")).json["session"]
            body = json.dumps({"obs": obs, "session": name}).encode()
            for policy, update in ((fixed(first), 7), (second, 8), (third, 9)):
                service.policy = policy
                assert (await ask("POST", "/act", body)).json["update"] == update
                states.append(jax.tree.map(np.asarray, service.sessions.find(name).last.carry))

    asyncio.run(check())
    batch = np.asarray(obs, np.float32)[None]
    carry = agent.policy.initial_carry(1)
    for learner_then, start, found in zip(
        (learner, other, learner), (True, False, True), states, strict=True
    ):
        key = jax.random.key(1)
        begun = np.array([start])
        _, carry = agent.policy.act(learner_then, carry, batch, begun, key, greedy=True)
        read = {name: carry[name] for name in found}  # the critic's state decides nothing
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), read, found)


def test_a_policy_with_memory_needs_a_session():
    loaded = made("memory")[-1]

    async def check():
        async with application(fixed(loaded)) as (service, ask):
            example = (await ask("GET", "/example")).json
            assert (await ask("POST", "/act", json.dumps(example).encode())).status == 200
            assert example.pop("session") == "new"
            refused = await ask("POST", "/act", json.dumps(example).encode())
            assert refused.status == 422 and refused.json["field"] == "session"
            assert "POST /sessions gives an id" in refused.json["error"]
            name = (await ask("POST", "/sessions")).json["session"]
            three = {"obs": [example["obs"]] * 3, "session": name}
            assert (await ask("POST", "/act", json.dumps(three).encode())).status == 200
            array = npy(np.zeros((3, *np.shape(example["obs"])), np.float32))
            opened = (await ask("POST", "/act", array, NPY | SESSION)).headers["x-jaxdrl-session"]
            again = await ask("POST", "/act", array, NPY | {"x-jaxdrl-session": opened})
            assert again.status == 200 and "x-jaxdrl-session" not in again.headers
            two = json.dumps({"obs": [example["obs"]] * 2, "session": name}).encode()
            refused = await ask("POST", "/act", two)
            assert refused.status == 422
            assert "obs: has 2 rows, and the session has 3" in refused.json["error"]
            again = {"obs": [example["obs"]] * 2, "session": name, "episode_start": True}
            assert (await ask("POST", "/act", json.dumps(again).encode())).status == 200
            assert len(service.sessions) == 3

    asyncio.run(check())


class Busy(Limits):
    """Limits of a server that is busy with three rows already."""

    max_rows_waiting = 2


@pytest.mark.parametrize("limits", [Limits(max_sessions=2), Busy()])
def test_a_step_that_is_refused_leaves_the_session_as_it_is(limits):
    """For want of room, when an episode of more rows is to begin."""
    loaded = made("memory")[-1]

    async def check():
        async with application(fixed(loaded), limits) as (service, ask):
            obs = (await ask("GET", "/example")).json["obs"]

            async def step(num, **given):
                body = {"obs": [obs] * num, "session": name} | given
                return await ask("POST", "/act", json.dumps(body).encode())

            name = (await ask("POST", "/sessions")).json["session"]
            assert (await step(1)).status == 200
            last = service.sessions.find(name).last
            assert (await step(3, episode_start=True)).status in (429, 503)
            assert service.sessions.find(name).last is last
            assert (await step(3, session="new")).status in (429, 503)
            assert len(service.sessions) == 1
            assert (await step(1)).status == 200
            assert service.sessions.num_rows == 1

    asyncio.run(check())


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_answered(kind):
    loaded = made(kind)[-1]

    async def check():
        async with application(fixed(loaded)) as (_, ask):
            example = await ask("GET", "/example")
            assert (await ask("POST", "/act", example.body)).status == 200

    asyncio.run(check())


def test_a_failing_policy_is_reported_once_and_says_nothing_of_itself():
    loaded = made("continuous")[-1]
    said = []

    class Broken:
        function = loaded.policy.function
        dtypes = loaded.policy.dtypes

        def act(self, *args):
            raise RuntimeError("/secret/path")

    broken = fixed(loaded.__class__(**(vars(loaded) | {"policy": Broken()})))

    async def check():
        async with application(broken, report=said.append) as (service, ask):
            body = b'{"obs": [0, 0, 0]}'
            found = await asyncio.gather(*(ask("POST", "/act", body) for _ in range(3)))
            assert [reply.status for reply in found] == [500] * 3
            assert "secret" not in found[0].body.decode()
            assert (await ask("GET", "/healthz")).status == 200
            service.policy = fixed(loaded)
            assert (await ask("POST", "/act", body)).status == 200

    asyncio.run(check())
    assert said == ["POST /act: RuntimeError('/secret/path')"]
