"""When a run saves and ends: several processes agree on it, however they are interleaved.

A process here is a generator that yields what it waits for, in the order of `TrainingLoop` and
`run_updates`. A random scheduler chooses which of those that can go on takes its next step. What
holds them together is what holds real ones together: an update needs all processes, so that its
metrics are there once all of them have handed it over.
"""

import random
from functools import partial

import pytest

from jaxdrl.distributed.hosts import Hosts
from jaxdrl.distributed.store import local_store
from jaxdrl.runs import agenda as agendas
from jaxdrl.runs.agenda import Agenda

NUM_PROCESSES, NUM_UPDATES = 3, 9


class World:
    """What the processes of a run share, and what happens to it, drawn from a seed.

    Attributes:
      handed: updates that each process has handed to its devices.
      settled: how often each has settled what it does next.
      evaluating: the evaluations that each has begun.
      signal: the name of a signal that process 0 has received.
    """

    def __init__(self, seed):
        self.random, self.store = random.Random(seed), local_store()
        self.handed, self.settled = [0] * NUM_PROCESSES, [0] * NUM_PROCESSES
        self.evaluating = [[] for _ in range(NUM_PROCESSES)]
        self.signal = None
        self.signal_at = self.random.choice([None, self.random.randrange(200)])
        self.cut_wanted_at = self.random.choice([None, self.random.randrange(1, NUM_UPDATES)])
        self.evaluate_every = self.random.choice([1, 2, 3, NUM_UPDATES])
        self.save_every = self.random.choice([None, 1, 2, 5])
        # Updates whose checkpoint cannot be written: another one is due at once.
        self.unwritten = {u for u in range(NUM_UPDATES) if self.random.random() < 0.3}

    def are_there(self, update):
        """Whether the metrics of an update are."""
        return min(self.handed) >= update

    def all_evaluate(self, update):
        """Whether all have come to the evaluation after an update."""
        return all(update in begun for begun in self.evaluating)

    def run(self):
        """Lets all processes run to their end, and returns them."""
        processes = [Process(self, index) for index in range(NUM_PROCESSES)]
        steps = {process: process.train() for process in processes}
        waits = {process: next(steps[process]) for process in processes}
        eagerness = {process: self.random.choice([0.05, 1, 1]) for process in processes}
        for time in range(100_000):
            if time == self.signal_at:
                self.signal = "SIGTERM"
            able = [process for process in waits if waits[process]()]
            assert able or not waits, f"all wait: {[vars(one) for one in processes]}"
            if not able:
                return processes
            (chosen,) = self.random.choices(able, [eagerness[one] for one in able])
            try:
                waits[chosen] = next(steps[chosen])
            except StopIteration:
                del waits[chosen]
        raise AssertionError("it does not end")


