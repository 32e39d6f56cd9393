"""Files of policies that are damaged, or hold what a policy does not need: one sentence each."""

import hashlib
import io
import stat
import struct
import subprocess
import sys
import warnings
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.analysis import policy_file
from jaxdrl.analysis.policy_file import ABOUT, DIGESTS, POLICY
from jaxdrl.errors import ConfigError

OBS = np.linspace(-1.0, 1.0, 20, dtype=np.float32).reshape(5, 4)


def plain(obs):
    return jnp.argmax(obs @ jnp.arange(12.0).reshape(4, 3), axis=-1)


def foreign(obs):
    """A call of a function that no library of ours has."""
    return jax.ffi.ffi_call("foreign", jax.ShapeDtypeStruct(obs.shape, obs.dtype))(obs)


def hidden(obs):
    """The same in a branch of a loop."""

    def body(carry):
        return carry[0] + 1, jax.lax.cond(carry[0] > 2, foreign, lambda x: x, carry[1])

    return jax.lax.while_loop(lambda carry: carry[0] < 5, body, (0, obs))[1]


def loud(obs):
    call = jax.ffi.ffi_call(
        "foreign", jax.ShapeDtypeStruct(obs.shape, obs.dtype), has_side_effect=True
    )
    return call(obs)


def exported(function, vjp_order=0):
    (batch,) = jax.export.symbolic_shape("batch")
    allowed = [jax.export.DisabledSafetyCheck.custom_call("foreign")]
    obs = jax.ShapeDtypeStruct((batch, 4), jnp.float32)
    program = jax.export.export(jax.jit(function), disabled_checks=allowed)(obs)
    return bytes(program.serialize(vjp_order=vjp_order))


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A sound file."""
    path = tmp_path_factory.mktemp("policy") / "policy.zip"
    policy_file.write(path, exported(plain), {"format_version": 1})
    return path


def outcome(path):
    """The actions of a file, or the message of its refusal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of names that come twice
        try:
            return np.asarray(jax.jit(jaxdrl.load_policy(path))(OBS))
        except ConfigError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            return str(error)


def test_a_sound_file_acts_as_the_function_does(policy):
    np.testing.assert_array_equal(outcome(policy), plain(OBS))


def test_the_members_are_as_sha256sum_checks_them(policy, tmp_path):
    with zipfile.ZipFile(policy) as archive:
        archive.extractall(tmp_path)
    check = subprocess.run(["sha256sum", "-c", DIGESTS], cwd=tmp_path, capture_output=True)
    assert check.returncode == 0, check.stdout


