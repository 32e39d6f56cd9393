"""The moments of a film: what is kept of episodes that are played, step by step."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxdrl.errors import ConfigError


class Picture(NamedTuple):
    """A picture in little memory, from `packed`.

    Attributes:
      shape: `(height, width, 3)`.
      content: its bytes, compressed.
    """

    shape: tuple[int, ...]
    content: bytes

    def unpacked(self) -> np.ndarray:
        """The picture, uint8 `[height, width, 3]`."""
        return np.frombuffer(zlib.decompress(self.content), np.uint8).reshape(self.shape)


def packed(picture: np.ndarray) -> Picture:
    """A picture, uint8 `[height, width, 3]`, in little memory."""
    return Picture(picture.shape, zlib.compress(picture.tobytes(), level=1))


def require_picture(name: str, drawn: Any) -> np.ndarray:
    """What `draw` of the environment called `name` returned, as an array.

    Raises:
      ConfigError: if it is no picture.
    """
    picture = np.asarray(drawn)
    shape = picture.shape
    if picture.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ConfigError(
            f"{name}: draw returned {picture.dtype}{list(shape)}; must be uint8 [height, width, 3]"
        )
    return picture


@dataclass(frozen=True)
class Moment:
    """The episodes after some number of steps, which one frame shows.

    Attributes:
      num_steps: number of steps so far.
      env_state: `[N, ...]`; an ended episode keeps its last state. Of an environment of the host a
        tuple of `N` pictures.
      returns: `[N]`.
      lengths: `[N]`, number of steps of each episode.
      terminated: bool `[N]`.
      truncated: bool `[N]`.
    """

    num_steps: int
    env_state: Any
    returns: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        """Bool `[N]`."""
        return self.terminated | self.truncated


class Recording:
    """At most `max_frames` moments: beyond it, every second one is dropped, repeatedly.

    Attributes:
      moments: those that are kept, in order.
      every: moments after a multiple of so many steps are kept, and the last.
    """

    def __init__(self, max_frames: int) -> None:
        self.moments: list[Moment] = []
        self.every, self.max_frames = 1, max_frames

    def keeps(self, num_steps: int) -> bool:
        """Whether the moment after `num_steps` steps is kept, if it is not the last."""
        return num_steps % self.every == 0

    def add(self, moment: Moment, *, is_last: bool) -> None:
        """Takes the next moment."""
        if is_last or self.keeps(moment.num_steps):
            self.moments.append(moment)
        if len(self.moments) > self.max_frames:
            self.every *= 2
            last = moment if is_last else None
            self.moments = [m for m in self.moments if m is last or self.keeps(m.num_steps)]