class Process:
    """A process of a run; what it has done is in `did`."""

    def __init__(self, world, index):
        self.world, self.index, self.did = world, index, []
        self.wants_cut, self.saved, self.looked = False, 0, 0
        hosts = Hosts(world.store, index, ["a"] * NUM_PROCESSES)
        self.agenda = Agenda(hosts, self.interrupted_by, lambda: self.wants_cut, self.is_save_due)

    def interrupted_by(self):
        assert self.index == 0  # no other process is asked
        return self.world.signal

    def is_save_due(self, update):
        assert self.index == 0
        every = self.world.save_every
        return every is not None and update // every > self.saved // every

    def is_evaluated(self, update, done):
        is_cut_here = self.agenda.is_cut(update) and update == done
        every = self.world.evaluate_every
        return is_cut_here or (update > 0 and (update % every == 0 or update == NUM_UPDATES))

    def may_settle(self, turn):
        """Whether process 0 has settled so often, for which the others wait."""
        return self.index == 0 or self.world.settled[0] > turn

    def train(self):
        world, done, is_evaluated = self.world, 0, False
        while True:
            yield partial(self.may_settle, world.settled[self.index])
            self.agenda.settle(done)
            world.settled[self.index] += 1
            yield always
            if self.agenda.is_interrupted(done):
                self.did.append(("interrupted", done, self.agenda.decided.end_by))
                return
            if self.is_evaluated(done, done) and not is_evaluated:
                world.evaluating[self.index].append(done)
                yield partial(world.all_evaluate, done)
                self.did.append(("evaluated", done))
                is_evaluated, self.saved = True, done
                continue
            if self.agenda.is_cut(done) or done == NUM_UPDATES:
                self.did.append(("ended", done))
                return
            done = yield from self.advance(done)
            is_evaluated = False

    def advance(self, done):
        world, every, snapshot = self.world, self.world.evaluate_every, None
        self.agenda.begin(done)
        for update in range(done + 1, min((done // every + 1) * every, NUM_UPDATES) + 1):
            yield always
            world.handed[self.index] = update
            if update > done + 1:
                yield partial(world.are_there, update - 1)
                snapshot = self.deliver(update - 1, snapshot)
            yield always
            self.agenda.look(update)
            self.looked = update
            if self.agenda.is_saved(update) and not self.is_evaluated(update, done):
                snapshot = update
            if self.agenda.is_interrupted(update) or self.agenda.is_cut(update):
                break
        yield partial(world.are_there, update)
        self.deliver(update, snapshot)
        return update

    def deliver(self, update, snapshot):
        """Takes the metrics of an update; returns the snapshot that is still to be saved."""
        if snapshot == update:
            self.did.append(("saved", update))
            self.saved = 0 if update in self.world.unwritten else update
            snapshot = None
        self.wants_cut = self.wants_cut or update == self.world.cut_wanted_at
        return snapshot


def always():
    return True


def test_all_processes_do_the_same_however_they_are_interleaved():
    ends, num_saved = set(), 0
    for seed in range(600):
        one, *others = World(seed).run()
        for other in others:
            assert other.did == one.did, seed
        ends.add(one.did[-1][0])
        num_saved += sum(what == "saved" for what, *_ in one.did)
    assert ends == {"interrupted", "ended"}
    assert num_saved > 200


@pytest.mark.parametrize("lead", [0, 1])
def test_a_shorter_lead_would_not_do(monkeypatch, lead):
    monkeypatch.setattr(agendas, "LEAD", lead)
    parted = 0
    for seed in range(300):
        try:
            one, *others = World(seed).run()
        except AssertionError:  # they wait for each other for ever
            parted += 1
            continue
        parted += any(other.did != one.did for other in others)
    assert parted > 10


def test_a_signal_ends_the_run_within_the_lead():
    num_interrupted = 0
    for seed in range(300):
        world = World(seed)
        world.cut_wanted_at = world.signal_at = None
        at = world.random.randrange(NUM_UPDATES)
        process = Process(world, 0)

        def interrupted_by(process=process, world=world, at=at):
            world.signal = "SIGINT" if process.looked >= at else None
            return world.signal

        hosts = Hosts(world.store, 0, ["a"] * 2)
        process.agenda = Agenda(hosts, interrupted_by, bool, process.is_save_due)
        world.handed = [NUM_UPDATES]  # nobody to wait for
        world.evaluating = [[]]
        for _ in process.train():
            pass
        what, update, *by = process.did[-1]
        if what == "interrupted":
            num_interrupted += 1
            assert at <= update <= at + 1 + agendas.LEAD
            assert by == ["SIGINT"]
        else:
            assert update == NUM_UPDATES
            assert at > NUM_UPDATES - 2
    assert num_interrupted > 100


def alone(signals=(), cut=(), due=()):
    """The agenda of a single process, and the update that it is at."""
    at = [0]
    agenda = Agenda(
        Hosts(),
        lambda: "SIGTERM" if at[0] in signals else None,
        lambda: at[0] in cut,
        lambda update: update in due,
    )

    def look(update):
        at[0] = update
        agenda.look(update)
        return agenda.is_saved(update), agenda.is_interrupted(update), agenda.is_cut(update)

    return agenda, look


def test_a_single_process_decides_about_the_update_that_it_looks_at():
    agenda, look = alone(signals=[5], due=[2, 3, 5])
    agenda.settle(0)
    agenda.begin(0)
    found = [look(update) for update in (1, 2, 3, 4, 5)]
    saved = [False, True, True, False, True]
    assert found == [(save, update == 5, False) for update, save in enumerate(saved, start=1)]
    agenda.settle(5)
    assert agenda.decided.end_by == "SIGTERM"
    assert agenda.is_interrupted(5)


def test_a_run_that_is_cut_is_not_interrupted_as_well():
    agenda, look = alone(signals=[4], cut=[3])
    assert [look(update) for update in (1, 3)] == [(False, False, False), (False, False, True)]
    look(4)
    agenda.settle(4)
    assert (agenda.is_cut(4), agenda.is_interrupted(4)) == (True, False)


def test_a_single_process_publishes_nothing():
    agenda, look = alone(signals=[2], due=[1, 2])
    store = agenda.hosts.store
    agenda.settle(0)
    agenda.begin(0)
    look(1)
    look(2)
    agenda.settle(2)
    assert store.all("agenda") == []
    assert store.get("agenda") is None