@pytest.mark.parametrize("num", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_flipped_bytes_are_refused_or_change_nothing(policy, tmp_path, num):
    content, path = policy.read_bytes(), tmp_path / "flipped.zip"
    rng = np.random.default_rng(num)
    refused = 0
    for _ in range(num):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= rng.integers(1, 256)
        path.write_bytes(flipped)
        found = outcome(path)
        refused += isinstance(found, str)
        if not isinstance(found, str):  # a date, or the like
            np.testing.assert_array_equal(found, plain(OBS))
    assert refused > 0.7 * num


@pytest.mark.parametrize("num", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_file_that_is_cut_is_refused(policy, tmp_path, num):
    content, path = policy.read_bytes(), tmp_path / "cut.zip"
    for length in np.linspace(0, len(content) - 1, num, dtype=int):
        path.write_bytes(content[:length])
        assert "is not an exported policy" in outcome(path)


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def info(name, mode=stat.S_IFREG):
    found = zipfile.ZipInfo(name)
    found.external_attr = (mode | 0o600) << 16
    return found


def archive_of(members, compression=zipfile.ZIP_STORED, comment=b""):
    """An archive of `(name or ZipInfo, content)`."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
        archive.comment = comment
    return buffer.getvalue()


def signed(program, about=b'{"format_version": 1}'):
    """Members with the digests that belong to them."""
    members = {POLICY: program, ABOUT: about}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {n}\n" for n, content in members.items()]
    return [*members.items(), (DIGESTS, "".join(lines).encode())]


def patched(content, mark, offset, value):
    """`content` with `value` at `offset` from the last `mark`."""
    at = content.rindex(mark) + offset
    return content[:at] + value + content[at + len(value) :]


def damages(sound):
    """Archives by what is wrong with them."""
    members = members_of(sound)
    items, content = list(members.items()), sound.read_bytes()
    program = members[POLICY]
    for name in members:
        yield f"without {name}", archive_of([item for item in items if item[0] != name])
        yield f"{name} empty", archive_of((members | {name: b""}).items())
        yield f"{name} cut", archive_of((members | {name: members[name][:-1]}).items())
        yield f"{name} longer", archive_of((members | {name: members[name] + b"\n"}).items())
        yield f"{name} twice", archive_of([*items, (name, members[name])])
        yield f"{name} renamed", archive_of([(n + "x" * (n == name), c) for n, c in items])
        yield (
            f"{name} a link",
            archive_of([(info(n, stat.S_IFLNK) if n == name else n, c) for n, c in items]),
        )
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"compressed {kind}", archive_of(items, kind)
    yield "a member more", archive_of([*items, ("more", b"")])
    yield "a directory", archive_of([*items, ("more/", b"")])
    yield "a way out", archive_of([("../" + POLICY, program), *items[1:]])
    yield "a comment", archive_of(items, comment=b"words")
    yield "bytes after it", content + b"\0"
    yield "bytes before it", b"\0" * 10 + content
    yield "no archive", b"PK\5\6" + b"\0" * 18
    yield "nothing", b""
    yield "text", b"policy"
    yield "encrypted", patched(content, b"PK\1\2", 8, b"\1\0")
    yield "unknown method", patched(content, b"PK\1\2", 10, b"\xff\0")
    yield "a size of 4 GB", patched(content, b"PK\1\2", 20, b"\xfe\xff\xff\xff" * 2)
    yield "a list of 4 GB", patched(content, b"PK\5\6", 12, b"\xfe\xff\xff\xff")
    yield "the list elsewhere", patched(content, b"PK\5\6", 16, struct.pack("<L", 7))
    zip64 = b"PK\6\6" + b"\0" * 52 + b"PK\6\7" + b"\0" * 16
    yield "zip64", content[:-22] + zip64 + content[-22:]
    for words in (
        "",
        "null",
        "[]",
        "{}",
        '{"format_version": "1"}',
        "[" * 100_000,
        "\xff",
        "9" * 9999,
    ):
        yield f"about {words[:30]!r}", archive_of(signed(program, words.encode("latin-1")))
    yield "newer", archive_of(signed(program, b'{"format_version": 2}'))
    for other in (b"", b"\0" * 100, program[:-100], program[:50], program[100:], content):
        yield f"a program {other[:10]!r} of {len(other)}", archive_of(signed(other))


def test_whatever_is_wrong_with_an_archive_is_one_sentence(policy, tmp_path):
    path, num = tmp_path / "policy.zip", 0
    for how, content in damages(policy):
        path.write_bytes(content)
        assert "is not an exported policy" in outcome(path), how
        num += 1
    assert num >= 50


@pytest.mark.parametrize("what", ["missing", "directory", "loop", "fifo"])
def test_what_is_no_file_is_refused(tmp_path, what):
    path = tmp_path / what
    if what == "directory":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    elif what == "fifo":
        subprocess.run(["mkfifo", path], check=True)
    assert "is not an exported policy" in outcome(path)


def bombs():
    """Small archives of large members, and of many."""
    big = b"\0" * 300_000_000
    yield (
        "compressed",
        archive_of([(POLICY, big), (ABOUT, b"{}"), (DIGESTS, b"")], zipfile.ZIP_DEFLATED),
    )
    yield "many", archive_of([(f"{i}", b"") for i in range(60_000)])


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path):
    for name, content in bombs():
        (tmp_path / name).write_bytes(content)
    code = """
import resource, sys
from jaxdrl import ConfigError, load_policy
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load_policy(path)
    except ConfigError:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    paths = [tmp_path / name for name in ("compressed", "many")]
    process = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True
    )
    grown = [int(line) for line in process.stdout.split()]
    unit = 1 if sys.platform == "darwin" else 1024
    assert len(grown) == 2
    assert max(grown) * unit < 16 * 2**20  # the first would take 300 MB, the second 30 MB


CALLS = (
    "calls 'foreign', a function outside the program "
    "(if you trust it, allow it with custom_calls=['foreign'])"
)


@pytest.mark.parametrize(
    ("function", "vjp_order", "why"),
    [
        (foreign, 0, CALLS),
        (hidden, 0, CALLS),
        (plain, 1, "contains a program for its derivative, which jaxdrl export never writes"),
        (loud, 0, "has side effects"),
    ],
)
def test_a_program_that_does_more_than_act_is_refused(tmp_path, function, vjp_order, why):
    path = tmp_path / "policy.zip"
    policy_file.write(path, exported(function, vjp_order), {"format_version": 1})
    assert outcome(path) == f"{path}: {why}; such a program is not loaded"


def test_a_call_that_the_user_trusts_is_let_through(tmp_path):
    path = tmp_path / "policy.zip"
    policy_file.write(path, exported(foreign), {"format_version": 1})
    assert callable(jaxdrl.load_policy(path, custom_calls=["foreign"]))
    with pytest.raises(ConfigError, match="calls 'foreign'"):
        jaxdrl.load_policy(path, custom_calls=["another"])
