"""Requests that are refused: the status and one sentence, which names what is wrong."""

from __future__ import annotations

import json
import re
from typing import Any

from jaxdrl.errors import ConfigError

OF_OBSERVATION = re.compile(r"obs(\[[^\]]*\])*")
"""The entry of an observation that begins a message about it."""


class RefusedError(Exception):
    """A request that is refused.

    Attributes:
      status: of the answer.
      words: one sentence for the client.
      field: what is wrong, None where the whole request is.
      headers: further ones of the answer.
    """

    def __init__(
        self,
        status: int,
        words: str,
        field: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(words)
        self.status, self.words, self.field, self.headers = status, words, field, headers

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        return json_bytes({"error": self.words, "field": self.field})


def unfit(error: ConfigError) -> RefusedError:
    """The refusal of an observation or `episode_start` that does not fit."""
    words = str(error)
    found = OF_OBSERVATION.match(words)
    return RefusedError(422, words, found.group() if found else words.partition(" ")[0].rstrip(":"))


def json_bytes(content: Any) -> bytes:
    """A line of JSON."""
    return json.dumps(content).encode() + b"\n"
