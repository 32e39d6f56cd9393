"""Files of a run that are damaged in every way, and every verb on what is left.

Whatever was done to a directory, a verb refuses it in one sentence, or gives what it gives of the
sound one, or says what it left out: never a traceback, a hang, or another result without a word.
"""

import collections
import contextlib
import dataclasses
import io
import itertools
import json
import os
import re
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdrl
from jaxdrl import cli
from jaxdrl.errors import ConfigError
from jaxdrl.hyperparams import Sweep
from jaxdrl.metrics import sha256
from small_runs import CARTPOLE, PPO
from small_sweeps import WAVES

pytestmark = pytest.mark.usefixtures("compile_cache")

SECONDS = 120
"""After which a verb hangs."""

SMALL = "--devices 2 --ppo.num-envs 16 --ppo.num-minibatches 2 --ppo.hidden-sizes 8"


# What is done to a file, each `(path, the same file of another run, rng)`.


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


# The verbs, each `(run, out) -> result`, which is compared.


def by_command(line, result):
    def perform(run, out):
        cli.main([word.format(run=run, out=out) for word in line.split()])
        return result(out)

    return perform


def returns_of(out):
    content = json.loads((out / "e.json").read_text())
    return str({name: content[name] for name in ("update", "returns")})


def actions_of(path):
    obs = np.linspace(-1.0, 1.0, 20, dtype=np.float32).reshape(5, 4)
    return str(np.asarray(jax.jit(jaxdrl.load_policy(path))(obs)))


def trained(out):
    return json.loads((out / "run/result.json").read_text())["state_sha256"]


def resume(run, out):
    further = "700" if (run / "waves").exists() else "500"
    cli.main(["resume", str(run), "--total-env-steps", further])
    return json.loads((run / "result.json").read_text())["state_sha256"]


def restore(run, out):
    return sha256(jaxdrl.restore(run).state.learner)


def plot(run, out):
    curves = jaxdrl.plot_runs([run], out / "curve.png")
    return str([(curve.label, curve.x.tolist(), curve.values.tolist()) for curve in curves])


QUICK = {
    "watch": by_command("watch {run} --once", lambda out: ""),
    "plot": plot,
    "restore": restore,
    "config": by_command("train --config {run}/config.json --help", lambda out: ""),
    "best": by_command("train --config {run}/best.json --help", lambda out: ""),
    "load_policy": lambda run, out: actions_of(run / "policy.zip"),
}
VERBS = QUICK | {
    "evaluate": by_command("evaluate {run} --num-episodes 4 --json {out}/e.json", returns_of),
    "export": by_command("export {run} --out {out}/p.zip", lambda out: actions_of(out / "p.zip")),
    "render": by_command(
        "render {run} --out {out}/film.gif --num-steps 3",
        lambda out: str((out / "film.gif").read_bytes()),
    ),
    "resume": resume,
    "from": by_command(
        f"train CartPole-v1 --from {{run}} --run-dir {{out}}/run --total-env-steps 2000 {SMALL}",
        trained,
    ),
}


CHECKPOINT = "config.json|manifest.json|state.npz|SHA256SUMS"
READS = {
    "watch": r"config.json|metrics.jsonl|result.json|\.lock",
    "plot": "config.json|metrics.jsonl",
    "config": "config.json",
    "best": "best.json",
    "load_policy": "policy.zip",
    "resume": ".*",
}
"""Files that a verb looks at, where they are not those of a checkpoint."""


class Hang(BaseException):
    """A verb has not come to its end."""


