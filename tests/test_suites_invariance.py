"""One task of each suite: the same bits on any number of devices, and after a checkpoint."""

import pytest

import suite_oracle
from jaxdrl import make

FULLY_OPTIMIZED = True

TASKS = {
    "brax": ("inverted_pendulum", {"max_episode_steps": 3}),
    "craftax": ("Craftax-Classic-Symbolic-v1", {"max_episode_steps": 3}),
    "playground": ("PendulumSwingup", {"max_episode_steps": 3}),
}


@pytest.mark.slow
@pytest.mark.parametrize("suite", TASKS)
def test_a_run_has_the_same_bits_on_any_devices_and_after_a_checkpoint(suite, tmp_path):
    pytest.importorskip({"playground": "mujoco_playground"}.get(suite, suite))
    task, params = TASKS[suite]
    suite_oracle.check_same_bits(make(f"{suite}/{task}", **params), tmp_path)
