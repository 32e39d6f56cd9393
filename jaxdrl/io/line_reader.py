"""Files of one JSON object a line that are still written: each line is read once, as it comes.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxdrl.errors import ConfigError
from jaxdrl.io.safe_files import open_existing

MAX_ROWS = 4096
"""Of a history, however long the run is: pictures and terminals show fewer."""

MAX_LINE = 2**26
"""Bytes of a line at most; those of a thousand members take some hundred kilobytes."""

NUM_REMEMBERED = 256
"""Bytes before the place that was read up to, by which a file that was written anew is known."""


@dataclass
class LineReader:
    """Where the reading of a file stands; a line without its end is left for the next time.

    Attributes:
      path: of the file, which may not be there yet.
      parse: `(line, name) -> record` of a whole line; the name says which it is.
    """

    path: Path
    parse: Callable[[bytes, str], dict[str, Any]]
    offset: int = 0
    num_lines: int = 0
    file_id: tuple[int, int] | None = None
    last_bytes: bytes = b""

    def read(self, begin: Callable[[], Any], add: Callable[[dict[str, Any]], Any]) -> None:
        """Hands the lines that are new to `add`.

        Args:
          begin: called before them where they are all lines of the file: the first time, and when
            it was cut, replaced or written anew.
          add: takes a record.

        Raises:
          ConfigError: from `parse`, for a damaged line; or if the file cannot be read.
        """
        try:
            file = open_existing(self.path)
        except FileNotFoundError:
            self._rewind(None, begin)
            return
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be read ({error.strerror}); put back what was there"
            ) from error
        with file:
            status = os.fstat(file.fileno())
            file_id = status.st_dev, status.st_ino
            if file_id != self.file_id or not self._goes_on(file):
                self._rewind(file_id, begin)
            file.seek(self.offset)
            while (line := file.readline(MAX_LINE)).endswith(b"\n"):
                record = self.parse(line, f"{self.path}: line {self.num_lines + 1}")
                self.offset += len(line)
                self.num_lines += 1
                self.last_bytes = line[-NUM_REMEMBERED:]
                add(record)
            if len(line) == MAX_LINE:
                raise ConfigError(
                    f"{self.path}: line {self.num_lines + 1} has no end; put back what was there"
                )

    def _goes_on(self, file: BinaryIO) -> bool:
        """Whether what was read before is still there, or its end at least."""
        file.seek(self.offset - len(self.last_bytes))
        return file.read(len(self.last_bytes)) == self.last_bytes

    def _rewind(self, file_id: tuple[int, int] | None, begin: Callable[[], Any]) -> None:
        self.offset, self.num_lines, self.file_id, self.last_bytes = 0, 0, file_id, b""
        begin()


@dataclass
class Row:
    """What a few lines in a row come to.

    Attributes:
      where: where the last of them is, such as its steps.
      values: weighted means, NaN where no line has a number.
      weights: of the means, 0 there.
      num_lines: how many lines.
    """

    where: tuple[float, ...]
    values: tuple[float, ...]
    weights: tuple[float, ...]
    num_lines: int = 1

    def merge(self, later: Row) -> Row:
        """The row of both."""
        weights = tuple(map(sum, zip(self.weights, later.weights, strict=True)))
        both = zip(self.values, self.weights, later.values, later.weights, strict=True)
        values = tuple(
            second if w == 0 else first if v == 0 else (first * w + second * v) / (w + v)
            for first, w, second, v in both
        )
        return Row(later.where, values, weights, self.num_lines + later.num_lines)


@dataclass
class Thinned:
    """Columns of numbers over the lines of a file of any length, in at most `max_rows` rows.

    A row is one line, and means over 2, 4, 8 ... lines where there are more lines than rows.
    """

    max_rows: int = MAX_ROWS
    lines_per_row: int = 1
    rows: list[Row] = field(default_factory=list)

    def add(
        self, where: Sequence[float], values: Sequence[float], weights: Sequence[float]
    ) -> None:
        """Adds a line; a value of weight 0 or NaN is none."""
        there = tuple(
            w if v == v else 0.0  # which NaN is not
            for v, w in zip(values, weights, strict=True)
        )
        row = Row(tuple(where), tuple(values), there)
        if self.rows and self.rows[-1].num_lines < self.lines_per_row:
            self.rows[-1] = self.rows[-1].merge(row)
            return
        if len(self.rows) == self.max_rows:
            pairs = zip(self.rows[::2], self.rows[1::2], strict=True)
            self.rows = [first.merge(second) for first, second in pairs]
            self.lines_per_row *= 2
        self.rows.append(row)

    def where(self, index: int) -> np.ndarray:
        """Where the rows end, float64 `[rows]`."""
        return np.array([row.where[index] for row in self.rows], np.float64)

    def values(self, index: int) -> np.ndarray:
        """A column, float64 `[rows]`."""
        return np.array([row.values[index] for row in self.rows], np.float64)

    def weights(self, index: int) -> np.ndarray:
        """Its weights, float64 `[rows]`."""
        return np.array([row.weights[index] for row in self.rows], np.float64)
