"""What a policy acts by, found by tracing it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.analysis.policy_inputs import Unread, alone, drop, drop_results, export_of, find_unread

OBS = {"own": 2, "state": 3}
CARRY = {"actor": 2, "critic": 3}


def shapes(*names):
    """Of arguments, with one row."""
    dicts = [
        {name: jax.ShapeDtypeStruct((1, n), jnp.float32) for name, n in x.items()} for x in names
    ]
    return (*dicts, jax.ShapeDtypeStruct((1,), jnp.bool)) if len(dicts) > 1 else tuple(dicts)


def by_itself(obs, carry, start):
    """Memories of actor and critic, neither of which reads the other's."""
    actor = jnp.where(start[:, None], 0.0, carry["actor"]) + obs["own"]
    return actor.sum(axis=1), {"actor": actor, "critic": carry["critic"] + obs["state"]}


def by_the_other(obs, carry, start):
    """Here the critic's memory decides the action after the next one."""
    action, after = by_itself(obs, carry, start)
    return action, after | {"actor": after["actor"] + carry["critic"][:, :2]}


@pytest.mark.parametrize(
    ("policy", "given", "unread"),
    [
        (lambda obs: (obs["own"][:, 0],), (OBS,), Unread(("state",))),
        (lambda obs: (obs["own"][:, 0] + obs["state"][:, 1],), (OBS,), Unread()),
        (lambda obs: (jnp.ones(obs["own"].shape[0]),), (OBS,), Unread()),  # all would be left out
        (by_itself, (OBS, CARRY), Unread(("state",), ("critic",))),
        (by_the_other, (OBS, CARRY), Unread()),
    ],
)
def test_what_decides_no_action_is_found(policy, given, unread):
    assert find_unread(policy, shapes(*given)) == unread


def test_the_rest_acts_as_all_of_it():
    given, unread = shapes(OBS, CARRY), Unread(("state",), ("critic",))
    function = alone(by_itself, given, unread)
    program = export_of(function, drop(unread, given), unread, ("cpu",))
    assert len(program.module_kept_var_idx) == len(program.in_avals) == 3
    rng = np.random.default_rng(0)
    obs, carry = (
        {name: rng.normal(size=(1, n)).astype(np.float32) for name, n in dims.items()}
        for dims in (OBS, CARRY)
    )
    for start in (False, True):
        args = obs, carry, np.array([start])
        action, after = drop_results(unread, by_itself(*args))
        found_action, found_after = program.call(*drop(unread, args))
        np.testing.assert_array_equal(action, found_action)
        assert list(found_after) == ["actor"]
        np.testing.assert_array_equal(after["actor"], found_after["actor"])
