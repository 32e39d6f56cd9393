"""What can happen to a file, each `(path, the same file of another run, rng)`."""

import os
import re


def replaced(path, content):
    path.unlink()
    path.write_bytes(content)


def lines_of(path, change, rng):
    lines = path.read_bytes().splitlines(keepends=True)
    replaced(path, b"".join(change(lines, int(rng.integers(max(1, len(lines) - 1))))))


def flip(path, other, rng):
    content = bytearray(path.read_bytes() or b"\0")
    content[rng.integers(len(content))] ^= rng.integers(1, 256)
    replaced(path, bytes(content))


def digit(path, other, rng):
    content = path.read_bytes()
    places = [found.start() for found in re.finditer(rb"\d", content)]
    if places:
        at = places[rng.integers(len(places))]
        new = (content[at] - 48 + int(rng.integers(1, 10))) % 10 + 48
        content = content[:at] + bytes([new]) + content[at + 1 :]
    replaced(path, content)


def value(new):
    """Puts `new` where a number of a JSON file was."""

    def put(path, other, rng):
        content = path.read_bytes()
        places = [m.span(1) for m in re.finditer(rb": (-?[\d.e+-]+)[,\n}]", content)]
        if places:
            start, end = places[rng.integers(len(places))]
            content = content[:start] + new + content[end:]
        replaced(path, content)

    return put


def whole(content):
    return lambda path, other, rng: replaced(path, content)


def directory(path, other, rng):
    path.unlink()
    path.mkdir()


def fifo(path, other, rng):
    path.unlink()
    os.mkfifo(path)


def link(to):
    def make(path, other, rng):
        path.unlink()
        path.symlink_to(to or path)

    return make


def sparse(path, other, rng):
    os.truncate(path, 2**28)


DAMAGES = {
    "removed": lambda path, other, rng: path.unlink(),
    "emptied": whole(b""),
    "truncated": lambda path, other, rng: os.truncate(
        path, int(rng.integers(max(1, path.stat().st_size)))
    ),
    "flipped": flip,
    "digit": digit,
    "swapped": lambda p, _, rng: lines_of(
        p, lambda x, i: [*x[:i], *reversed(x[i : i + 2]), *x[i + 2 :]], rng
    ),
    "line removed": lambda p, _, rng: lines_of(p, lambda x, i: x[:i] + x[i + 1 :], rng),
    "line twice": lambda p, _, rng: lines_of(p, lambda x, i: x[: i + 1] + x[i:], rng),
    "longer": lambda path, _, rng: replaced(path, path.read_bytes() + b"more\n"),
    "directory": directory,
    "fifo": fifo,
    "loop": link(None),
    "endless": link("/dev/zero"),
    "of another run": lambda path, other, rng: replaced(path, other.read_bytes()),
    "noughts": whole(b"\0" * 1000),
    "mark": lambda path, _, rng: replaced(path, b"\xef\xbb\xbf" + path.read_bytes()),
    "deep": whole(b'{"a": ' + b"[" * 100_000),
    "huge integer": value(b"9" * 5000),
    "infinite": value(b"NaN"),
    "words": value(b'"words"'),
    "list": whole(b"[1, 2]\n"),
    "no text": whole(bytes(range(128, 256))),
    "sparse": sparse,
}
