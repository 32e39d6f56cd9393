"""Which process is slow, and which one is to blame if nothing happens any more."""

import subprocess
import sys

import pytest

from jaxdrl.distributed.judge_processes import slow, stuck


def report(process, **fields):
    """A process that trains, the last of two updates on its devices."""
    common = {"pid": 100 + process, "phase": "updating", "dispatched": 12, "completed": 11}
    common |= {"own_seconds": 0.002, "memory_bytes": 1, "idle_seconds": 0.1}
    return {"process": process, "host": "ab"[process // 2], **common, **fields}


def reports(**fields):
    """Four processes on two hosts; a field is one value for all, or a tuple of one for each."""
    each = {name: x if isinstance(x, tuple) else (x,) * 4 for name, x in fields.items()}
    return [report(i, **{name: values[i] for name, values in each.items()}) for i in range(4)]


def test_the_one_that_takes_longer_is_slow_and_named_with_what_it_costs():
    (found,) = slow(reports(own_seconds=(0.002, 0.002, 0.052, 0.003)))
    assert (found.process, found.own_seconds, found.others) == (2, 0.052, 0.002)
    assert found.why == (
        "process 2 on host b spends 52 ms of each update outside the wait for its devices, "
        "the others 2 ms"
    )


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ((0.002, 0.002, 0.002, 0.002), []),
        ((0.002, 0.002, 0.0115, 0.002), []),  # many times as long, and not by 10 ms
        ((0.100, 0.100, 0.130, 0.100), []),  # by 30 ms, and not 1.5 times as long
        ((0.100, 0.100, 0.160, 0.100), [2]),
        ((0.002, 0.052, 0.052, 0.002), [1, 2]),
        ((0.052, 0.052, 0.052, 0.002), []),  # so do most: it is no fault of theirs
        ((0.002, None, 0.052, None), [2]),
        ((None, None, 0.052, None), []),  # nobody to compare with
    ],
)
def test_slow_is_well_above_the_median_of_the_others(own, named):
    assert [found.process for found in slow(reports(own_seconds=own))] == named


def test_of_two_the_slower_one_is_named():
    first, second = report(0), report(1, own_seconds=0.03)
    (found,) = slow([first, second])
    assert found.process == 1
    assert found.why.endswith(
        "30 ms of each update outside the wait for its devices, the other 2 ms"
    )
    assert slow([first]) == slow([]) == []


def test_a_process_without_an_update_is_no_measure_for_the_others():
    some = reports(own_seconds=(0.05, 0.0, 0.0, 0.05), completed=(11, 0, 0, 11))
    assert slow(some) == []


def test_the_one_that_has_dispatched_the_fewest_is_stuck():
    """The others have given their devices all they may, and wait for its part."""
    found = stuck(reports(dispatched=(14, 14, 14, 12), idle_seconds=(31, 30.5, 32, 33.4)), 30)
    assert found.process == 3
    assert found.why == (
        "process 3 on host b is stuck: updating, without progress for 33 s; dispatched 12 updates, "
        "while others have dispatched 14"
    )


@pytest.mark.parametrize(
    ("phases", "process"),
    [
        (("evaluating", "updating", "updating", "updating"), 0),
        (("saving", "saving", "updating", "saving"), 2),
        (("updating", "updating", "saving", "ending"), 2),
        (("ending", "ending", "updating", "ending"), 2),
        (("updating", "ending", "updating", "updating"), 0),  # who ends waits for all others
    ],
)
def test_of_as_many_updates_the_one_in_another_phase_is_stuck(phases, process):
    found = stuck(reports(phase=phases, idle_seconds=15), 10)
    assert found.process == process
    assert f"process {process} on host {'aabb'[process]} " in found.why
    assert f"stuck: {phases[process]}, without progress for 15 s" in found.why


def test_of_two_processes_the_one_that_cannot_be_waiting_is_stuck():
    for other in ("evaluating", "saving"):
        pair = [report(0, idle_seconds=20), report(1, phase=other, idle_seconds=20)]
        assert stuck(pair, 10).process == stuck(pair[::-1], 10).process == 1
    pair = [report(0, idle_seconds=20), report(1, phase="ending", idle_seconds=20)]
    assert stuck(pair, 10).process == 0


def test_fewer_updates_weigh_more_than_the_phase():
    some = reports(
        dispatched=(13, 13, 13, 12), phase=("saving", "updating", "updating", "updating")
    )
    assert stuck(some, 0.05).process == 3


def test_among_those_with_the_fewest_updates_the_phase_decides():
    some = reports(
        dispatched=(12, 14, 12, 12), phase=("updating", "updating", "saving", "updating")
    )
    assert stuck(some, 0.05).process == 2


def test_several_to_blame_are_all_named():
    found = stuck(reports(dispatched=(14, 12, 12, 14), idle_seconds=20), 10)
    assert found.process == 1
    assert found.why.startswith("process 1 on host a and process 2 on host b are stuck: updating")


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("updating", "every process waits for its devices, look at a device or the network"),
        ("saving", "look at the file system"),
    ],
)
def test_if_all_stand_at_the_same_point_no_process_is_blamed(phase, words):
    found = stuck(reports(phase=phase, idle_seconds=20.4), 10)
    assert found.process is None
    assert found.why.startswith(f"all processes are {phase}, without progress for 20 s after 12 ")
    assert found.why.endswith(words)


@pytest.mark.parametrize("phase", ["starting", "compiling"])
def test_nobody_is_stuck_while_one_starts_or_compiles(phase):
    some = reports(phase=("updating", "updating", phase, "updating"), idle_seconds=500)
    assert stuck(some, 10) is None


def test_nobody_is_stuck_while_anything_changes():
    some = reports(dispatched=(14, 14, 14, 12), idle_seconds=(30, 30, 30, 9.9))
    assert stuck(some, 10) is None
    assert stuck([], 10) is None


def test_it_needs_no_jax():
    code = "import sys, jaxdrl.distributed.judge_processes, jaxdrl.runs.processes_file; "
    code += "sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
