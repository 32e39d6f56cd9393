"""What is not finite in a checkpoint is refused, and the last one that is finite named."""

import jax
import numpy as np
import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint, finite_states


def state(*scales):
    """That of as many members as there are scales; of one agent where there is one."""
    scale = np.float32(scales)[:, None]
    learner = {
        "num_updates": np.zeros(len(scales), np.int32),
        "params": {"kernel": scale * np.ones((1, 3), np.float32)},
        "opt_state": {"best": np.full(len(scales), np.inf, np.float32)},
    }
    found = {"learner": learner, "actor": np.full((2,), np.inf, np.float32)}
    return found if len(scales) > 1 else {**found, "learner": jax.tree.map(lambda x: x[0], learner)}


def save(directory, update, *scales):
    one = state(*scales)
    arrays, described = checkpoint.to_host(one), checkpoint.describe(one)
    return checkpoint.write(directory, update, arrays, described, {})


def load(path, *scales, member=None):
    return finite_states.load(path, jax.eval_shape(lambda: state(*scales)), "this", member)


def test_what_is_finite_is_loaded(tmp_path):
    path = save(tmp_path, 1, 2.0)
    assert load(path, 1.0)["learner"]["params"]["kernel"].tolist() == [2.0] * 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_last_finite_one_is_named(tmp_path, bad):
    save(tmp_path, 1, 1.0)
    save(tmp_path, 2, 1.0)
    save(tmp_path, 3, bad)
    path = save(tmp_path, 4, bad)
    with pytest.raises(ConfigError) as caught:
        load(path, 1.0)
    assert str(caught.value) == (
        f"{path}: the learner in it is not finite: learner/params/kernel holds NaN or infinity; "
        "the last one beside it that is finite is that of update 2"
    )
    alone = save(tmp_path / "alone", 1, bad)
    with pytest.raises(ConfigError, match=r"; no other checkpoint beside it is finite$"):
        load(alone, 1.0)


def test_a_member_that_is_not_finite_stops_no_other(tmp_path):
    save(tmp_path, 1, 1.0, 1.0)
    path = save(tmp_path, 2, 1.0, np.nan)
    assert np.isnan(load(path, 1.0, 1.0)["learner"]["params"]["kernel"][1]).all()
    load(path, 1.0, 1.0, member=0)
    with pytest.raises(
        ConfigError, match=r"the learner of member 1 in it is not finite.* update 1"
    ):
        load(path, 1.0, 1.0, member=1)
    with pytest.raises(ConfigError, match="the learner in it is not finite"):
        load(save(tmp_path, 3, np.nan, np.nan), 1.0, 1.0)
