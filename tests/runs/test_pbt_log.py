"""Lines of exchanges, and what they replay to."""

import errno
import json
import os

import numpy as np
import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.runs.pbt_log import Lineage, read, replay
from jaxdrl.runs.run_dir import LINEAGE_FILE


def metrics(parent, rates):
    return {"members/parent": np.array(parent), "members/rate": np.array(rates, np.float32)}


def test_a_line_for_every_exchange_and_none_between(tmp_path):
    hook = Lineage(tmp_path, ["rate"], every=2)
    for update in range(1, 6):
        hook(update, metrics([0, 0], [1.0, update]))
    lines = read(tmp_path)
    assert [line["update"] for line in lines] == [2, 4]
    assert lines[1] == {"update": 4, "parent": [0, 0], "hyperparams": {"rate": [1.0, 4.0]}}


def test_lines_that_will_come_again_are_dropped_with_a_torn_one(tmp_path):
    hook = Lineage(tmp_path, ["rate"], every=1)
    for update in range(1, 4):
        hook(update, metrics([0, 1], [1.0, 2.0]))
        if update == 2:
            snapshot = hook.file.snapshot()
    path = tmp_path / LINEAGE_FILE
    path.write_text(path.read_text() + '{"update": 4, "par')
    Lineage(tmp_path, ["rate"], every=1).file.restore(snapshot)
    assert [json.loads(line)["update"] for line in path.read_text().splitlines()] == [1, 2]


DAMAGED = [
    b"{",
    b"[]",
    b"3",
    b"\xff",
    b"{}",
    b'{"update": 0, "parent": [0], "hyperparams": {}}',
    b'{"update": "1", "parent": [0], "hyperparams": {}}',
    b'{"update": true, "parent": [0], "hyperparams": {}}',
    b'{"update": 1, "parent": [], "hyperparams": {}}',
    b'{"update": 1, "parent": [2, 0], "hyperparams": {}}',
    b'{"update": 1, "parent": [0.5], "hyperparams": {}}',
    b'{"update": 1, "parent": 0, "hyperparams": {}}',
    b'{"update": 1, "parent": [0], "hyperparams": []}',
    b'{"update": 1, "parent": [0], "hyperparams": {"rate": ["x"]}}',
    b'{"update": 1, "parent": [0], "hyperparams": {"rate": [1, 2]}}',
    b'{"update": 1, "parent": [0], "hyperparams": {"rate": [NaN]}}',
    b'{"update": 1, "parent": [0], "hyperparams": {"rate": [' + b"9" * 400 + b"]}}",
    b"[" * 100_000,
]


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_is_refused_by_its_number(tmp_path, line):
    good = b'{"update": 1, "parent": [0], "hyperparams": {"rate": [1.0]}}'
    (tmp_path / LINEAGE_FILE).write_bytes(good + b"\n" + line + b"\n")
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / LINEAGE_FILE}: line 2 ")
    assert "\n" not in str(caught.value)


def test_a_full_disk_stops_no_run_and_the_lines_come_later(tmp_path, monkeypatch):
    warnings = []
    hook = Lineage(tmp_path, ["rate"], every=1, warn=warnings.append)
    hook(1, metrics([0, 1], [1.0, 2.0]))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        hook(2, metrics([0, 1], [1.0, 2.0]))
    (warning,) = warnings
    assert "lineage.jsonl could not be written" in warning
    hook(3, metrics([0, 1], [1.0, 2.0]))
    assert [line["update"] for line in read(tmp_path)] == [1, 2, 3]


def lines_of(*pairs):
    return [
        {"update": i, "parent": parent, "hyperparams": {"rate": rates}}
        for i, (parent, rates) in enumerate(pairs, start=1)
    ]


def test_a_replay_follows_what_was_taken_over():
    first = {"rate": np.array([1.0, 2.0]), "gamma": np.array([0.5, 0.75])}
    history = replay(first, lines_of(([0, 0], [1.0, 1.5]), ([1, 1], [3.0, 1.5])))
    assert history["rate"].tolist() == [[1.0, 2.0], [1.0, 1.5], [3.0, 1.5]]
    assert history["gamma"].tolist() == [[0.5, 0.75], [0.5, 0.5], [0.5, 0.5]]


def test_a_change_without_a_parent_is_found():
    with pytest.raises(ConfigError, match="update 1: rate changed where nothing was copied"):
        replay({"rate": np.array([1.0, 2.0])}, lines_of(([0, 0], [1.5, 1.0])))