def hang(*_):
    raise Hang


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a verb ended: `kind` is done, refused, traceback or hang."""

    kind: str
    result: str = ""
    output: str = ""


def perform(verb, run, out):
    """What a verb does on a directory, within `SECONDS`."""
    output, errors = io.StringIO(), io.StringIO()
    out.mkdir()
    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                result = VERBS[verb](run, out)
            except SystemExit as stop:
                if stop.code:  # of a message that `cli` has printed
                    return Outcome(*_refusal(errors.getvalue()))
                result = ""  # of --help
    except ConfigError as error:
        return Outcome(*_refusal(f"error: {error}\n"))
    except Hang:
        return Outcome("hang")
    except BaseException as error:
        return Outcome("traceback", f"{type(error).__name__}: {error}"[:300])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        shutil.rmtree(out)
    shown = output.getvalue().replace(str(run), "RUN").replace(str(out), "OUT")
    is_shown = verb in ("watch", "config", "best")
    return Outcome("done", result or (shown if is_shown else ""), shown + errors.getvalue())


def _refusal(message):
    is_one = message.startswith("error: ") and message.count("\n") == 1
    return ("refused" if is_one else "traceback"), message[:300]


def judge(sound, found):
    """The outcome beside that of the sound run, in a word."""
    if found.kind != "done":
        return found.kind
    if found.result == sound.result:
        return "same"
    return "said" if "warning: " in found.output else "wrong"


def make_run(directory, kind, seed):
    """A run of seconds, with everything that verbs leave in its directory."""
    settings = {
        "run": CARTPOLE,
        "population": dataclasses.replace(
            CARTPOLE,
            ppo=dataclasses.replace(PPO, reproducible=True),
            sweep=Sweep({"learning_rate": "log:0.001:0.01"}, members=4, pbt=True, pbt_every=1),
        ),
        "waves": WAVES,
    }
    experiment = dataclasses.replace(
        settings[kind], seed=seed, checkpoint_every=1, run_dir=directory / f"{kind}-{seed}"
    )
    with contextlib.redirect_stdout(io.StringIO()):
        jaxdrl.run(experiment)
        jaxdrl.export_policy(experiment.run_dir, experiment.run_dir / "policy.zip")
    return experiment.run_dir


def fuzz(tmp_path, kind, verbs, num, seed=0):
    """Counts of the outcomes of `num` cases, and those that must not be."""
    run, another = (make_run(tmp_path, kind, n) for n in (0, 1))
    files = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    rng = np.random.default_rng(seed)
    sound = {}
    for verb in verbs:
        copy = shutil.copytree(run, tmp_path / "copy")
        sound[verb] = perform(verb, copy, tmp_path / "out")
        shutil.rmtree(copy)
        assert sound[verb].kind in ("done", "refused"), (verb, sound[verb])
    cases = [
        (file, damage, verb)
        for file, damage, verb in itertools.product(files, DAMAGES, verbs)
        if sound[verb].kind == "done" and re.search(READS.get(verb, CHECKPOINT), file.name)
    ]
    rng.shuffle(cases)
    counts, bad = collections.Counter(), []
    for file, damage, verb in cases[:num]:
        copy = shutil.copytree(run, tmp_path / "copy")
        DAMAGES[damage](copy / file, another / file, rng)
        found = perform(verb, copy, tmp_path / "out")
        word = judge(sound[verb], found)
        counts[word] += 1
        if word not in ("same", "refused", "said"):
            print(word, kind, file, damage, verb, found.result[-200:], flush=True)
            bad.append((word, kind, str(file), damage, verb, found.result, found.output[-300:]))
        shutil.rmtree(copy, ignore_errors=True)
    return counts, bad


def is_as_written(case):
    """Whether a verb shows what is in a file: a whole one of another run, or lines of metrics."""
    word, _, file, damage, verb, *_ = case
    shows_lines = verb in ("watch", "plot") and Path(file).name in ("metrics.jsonl", "result.json")
    is_whole = verb in ("config", "best", "load_policy") and damage == "of another run"
    return word == "wrong" and (shows_lines or is_whole)


def test_a_damaged_file_is_refused_or_changes_nothing(tmp_path):
    counts, bad = fuzz(tmp_path, "run", QUICK, 60)
    assert [case for case in bad if not is_as_written(case)] == []
    assert counts["refused"] >= 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "population", "waves"])
def test_every_file_every_damage_and_every_verb(tmp_path, kind):
    counts, bad = fuzz(tmp_path, kind, VERBS, 250)
    shown = sum(map(is_as_written, bad))
    print(f"{kind}: {dict(counts)}, of which {shown} show a file as it is")
    assert [case for case in bad if not is_as_written(case)] == []
