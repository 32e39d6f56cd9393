"""Which sizes of whole rollouts fit each other; `test_ppo.py` has those of single steps."""

import re

import pytest

from jaxdrl import IMPALAConfig, with_settings
from jaxdrl.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "field", "works"),
    [
        ({"num_minibatches": 5}, "num_minibatches", "num_envs / num_shards = 32; .* 4 or 8"),
        ({"num_envs": 100}, "num_envs", "multiple of num_shards = 8; .* 64 or 128"),
        (
            {"num_accumulation_steps": 3},
            "num_accumulation_steps",
            "must divide num_envs / num_shards / num_minibatches = 4; .* 2 or 4",
        ),
        ({"num_steps": 2**31}, "num_steps", "at most 8388607 with num_envs = 256"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_those_that_do(changes, field, works):
    with pytest.raises(ConfigError, match=rf"^{field} = .*{works}"):
        with_settings(IMPALAConfig(), **changes)
    named = re.findall(r"\d+", works.rpartition("* ")[2])
    for number in named if ".*" in works else ():
        with_settings(IMPALAConfig(), **{field: int(number)})
