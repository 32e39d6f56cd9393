"""Populations under the users' compiler flags, by which equal bits are promised."""

import dataclasses
import re

import numpy as np
import pytest

from jaxdrl.populations import member
from test_populations import (
    MESHES,
    NUM_MEMBERS,
    alone,
    assert_same_bits,
    check_fast_mode,
    together,
)

FULLY_OPTIMIZED = True

SLOW = pytest.mark.slow
SLOW_ONES = [pytest.param(name, marks=SLOW) for name in ("8x1", "1x8")]


@pytest.mark.parametrize("name", ["none", "4x2", *SLOW_ONES])
def test_a_member_has_the_bits_of_its_run_alone_in_reproducible_mode(name):
    state = together(name, True)[0]
    for i in range(NUM_MEMBERS):
        own = member(state, i)
        learnt = dataclasses.replace(own.learner, hyperparams=())  # which its config has alone
        assert_same_bits(dataclasses.replace(own, learner=learnt), alone(True)[i])


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_a_member_is_its_run_alone_to_rounding_in_fast_mode(name):
    check_fast_mode(name)


@pytest.mark.parametrize("name", ["4x2", *SLOW_ONES])
def test_exchanges_have_the_same_bits_on_any_mesh(name):
    state, parents = together("none", True)[1:3]
    own = list(range(NUM_MEMBERS))
    assert [p == own for p in parents] == [True, False, True, False]
    assert together(name, True)[2] == parents
    assert_same_bits(together(name, True)[1], state)


def groups_of(program):
    """`(line, devices that one collective joins)` of every collective of a compiled program."""
    found = []
    for line in program.splitlines():
        if not re.search(
            r" (all-reduce|all-gather|all-to-all|collective-permute)(-start)?\(", line
        ):
            continue
        iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line)
        listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
        if iota:
            rows, columns, shape, order = iota.groups()
            ids = np.arange(int(rows) * int(columns)).reshape([int(n) for n in shape.split(",")])
            ids = ids.transpose([int(n) for n in order.split(",")]) if order else ids
            found.append((line, ids.reshape(int(rows), int(columns))[0].tolist()))
        else:
            found.append((line, [int(n) for n in listed.group(1).split(",")]))
    return found


@pytest.mark.parametrize("reproducible", [pytest.param(False, marks=SLOW), True])
def test_nothing_crosses_the_population_axis_but_an_exchange(reproducible):
    found = groups_of(together("4x2", reproducible)[3].as_text())
    along_data = [line for line, devices in found if devices == [0, 1]]
    across = [line for line, devices in found if devices != [0, 1]]
    assert along_data and across
    assert [line for line in across if "exchange" not in line] == []
    assert [line for line in along_data if "exchange" in line] == []
