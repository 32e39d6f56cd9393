"""JSON as runs write and read it."""

import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import (
    parse_line,
    read_lines,
    read_object,
    read_sealed,
    write_json,
    write_sealed,
)


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


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": {1, 2}})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


# Reading

WORKS = "put it back"
DAMAGED = {
    "empty": b"",
    "cut": b'{"a": 1',
    "more": b'{"a": 1} x',
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte-order mark": b'\xef\xbb\xbf{"a": 1}',
    "NUL": b'{"a": 1}\0',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "large float": b'{"a": 1e999}',
    "large integer": b'{"a": ' + b"9" * 400 + b"}",
    "larger integer": b'{"a": ' + b"9" * 5000 + b"}",
    "list": b"[1]",
    "number": b"3",
    "null": b"null",
    "nested": b'{"a":' * 100 + b"1" + b"}" * 100,
    "nested deeply": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


def refused(function, *args):
    with pytest.raises(ConfigError) as caught:
        function(*args)
    return str(caught.value)


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path, data):
    path = tmp_path / "config.json"
    path.write_bytes(data)
    message = refused(read_object, path, WORKS)
    is_object = data not in (b"[1]", b"3", b"null")
    words = "is not JSON" if is_object else "is not a JSON object; "
    assert message.startswith(f"{path}: {words}")
    assert message.endswith(f"; {WORKS}")
    assert len(message) < 300 + len(str(path))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda path: None,
    ],
    ids=["directory", "pipe", "device", "loop", "missing"],
)
def test_what_is_no_file_is_refused_with_what_to_do(tmp_path, make):
    path = tmp_path / "config.json"
    make(path)
    message = refused(read_object, path, WORKS)
    assert message.startswith(f"{path}: cannot be read (")
    assert message.endswith(f"); {WORKS}")


def any_object(line, name):
    return parse_line(line, name, WORKS, lambda record: None)


def one_alone(line, name):
    return parse_line(line, name, WORKS, lambda r: None if r["a"] == 1 else "has no 1")


def test_lines_are_refused_one_by_one_and_a_torn_last_one_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_lines(path, any_object) == []
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": ')
    assert read_lines(path, any_object) == [{"a": 1}, {"a": 2}]
    message = refused(read_lines, path, one_alone)
    assert message == f"{path}: line 2 has no 1; {WORKS}"
    for name, data in DAMAGED.items():
        if b"\n" in data or name == "nested":
            continue
        path.write_bytes(b'{"a": 1}\n' + data + b"\n")
        message = refused(read_lines, path, any_object)
        assert message.startswith(f"{path}: line 2 is not "), name


# Sealed files

CONTENT = {"run": "x", "n": np.int64(3), "rate": 0.125, "nested": {"b": [1, None], "a": True}}


def test_a_sealed_file_comes_back_whatever_its_layout(tmp_path):
    path = tmp_path / "config.json"
    write_sealed(path, CONTENT)
    content = read_sealed(path, WORKS)
    seal = content.pop("sha256")
    assert content == {**CONTENT, "n": 3}
    path.write_text(json.dumps(dict(reversed([*content.items(), ("sha256", seal)]))))
    assert read_sealed(path, WORKS) == {**content, "sha256": seal}


def test_any_change_of_a_sealed_file_is_refused(tmp_path):
    path = tmp_path / "config.json"
    write_sealed(path, CONTENT)
    whole = path.read_text()
    changes = [('"x"', '"y"'), ("3,", "5,"), ("0.125", "0.126"), ("null", "0"), ("true", "1")]
    changes += [('"b"', '"c"'), ('"sha256"', '"sha1"'), ('"nested"', '"more": 1, "nested"')]
    for old, new in changes:
        changed = whole.replace(old, new, 1)
        assert changed != whole
        path.write_text(changed)
        message = refused(read_sealed, path, WORKS)
        assert message.startswith(f"{path}: was changed after it was written")
        assert message.endswith(f"; {WORKS}")
