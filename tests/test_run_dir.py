"""The files of a run directory, its one writer, and its config read back."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.config import ConfigError
from jaxdrl.run_dir import make_run_dir, require_free, write_json


def test_json_is_written_with_null_for_what_is_not_finite(tmp_path):
    path = tmp_path / "result.json"
    content = {"a": math.nan, "b": [1, math.inf, {"c": -math.inf}], "d": (0.1, "x", None, True)}
    write_json(path, content)
    assert path.read_text().endswith("}\n")
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "a": None,
        "b": [1, None, {"c": None}],
        "d": [0.1, "x", None, True],
    }


def test_json_takes_scalars_of_numpy_and_jax(tmp_path):
    path = tmp_path / "config.json"
    content = {"n": np.int64(8), "x": np.float32(0.5), "y": jnp.float32(0.25), "b": np.True_}
    write_json(path, content | {"nan": np.float32(math.nan)})
    expected = {"n": 8, "x": 0.5, "y": 0.25, "b": True, "nan": None}
    assert json.loads(path.read_text()) == expected


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "result.json"])
def test_an_occupied_directory_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError) as caught:
        require_free(tmp_path)
    assert str(caught.value) == (
        f"run_dir = {str(tmp_path)!r}: already holds a run ({name}), which is not overwritten; "
        "name another directory, or remove this one"
    )
    assert (tmp_path / name).read_text() == "mine"


def test_a_free_directory_may_exist_and_hold_other_files(tmp_path):
    require_free(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "notes.txt").write_text("mine")
    require_free(tmp_path)
    make_run_dir(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_directory_is_made_with_its_parents(tmp_path):
    make_run_dir(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for run_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        require_free(run_dir)
        with pytest.raises(ConfigError) as caught:
            make_run_dir(run_dir)
        start = f"run_dir = {str(run_dir)!r}: cannot be written ("
        assert str(caught.value).startswith(start)
        assert str(caught.value).endswith("); name a directory that can")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_directory_that_cannot_be_looked_into_is_refused(tmp_path):
    # Without leave to search the directory above, stat fails in the same way.
    with pytest.raises(ConfigError, match=r"^run_dir = .*: cannot be (read|written) \("):
        require_free(tmp_path / ("x" * 300))
