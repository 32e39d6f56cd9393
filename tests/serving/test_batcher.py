"""Questions that come while the policy acts are answered together by its next call."""

import asyncio
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from jaxdrl.serving.batcher import Batcher
from jaxdrl.serving.refusals import RefusedError


class Doubling:
    """A policy whose action is twice the observation; it acts when it may."""

    def __init__(self):
        self.may_act, self.batches = threading.Event(), []
        self.error = None

    def act(self, part, obs, carry, start):
        assert self.may_act.wait(10)
        self.batches.append(obs.tolist())
        if self.error is not None:
            raise self.error
        return 2 * obs, carry + 1

    def version(self, update):
        return SimpleNamespace(policy=self, part=None, version=update)


def run(check, max_rows=100, max_waiting=1000):
    """Runs `check(policy, asks the batcher for rows, batcher)`."""

    async def inner():
        policy, sizes = Doubling(), []
        loop = asyncio.get_running_loop()
        batcher = Batcher(loop, max_rows, max_waiting, sizes.append)
        first = policy.version(1)

        def ask(*rows, loaded=first):
            obs, num = np.array(rows), len(rows)
            return batcher.ask(loaded, obs, num, np.zeros(num), np.zeros(num, bool))

        try:
            await check(policy, ask)
            assert sizes == [len(batch) for batch in policy.batches]
        finally:
            policy.may_act.set()
            batcher.close()

    asyncio.run(inner())


async def begin(policy):
    """Lets the loop go on until the policy is asked."""
    await asyncio.sleep(0.05)


def test_the_next_batch_is_what_came_meanwhile():
    async def check(policy, ask):
        futures = [ask(0)]
        await begin(policy)
        futures += [ask(i, i + 10) for i in range(1, 4)]
        await begin(policy)
        assert not any(future.done() for future in futures)
        policy.may_act.set()
        found = await asyncio.gather(*futures)
        assert [decision.action.tolist() for decision in found] == [[0], [2, 22], [4, 24], [6, 26]]
        assert [decision.carry.tolist() for decision in found] == [[1], [1, 1], [1, 1], [1, 1]]
        assert policy.batches == [[0], [1, 11, 2, 12, 3, 13]]

    run(check)


def test_a_batch_is_of_one_version_and_each_answer_names_its_own():
    async def check(policy, ask):
        other = policy.version(2)
        futures = [ask(0)]
        await begin(policy)
        futures += [ask(1), ask(2, loaded=other), ask(3, loaded=other), ask(4)]
        policy.may_act.set()
        found = await asyncio.gather(*futures)
        assert [decision.version for decision in found] == [1, 1, 2, 2, 1]
        assert policy.batches == [[0], [1], [2, 3], [4]]

    run(check)


def test_batches_have_a_largest_size_but_for_one_question_of_more_rows():
    async def check(policy, ask):
        futures = [ask(*range(7)), ask(7), ask(8, 9), ask(10, 11), ask()]
        policy.may_act.set()
        found = await asyncio.gather(*futures)
        assert policy.batches == [list(range(7)), [7, 8, 9], [10, 11]]
        assert found[-1].action.shape == (0,)

    run(check, max_rows=3)


def test_more_rows_than_may_wait_are_refused():
    async def check(policy, ask):
        futures = [ask(0)]
        await begin(policy)
        futures += [ask(1, 2), ask(3)]
        with pytest.raises(RefusedError) as caught:
            ask(4)
        assert caught.value.status == 503 and (b"retry-after", b"1") in caught.value.headers
        policy.may_act.set()
        await asyncio.gather(*futures)
        await ask(5, 6, 7)

    run(check, max_waiting=3)


def test_an_error_reaches_those_whose_batch_it_is_and_the_next_works():
    async def check(policy, ask):
        policy.error = RuntimeError("broken")
        policy.may_act.set()
        found = await asyncio.gather(ask(1), ask(2), return_exceptions=True)
        assert found == [policy.error, policy.error]
        policy.error = None
        assert (await ask(3)).action.tolist() == [6]

    run(check)


def test_one_who_does_not_wait_any_more_disturbs_nobody():
    async def check(policy, ask):
        gone, stays = ask(1), ask(2)
        await begin(policy)
        gone.cancel()
        policy.may_act.set()
        assert (await stays).action.tolist() == [4]
        assert (await ask(3)).action.tolist() == [6]

    run(check)


def test_the_loop_goes_on_while_the_policy_acts():
    async def check(policy, ask):
        future, longest, last = ask(1), 0.0, time.perf_counter()
        while last < future_until:
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        assert not future.done() and longest < 0.25
        policy.may_act.set()
        await future

    future_until = time.perf_counter() + 0.5
    run(check)
