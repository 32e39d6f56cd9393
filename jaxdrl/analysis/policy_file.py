"""The file of an exported policy: its content, and what is refused before any of it is used.

It is a zip archive of three uncompressed members: `policy.stablehlo` is serialised by `jax.export`,
`about.json` describes it, and `SHA256SUMS` has the digests of both. Nothing in the archive is
compressed, so that no member can be larger than the file.

The digests detect a damaged file, but not a forged one. A forged file can crash the process while
it is read, and the checks here do not limit what its program can do. Load a file only if you trust
its origin as you would that of a program.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax
from jax.extend.mlir import deserialize_portable_artifact
from jax.interpreters.mlir import make_ir_context

from jaxdrl.checks import checked
from jaxdrl.errors import ConfigError
from jaxdrl.io.safe_files import open_existing

FORMAT_VERSION = 1
POLICY, ABOUT, DIGESTS = "policy.stablehlo", "about.json", "SHA256SUMS"
"""Names of the members."""

LARGEST = 2**30
"""The largest file that is read, in bytes."""

LARGEST_LIST = 1024
"""The longest list of members that is read, in bytes; that of `write` has 180."""

END = struct.Struct("<4s4H2LH")
"""The end record of an archive, with the length of its list and that of a comment after it."""
END_MARK, END_MARK_64 = b"PK\5\6", b"PK\6\7"

CUSTOM_CALLS = frozenset({"shape_assertion"})
"""Custom calls in every export: JAX checks the number of rows with this one."""

DIALECTS = ("builtin", "func", "stablehlo")
"""The dialects that operations of a program may come from."""

CHANNELS = frozenset(f"stablehlo.{name}" for name in ("infeed", "outfeed", "recv", "send"))
"""Operations that exchange data with another program."""


def write(path: Path, program: bytes, about: dict[str, Any]) -> None:
    """Writes the archive."""
    members = {POLICY: program, ABOUT: (json.dumps(about, indent=1) + "\n").encode()}
    members[DIGESTS] = _digests(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@checked
def load_policy(path: Path | str, *, custom_calls: Collection[str] = ()) -> Any:
    """The function in a file of `export_policy`: `(obs) -> action`, or as its `about.json` says.

    The file is a native program: load it only if you trust its origin as you would that of a
    program. A damaged file is refused, and so is a program that calls functions outside itself
    (`custom_call`), exchanges data with another program, or contains a second program as its
    derivative.

    Args:
      path: the file.
      custom_calls: names of functions outside the program that it may call nevertheless, such as
        those of LAPACK for a network of your own that solves equations.

    Raises:
      ConfigError: if the file is not an exported policy, is damaged, or contains such a program.
    """
    members = _read(Path(path))
    try:
        exported = jax.export.deserialize(bytearray(members[POLICY]))
        why = _objection(exported, CUSTOM_CALLS | set(custom_calls))
    except Exception as error:  # of any kind, because the parsers have no error of their own
        raise _refused(path, f"{POLICY} cannot be read: {_first_line(error)}") from error
    if why is not None:
        raise ConfigError(f"{path}: {why}; such a program is not loaded")
    return exported.call


def custom_calls_of(exported: jax.export.Exported) -> set[str]:
    """Names of the functions outside the program that it calls."""
    return {target for _, target in _operations(exported) if target is not None}


def _read(path: Path) -> dict[str, bytes]:
    """The members of the archive, after their digests are verified.

    Raises:
      ConfigError: if the file is not an archive as `write` makes it, or is damaged.
    """
    try:
        with open_existing(path) as file:
            size = _check_end(path, file)
            archive = zipfile.ZipFile(file)
            for info in archive.infolist():
                _check_member(path, info, size)
            members = {name: archive.read(name) for name in (POLICY, ABOUT, DIGESTS)}
            if len(archive.infolist()) != len(members):
                raise _refused(path, "it has unexpected members")
    except ConfigError:
        raise
    except Exception as error:  # zipfile raises errors of several kinds for a damaged archive
        raise _refused(path, _first_line(error)) from error
    if members[DIGESTS] != _digests(members):
        raise _refused(path, f"its members do not match the digests in {DIGESTS}")
    _check_version(path, members[ABOUT])
    return members


def _check_end(path: Path, file: BinaryIO) -> int:
    """The size of the file; refuses a long list of members, all of which `zipfile` would keep."""
    size = file.seek(0, os.SEEK_END)
    if size > LARGEST:
        raise _refused(path, f"it has {size:,} bytes, and at most {LARGEST:,} are read")
    # With END_MARK_64 20 bytes before the end, zipfile reads another list than the one named here.
    file.seek(max(0, size - END.size - 20))
    tail = file.read()
    mark, *_, length, start, comment = END.unpack(tail[-END.size :])
    is_whole = mark == END_MARK and comment == 0 and start + length + END.size == size
    if not is_whole or length > LARGEST_LIST or tail.startswith(END_MARK_64):
        raise _refused(path, "it does not end as jaxdrl writes it")
    return size


def _check_member(path: Path, info: zipfile.ZipInfo, size: int) -> None:
    """Refuses a member that is compressed, encrypted or a link, or larger than the file."""
    is_plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
    is_file = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
    if not (is_plain and is_file and info.file_size == info.compress_size <= size):
        raise _refused(path, f"{info.filename!r} is compressed, encrypted, a link or too large")


def _check_version(path: Path, about: bytes) -> None:
    try:
        version = json.loads(about)["format_version"]
        is_newer = version > FORMAT_VERSION
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _refused(path, f"{ABOUT} is not as jaxdrl writes it") from error
    if is_newer:
        raise _refused(path, f"format_version = {version}, but at most {FORMAT_VERSION} is read")


def _digests(members: dict[str, bytes]) -> bytes:
    """Content of `SHA256SUMS`, which `sha256sum -c` reads."""
    digest = {name: hashlib.sha256(members[name]).hexdigest() for name in (POLICY, ABOUT)}
    return "".join(f"{digest[name]}  {name}\n" for name in digest).encode()


def _objection(exported: jax.export.Exported, allowed: Collection[str]) -> str | None:
    """Why a program is not loaded; None if there is no objection."""
    if exported.ordered_effects or exported.unordered_effects:
        return "has side effects"
    if exported.nr_devices != 1:
        return f"is a program for {exported.nr_devices} devices"
    if exported.has_vjp():
        return "contains a program for its derivative, which jaxdrl export never writes"
    for name, target in _operations(exported):
        if target is not None and target not in allowed:
            trusted = f"if you trust it, allow it with custom_calls=[{target!r}]"
            return f"calls {target!r}, a function outside the program ({trusted})"
        if name.partition(".")[0] not in DIALECTS or name in CHANNELS:
            return f"contains the operation {name}, which no policy needs"
    return None


def _operations(exported: jax.export.Exported) -> Iterator[tuple[str, str | None]]:
    """`(name, function outside the program that it calls, or None)` of every operation."""
    with make_ir_context():
        module = deserialize_portable_artifact(exported.mlir_module_serialized)
        waiting = [module.operation]
        while waiting:
            operation = waiting.pop().operation
            target = None
            if operation.name == "stablehlo.custom_call":
                target = operation.attributes["call_target_name"].value
            yield operation.name, target
            waiting += [op for region in operation.regions for block in region for op in block]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _refused(path: Path | str, why: str) -> ConfigError:
    return ConfigError(
        f"{path}: is not an exported policy, or is damaged ({why}); jaxdrl export writes one"
    )
