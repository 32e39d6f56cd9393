"""Reads files with one JSON object per line while they are written; each line is read once.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxdrl.errors import ConfigError
from jaxdrl.io.safe_files import open_existing

MAX_ROWS = 4096
"""The most rows of a history, however long the run is; pictures and terminals show fewer."""

MAX_LINE = 2**26
"""The most bytes of a line; one with a thousand members has a few hundred kilobytes."""

NUM_REMEMBERED = 256
"""How many bytes before the current position are remembered, to notice that a file was replaced."""


@dataclass
class LineReader:
    """A reader that remembers its position; an incomplete last line is left for the next time.

    Attributes:
      path: path of the file, which may not exist yet.
      parse: `(line, name) -> record` for a whole line; the name says which line it is.
    """

    path: Path
    parse: Callable[[bytes, str], dict[str, Any]]
    offset: int = 0
    num_lines: int = 0
    file_id: tuple[int, int] | None = None
    last_bytes: bytes = b""

    def read(self, begin: Callable[[], Any], add: Callable[[dict[str, Any]], Any]) -> None:
        """Passes the new lines to `add`.

        Args:
          begin: called first if the file is read from its start: the first time, and if it was cut,
            replaced or rewritten.
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
            if file_id != self.file_id or not self._continues(file):
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

    def _continues(self, file: BinaryIO) -> bool:
        """Whether the file still contains the last bytes that were read."""
        file.seek(self.offset - len(self.last_bytes))
        return file.read(len(self.last_bytes)) == self.last_bytes

    def _rewind(self, file_id: tuple[int, int] | None, begin: Callable[[], Any]) -> None:
        self.offset, self.num_lines, self.file_id, self.last_bytes = 0, 0, file_id, b""
        begin()


@dataclass
class Row:
    """The summary of one or more consecutive lines.

    Attributes:
      where: the position of the last of them, such as its number of steps.
      values: weighted means, NaN where no line has a number.
      weights: weights of the means, 0 where no line has a number.
      num_lines: number of lines.
    """

    where: tuple[float, ...]
    values: tuple[float, ...]
    weights: tuple[float, ...]
    num_lines: int = 1

    def merge(self, later: Row) -> Row:
        """The summary of both rows."""
        weights = tuple(map(sum, zip(self.weights, later.weights, strict=True)))
        both = zip(self.values, self.weights, later.values, later.weights, strict=True)
        values = tuple(
            second if w == 0 else first if v == 0 else (first * w + second * v) / (w + v)
            for first, w, second, v in both
        )
        return Row(later.where, values, weights, self.num_lines + later.num_lines)


@dataclass
class Thinned:
    """Columns of numbers from a file of any length, thinned to at most `max_rows` rows.

    A row is one line, or the mean over 2, 4, 8 ... lines if there are more lines than rows.
    """

    max_rows: int = MAX_ROWS
    lines_per_row: int = 1
    rows: list[Row] = field(default_factory=list)

    def add(
        self, where: Sequence[float], values: Sequence[float], weights: Sequence[float]
    ) -> None:
        """Adds a line; a value that is NaN or has weight 0 is ignored."""
        own_weights = tuple(
            0.0 if math.isnan(v) else w for v, w in zip(values, weights, strict=True)
        )
        row = Row(tuple(where), tuple(values), own_weights)
        if self.rows and self.rows[-1].num_lines < self.lines_per_row:
            self.rows[-1] = self.rows[-1].merge(row)
            return
        if len(self.rows) == self.max_rows:
            pairs = zip(self.rows[::2], self.rows[1::2], strict=True)
            self.rows = [first.merge(second) for first, second in pairs]
            self.lines_per_row *= 2
        self.rows.append(row)

    def where(self, index: int) -> np.ndarray:
        """The positions of the rows, float64 `[rows]`."""
        return np.array([row.where[index] for row in self.rows], np.float64)

    def values(self, index: int) -> np.ndarray:
        """The values of a column, float64 `[rows]`."""
        return np.array([row.values[index] for row in self.rows], np.float64)

    def weights(self, index: int) -> np.ndarray:
        """The weights of a column, float64 `[rows]`."""
        return np.array([row.weights[index] for row in self.rows], np.float64)
