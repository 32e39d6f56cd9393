"""What the body of `POST /act` says, and how it is answered: JSON, or arrays in NumPy's format."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from jaxdrl.serving.refusals import RefusedError, json_bytes

JSON = b"application/json"
NPY = b"application/x-npy"

FIELDS = ("obs", "session", "episode_start")

MAX_NPY_HEADER = 1024
"""Most bytes of the header of an array; that of a plain one has about 100."""

SESSION = b"x-jaxdrl-session"
EPISODE_START = b"x-jaxdrl-episode-start"
UPDATE = b"x-jaxdrl-update"
"""Headers that say beside an array what fields say in JSON."""

Headers = Mapping[bytes, bytes]


class Question(NamedTuple):
    """What a client asks for.

    Attributes:
      obs: as the client gives it.
      session: the id, None without one.
      episode_start: whether an episode begins.
    """

    obs: Any
    session: Any = None
    episode_start: Any = False


class Kind(NamedTuple):
    """A kind of body.

    Attributes:
      name: content type.
      read: `(body, headers) -> question`, which refuses what is wrong with it.
      write: `(action, update, session) -> body` of an answer; the session is the id of one that
        was opened for the question, or None.
    """

    name: bytes
    read: Callable[[bytes, Headers], Question]
    write: Callable[[np.ndarray, int, str | None], bytes]


def read_json(body: bytes, headers: Headers) -> Question:
    """The question in a JSON object, beside which no header says anything.

    Raises:
      RefusedError: naming what is wrong with it.
    """
    del headers
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"body: is not UTF-8 (byte {error.start})", "body") from None
    try:
        content = _DECODER.decode(text)
    except RecursionError:
        raise RefusedError(400, "body: is nested too deep", "body") from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise RefusedError(400, f"body: is not JSON ({error.msg} at {at})", "body") from None
    except ValueError:  # an integer of thousands of digits
        raise RefusedError(400, "body: has an integer that is too long", "body") from None
    if not isinstance(content, dict):
        raise RefusedError(422, 'body: must be an object, such as {"obs": [...]}', "body")
    if "obs" not in content:
        raise RefusedError(422, 'obs: is missing; the body must be {"obs": [...]}', "obs")
    for name in content:
        if name not in FIELDS:
            words = f"is unknown; there are {', '.join(FIELDS)}"
            raise RefusedError(422, f"{json.dumps(name)[:60]}: {words}", name[:60])
    return Question(**content)


def read_array(body: bytes, headers: Headers) -> Question:
    """The question in an array in NumPy's format, with headers beside it.

    Raises:
      RefusedError: naming what is wrong with it.
    """
    session = headers.get(SESSION)
    start = headers.get(EPISODE_START, b"false").lower()
    if start not in (b"true", b"false"):
        name = EPISODE_START.decode()
        raise RefusedError(422, f"{name}: must be true or false", name)
    given = None if session is None else session.decode("latin1")
    return Question(_array_in(body), given, start == b"true")


def write_json(action: np.ndarray, update: int, session: str | None) -> bytes:
    """The answer as JSON; a session is named if it was opened for the question."""
    content = {"action": action.tolist(), "update": update}
    return json_bytes(content if session is None else content | {"session": session})


def write_array(action: np.ndarray, update: int, session: str | None) -> bytes:
    """Actions in NumPy's format; headers name what else there is to say."""
    del update, session
    file = io.BytesIO()
    npy.write_array(file, action, version=(1, 0), allow_pickle=False)
    return file.getvalue()


KINDS = {
    JSON: Kind(JSON, read_json, write_json),
    NPY: Kind(NPY, read_array, write_array),
}
"""The kinds of body that `POST /act` takes and gives, by their content types."""


def _array_in(body: bytes) -> np.ndarray:
    """The array, which shares the memory of `body`; nothing of the size in its header is made."""
    file = io.BytesIO(body)
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, is_fortran, dtype = read(file, max_header_size=MAX_NPY_HEADER)
    except Exception:  # the header is a Python literal, and much can be wrong with it
        raise RefusedError(400, "body: is not an array in NumPy's format", "body") from None
    if dtype.kind not in "fiub" or dtype.itemsize == 0:
        words = f"obs: must be an array of numbers or booleans, and its dtype is {str(dtype)[:60]}"
        raise RefusedError(422, words, "obs")
    offset = file.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(body) - offset:
        words = f"body: has {len(body) - offset} bytes after its header, which says"
        raise RefusedError(400, f"{words} {str(list(shape))[:60]} of {dtype}", "body")
    flat = np.frombuffer(body, dtype, offset=offset)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)[:60]
        raise RefusedError(400, f"{json.dumps(twin)}: is given twice", twin)
    return found


def _refuse_constant(name: str) -> Any:
    raise RefusedError(422, f"obs: has {name}, which is not finite", "obs")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_twins, parse_constant=_refuse_constant)
