"""Reading files of lines as they grow, and columns that do not grow with them."""

import json
import os

import numpy as np
import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.io.line_reader import LineReader, Thinned


class Seen:
    """What a reader hands over, look by look."""

    def __init__(self, path):
        self.num_parsed, self.values = 0, None
        self.reader = LineReader(path, self.parse)

    def parse(self, line, name):
        self.num_parsed += 1
        return json.loads(line)

    def begin(self):
        self.values = []

    def look(self):
        self.reader.read(self.begin, lambda record: self.values.append(record["x"]))
        return self.values


def text(*values):
    return "".join(json.dumps({"x": x, "pad": "-" * 50}) + "\n" for x in values)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lines.jsonl"


def append(path, words):
    with path.open("a") as file:
        file.write(words)


def test_each_line_is_read_once(path):
    seen = Seen(path)
    assert seen.look() == []  # no file yet
    path.write_text(text(*range(100)))
    assert seen.look() == list(range(100))
    assert seen.num_parsed == 100
    assert seen.look() == list(range(100))
    append(path, text(100, 101))
    assert seen.look() == list(range(102))
    assert seen.num_parsed == 102


def test_a_torn_line_is_read_once_it_is_whole(path):
    seen, line = Seen(path), text(2)
    path.write_text(text(1) + line[:10])
    assert seen.look() == [1]
    append(path, line[10:-1])
    assert seen.look() == [1]
    append(path, line[-1:])
    assert seen.look() == [1, 2]


def test_a_line_that_has_no_end_is_refused_before_it_fills_the_memory(path):
    append(path, text(1))
    os.truncate(path, 2**36)  # zeros that no disk holds
    seen = Seen(path)
    with pytest.raises(ConfigError, match="line 2 has no end"):
        seen.look()
    assert seen.values == [1]


def cut(path):
    os.truncate(path, len(text(0, 1)))


def replaced_by_a_longer_one(path):
    path.with_name("new").write_text(text(*range(70, 80)))
    path.with_name("new").replace(path)


def written_anew_in_place(path):
    path.write_text(text(*range(70, 80)))


def written_anew_to_the_same_length(path):
    path.write_text(text(5, 6, 7))


@pytest.mark.parametrize(
    ("change", "values"),
    [
        (cut, [0, 1]),
        (replaced_by_a_longer_one, list(range(70, 80))),
        (written_anew_in_place, list(range(70, 80))),
        (written_anew_to_the_same_length, [5, 6, 7]),
        (os.unlink, []),
    ],
)
def test_a_file_that_is_another_is_read_from_its_start(path, change, values):
    seen = Seen(path)
    path.write_text(text(0, 1, 2))
    assert seen.look() == [0, 1, 2]
    change(path)
    assert seen.look() == values
    append(path, text(9))
    assert seen.look() == [*values, 9]


def test_a_line_that_is_refused_is_named_and_refused_again(path):
    def parse(line, name):
        if line == b"bad\n":
            raise ValueError(name)
        return json.loads(line)

    path.write_text(text(0) + "bad\n")
    reader = LineReader(path, parse)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"lines\.jsonl: line 2$"):
            reader.read(list, lambda record: None)


@pytest.mark.parametrize("num_lines", [1, 7, 8, 9, 100, 1000])
def test_rows_are_weighted_means_over_equal_numbers_of_lines(num_lines):
    rng = np.random.default_rng(num_lines)
    values = rng.normal(size=(num_lines, 2))
    values[rng.random((num_lines, 2)) < 0.5] = np.nan
    weights = rng.integers(0, 4, (num_lines, 2)).astype(float)
    thinned = Thinned(max_rows=8)
    for i in range(num_lines):
        thinned.add((i,), values[i].tolist(), weights[i].tolist())
    size = thinned.lines_per_row
    groups = [slice(i, i + size) for i in range(0, num_lines, size)]
    assert len(groups) <= 8 < 2 * max(len(groups), 5)
    np.testing.assert_array_equal(
        thinned.where(0), [min(i + size, num_lines) - 1 for i in range(0, num_lines, size)]
    )
    for column in (0, 1):
        found = zip(thinned.values(column), thinned.weights(column), groups, strict=True)
        for mean, total, group in found:
            there = np.isfinite(values[group, column])
            weight = np.where(there, weights[group, column], 0.0)
            assert total == weight.sum()
            if total:
                wanted = np.average(np.nan_to_num(values[group, column]), weights=weight)
                assert mean == pytest.approx(wanted, rel=1e-12)
