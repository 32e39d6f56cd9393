"""The policy file is written anew from every so many checkpoints, and nothing ends the training."""

import errno
import os
from pathlib import Path

import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.runs.exports import Exports

RUN = Path("runs") / "x"


class Exported:
    """Takes exports, and fails where it is told to."""

    def __init__(self):
        self.updates, self.error = [], None

    def __call__(self, run_dir, update):
        assert run_dir == RUN
        if self.error is not None:
            raise self.error
        self.updates.append(update)


@pytest.fixture
def exported():
    return Exported()


@pytest.fixture
def warnings():
    return []


@pytest.mark.parametrize(
    ("every", "expected"), [(1, [4, 8, 12, 13, 20]), (2, [8, 13, 20]), (9, [20])]
)
def test_every_so_many_checkpoints_and_the_last_are_exported_once(
    every, expected, exported, warnings
):
    exports = Exports(RUN, every, exported, False, warnings.append)
    exports.finish(None)  # before the first checkpoint
    for update in (4, 8, 12, 13, 20):
        exports.after(update, is_evaluated=update == 12)
    exports.finish(20)
    assert (exported.updates, warnings) == (expected, [])


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (ConfigError("policy: calls a function"), "policy: calls a function"),
        (NotImplementedError(), r"NotImplementedError()"),
    ],
)
def test_what_fails_is_said_once_and_ends_nothing(error, why, exported, warnings):
    exports = Exports(RUN, 1, exported, False, warnings.append)
    exports.after(1, False)
    exported.error = error
    for update in (2, 3, 4):
        exports.after(update, False)
    assert warnings == [
        f"{RUN / 'policy.zip'}: the policy of update 2 was not exported ({why}); training "
        "continues, and the file stays as it is"
    ]
    exported.error = None
    exports.finish(4)
    assert exported.updates == [1, 4]
    (_, again) = warnings
    assert again == (f"{RUN / 'policy.zip'}: can be written again, and has the policy of update 4")


def test_of_members_only_an_evaluation_tells_the_best(exported, warnings):
    exports = Exports(RUN, 1, exported, True, warnings.append)
    for update in range(1, 7):
        exports.after(update, is_evaluated=update % 3 == 0)
    exports.finish(6)
    assert exported.updates == [3, 6]
    (words,) = warnings
    assert words.startswith(f"{RUN / 'policy.zip'}: is written only from checkpoints with an eval")
    assert "that of update 1 has none; give --evaluate-every the value" in words
    exports.after(7, is_evaluated=False)
    exports.finish(7)
    assert exported.updates == [3, 6]
