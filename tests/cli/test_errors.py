"""Verbs on run directories that are missing, foreign, damaged, unfinished or in use.

Each either does its work or says in one sentence what is wrong and what to do, and leaves the
directory as it was.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
from typing import NamedTuple

import pytest

import jaxdrl
from jaxdrl.cli import main
from jaxdrl.errors import ConfigError
from jaxdrl.io.console import make_console, warner
from jaxdrl.io.json_files import read_sealed, write_sealed
from jaxdrl.runs import train_run
from jaxdrl.runs.locking import claim
from jaxdrl.serving import server
from small_runs import CARTPOLE

PYTHON = "a function, not a verb"


class Verb(NamedTuple):
    """A verb with the least work; `reads` are the parts of a run that it cannot do without."""

    command: str
    reads: tuple[str, ...]


SMALL = "--devices 2 --num-envs 16 --num-minibatches 2 --hidden-sizes 8"
# A new verb is one line here.
VERBS = {
    "resume": Verb("resume {run} --total-env-steps 500", ("state", "metrics", "log", "lock")),
    "evaluate": Verb("evaluate {run} --num-episodes 4 --json {out}/e.json", ("state",)),
    "vary": Verb(
        "evaluate {run} --vary length=0.5:1:2 --num-episodes 2 --out {out}/v.png --json {out}/v",
        ("state",),
    ),
    "compare": Verb(
        "evaluate {sound} --compare {run} --num-episodes 4 --json {out}/e.json", ("state",)
    ),
    "plot": Verb("plot {sound} {run} --out {out}/p.png", ("metrics",)),
    "export": Verb("export {run} --out {out}/policy.zip", ("state",)),
    "render": Verb("render {run} --out {out}/film.gif", ("state",)),
    "watch": Verb("watch {run} --once", ("metrics",)),
    "serve": Verb("serve {run} --port 0", ("state",)),
    "from": Verb(f"train CartPole-v1 --from {{run}} --run-dir {{out}}/second {SMALL}", ("state",)),
    "restore": Verb(PYTHON, ("state",)),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A run of three updates, each with a checkpoint; not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "sound"
    with contextlib.redirect_stdout(io.StringIO()):
        jaxdrl.run(dataclasses.replace(CARTPOLE, run_dir=path, checkpoint_every=1))
    return path


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    """What would begin to train or to serve has got through everything that could refuse it."""
    monkeypatch.setattr(train_run, "train", lambda *_: None)
    monkeypatch.setattr(server, "main", follow_and_end)


def follow_and_end(what):
    """What a server does before it answers."""
    server.follow(what.run_dir, on_refusal=warner(make_console())).close()


# What can be wrong with a run directory: each takes a copy of a sound one.


def missing(run):
    shutil.rmtree(run)


def foreign(run):
    shutil.rmtree(run)
    run.mkdir()
    (run / "notes.txt").write_text("mine")


def of_another_program(run):
    foreign(run)
    (run / "config.json").write_text('{"model": "transformer"}')


def a_file(run):
    shutil.rmtree(run)
    run.write_text("mine")


def a_circle(run):
    shutil.rmtree(run)
    run.symlink_to(run)


def config_torn(run):
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text[: len(text) // 2])


def config_newer(run):
    content = json.loads((run / "config.json").read_text())
    content["experiment"]["a_field_of_the_future"] = 1
    (run / "config.json").write_text(json.dumps(content | {"format_version": 3}))


def config_edited(run):
    """A digit of a setting."""
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"seed": 0', '"seed": 1'))


def gravity_edited(run):
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"gravity": 9.8', '"gravity": 9.7'))


def another_config(run):
    """That of another run, whole."""
    content = read_sealed(run / "config.json", "")
    write_sealed(run / "config.json", content | {"run_id": "another"})


def metrics_edited(run):
    """A digit of a line before the last checkpoint."""
    text = (run / "metrics.jsonl").read_text()
    assert '"num_episodes": ' in text
    (run / "metrics.jsonl").write_text(text.replace('"num_episodes": ', '"num_episodes": 1', 1))


def metrics_swapped(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([lines[1], lines[0], *lines[2:]]))


def metrics_cut(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(lines[0])


def metrics_lost(run):
    (run / "metrics.jsonl").unlink()


def checkpoint_renamed(run):
    (run / "checkpoints" / "00000003").rename(run / "checkpoints" / "00000009")


def checkpoint_foreign(run):
    """The last one is of another run."""
    path = run / "checkpoints" / "00000003"
    content = json.loads((path / "manifest.json").read_text())
    content["config"]["run_id"] = "another"
    sign(path, content)


def checkpoint_of_another_config(run):
    for path in run.glob("checkpoints/*"):
        content = json.loads((path / "manifest.json").read_text())
        content["config"]["experiment"]["seed"] = 9
        sign(path, content)


def sign(path, manifest):
    """Writes a manifest with digests that agree."""
    (path / "manifest.json").write_text(json.dumps(manifest))
    _, state = (path / "SHA256SUMS").read_text().splitlines()
    digest = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    (path / "SHA256SUMS").write_text(f"{digest}  manifest.json\n{state}\n")


def metrics_broken(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[1] = lines[1][:40] + "\n"
    (run / "metrics.jsonl").write_text("".join(lines))


def metrics_foreign(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[1] = '{"loss": 3.0}\n'
    (run / "metrics.jsonl").write_text("".join(lines))


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def checkpoint_damaged(run):
    flip(run / "checkpoints" / "00000003" / "state.npz")


def checkpoints_damaged(run):
    for file in run.glob("checkpoints/*/state.npz"):
        flip(file)


def checkpoint_newer(run):
    for manifest in run.glob("checkpoints/*/manifest.json"):
        sign(manifest.parent, json.loads(manifest.read_text()) | {"format_version": 3})


def no_checkpoint_yet(run):
    checkpoints_lost(run)
    content = read_sealed(run / "config.json", "")
    write_sealed(run / "config.json", content | {"has_checkpoints": False})


def checkpoints_lost(run):
    """Of a run that goes on, or was killed."""
    shutil.rmtree(run / "checkpoints")
    (run / "result.json").unlink()


def checkpoints_removed(run):
    shutil.rmtree(run / "checkpoints")


def nothing_wrong(run):
    pass


EVERY = "config"
# Each row: what is wrong, what part of the run that spoils, and the message.
CASES = [
    (missing, EVERY, "run_dir = '{run}': is not a run (there is no such directory); the nearest: "),
    (foreign, EVERY, "run_dir = '{run}': is not a run (it has no config.json); the nearest: "),
    (
        of_another_program,
        EVERY,
        "run_dir = '{run}': is not a run (its config.json is from another program); the nearest: ",
    ),
    (
        a_file,
        EVERY,
        "run_dir = '{run}': is not a run (it is not a directory); the nearest: ",
    ),
    (
        a_circle,
        EVERY,
        "run_dir = '{run}': is not a run (it is a link to nothing); the nearest: ",
    ),
    (config_torn, EVERY, "{run}/config.json: is not JSON ("),
    (
        config_newer,
        EVERY,
        "{run}/config.json: format_version = 3, and this version of jaxdrl reads only 2; "
        "use the newer jaxdrl that wrote it",
    ),
    (config_edited, EVERY, "{run}/config.json: was changed after it was written"),
    (gravity_edited, EVERY, "{run}/config.json: was changed after it was written"),
    (another_config, "state", "{run}/checkpoints/00000003: is a checkpoint of another run ("),
    (metrics_edited, "log", "{run}/metrics.jsonl: its first "),
    (metrics_swapped, "log", "{run}/metrics.jsonl: its first "),
    (metrics_cut, "log", "{run}/metrics.jsonl: has "),
    (metrics_lost, "log", "{run}/metrics.jsonl: cannot be read (No such file or directory)"),
    (
        checkpoint_renamed,
        "state",
        "{run}/checkpoints/00000009: is the checkpoint of update 3 under another number; rename "
        "it back",
    ),
    (checkpoint_foreign, "state", "{run}/checkpoints/00000003: is a checkpoint of another run ("),
    (
        checkpoint_of_another_config,
        "state",
        "{run}/checkpoints/00000003: was saved with experiment.seed = 9, and config.json has 0; ",
    ),
    (
        checkpoints_lost,
        "state",
        "{run}/checkpoints: holds no checkpoint any more, and there were some; put one back, or "
        "run it again elsewhere",
    ),
    (
        metrics_broken,
        "metrics",
        "{run}/metrics.jsonl: ",
    ),
    (
        metrics_foreign,
        "metrics",
        "{run}/metrics.jsonl: ",
    ),
    (checkpoint_damaged, None, ""),
    (
        checkpoints_damaged,
        "state",
        "{run}/checkpoints: every checkpoint in it is damaged; put back a copy of one, or start "
        "the run again in another directory",
    ),
    (
        checkpoint_newer,
        "state",
        "{run}/checkpoints/00000003: format_version = 3, and this version of jaxdrl reads only "
        "2; use the newer jaxdrl that wrote it",
    ),
    (
        checkpoints_removed,
        "state",
        "{run}/checkpoints: holds no checkpoint any more, and the run is finished; put one back, "
        "or run it again elsewhere",
    ),
]


def perform(name, run, sound, out):
    """`(exit code, output, errors)` of a verb."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            if VERBS[name].command == PYTHON:
                getattr(jaxdrl, name)(run)
            else:
                words = VERBS[name].command.split()
                main.main([word.format(run=run, sound=sound, out=out) for word in words])
        except SystemExit as stop:
            code = stop.code
        except ConfigError as error:
            assert VERBS[name].command == PYTHON
            code = 2
            print(f"error: {error}", file=errors)
    return code, output.getvalue(), errors.getvalue()


def content_of(path):
    """Digests of all files but that which names the last process that wanted to write."""
    if path.is_file():
        return path.read_bytes()
    return {
        file.relative_to(path): file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.name != ".lock"
    }


def check(name, run, sound, out, message):
    """Checks a verb that has to refuse with the `message`, or to work where that is None."""
    before = content_of(run)
    code, output, errors = perform(name, run, sound, out)
    if message is None:
        assert (code, errors) == (0, "")
        assert name == "resume" or content_of(run) == before
        return output
    assert code == 2
    assert errors.startswith("error: " + message.format(run=run)), errors
    assert errors.count("\n") == 1
    assert content_of(run) == before
    assert not out.exists()
    assert "mean return" not in output  # of the other run, played in vain
    return errors


@pytest.fixture
def run(sound, tmp_path):
    """A copy that may be spoilt, beside a sound run of nearly its name."""
    shutil.copytree(sound, tmp_path / "first")
    (tmp_path / "first2").mkdir()
    shutil.copy(sound / "config.json", tmp_path / "first2")
    return tmp_path / "first"


# A verb that does not mind broken metrics does not mind others.
SPOILT = [
    pytest.param(name, *case, id=f"{name}-{case[0].__name__}")
    for name, verb in VERBS.items()
    for case in CASES
    if case[0] is not metrics_foreign or "metrics" in verb.reads
    if (name, case[0]) != ("plot", metrics_lost)  # which has nothing to draw
    # A server goes on with the checkpoint before.
    if name != "serve" or case[0] not in (checkpoint_renamed, checkpoint_foreign)
]


@pytest.mark.parametrize(("name", "spoil", "part", "message"), SPOILT)
def test_a_spoilt_directory(name, run, sound, tmp_path, spoil, part, message):
    spoil(run)
    refuses = part == EVERY or part in VERBS[name].reads
    said = check(name, run, sound, tmp_path / "out", message if refuses else None)
    if message.endswith("the nearest: "):
        assert said.endswith(f"{run}2\n")
    if part == "log" and name in ("plot", "watch"):
        assert f"{run}/metrics.jsonl: " in said.replace("\n", "")
    if spoil is checkpoint_damaged and "state" in VERBS[name].reads:
        damage = f"warning: {run}/checkpoints/00000003/state.npz: does not have the digest"
        assert damage in said


@pytest.mark.parametrize("name", VERBS)
def test_before_the_first_checkpoint(name, run, sound, tmp_path):
    no_checkpoint_yet(run)
    message = None
    if VERBS[name].reads == ("state",):
        message = (
            "{run}/checkpoints: holds no checkpoint, the run ended before its first; "
            "`jaxdrl resume {run}` starts it again\n"
        )
    check(name, run, sound, tmp_path / "out", message)


@pytest.mark.parametrize("spoil", [nothing_wrong, no_checkpoint_yet])
@pytest.mark.parametrize("name", VERBS)
def test_while_a_run_goes_on(name, run, sound, tmp_path, spoil):
    spoil(run)
    message = None
    if spoil is no_checkpoint_yet and "state" in VERBS[name].reads:
        message = "{run}/checkpoints: holds no checkpoint yet, and process "
    if "lock" in VERBS[name].reads:
        message = f"run_dir = '{{run}}': process {os.getpid()} on "
    with claim(run):
        said = check(name, run, sound, tmp_path / "out", message)
    if name == "watch":
        assert "running" in said


@pytest.mark.parametrize("name", [n for n, verb in VERBS.items() if "{out}" in verb.command])
@pytest.mark.parametrize("taken", ["file", "directory"])
def test_where_the_output_cannot_be_written(name, run, sound, tmp_path, taken):
    out = tmp_path / "taken"
    if taken == "file":
        out.write_text("mine")
    else:
        wanted = [arg for arg in VERBS[name].command.split() if "{out}" in arg]
        for arg in wanted:
            (tmp_path / arg.format(out="taken")).mkdir(parents=True)
            (tmp_path / arg.format(out="taken") / "result.json").write_text("mine")
    before = content_of(out)
    code, _, errors = perform(name, run, sound, out)
    assert (code, errors.count("\n")) == (2, 1), errors
    assert errors.startswith("error: ")
    assert str(out) in errors
    assert content_of(out) == before


def test_the_config_of_a_checkpoint_is_what_was_there(run):
    config = run / "config.json"
    manifest = json.loads((run / "checkpoints" / "00000003" / "manifest.json").read_text())
    assert manifest["config"] == json.loads(config.read_text())


def test_a_directory_of_runs_is_answered_with_one_of_them(sound, tmp_path):
    _, _, errors = perform("watch", sound.parent, sound, tmp_path)
    assert errors.endswith(
        f"is not a run (it has no config.json); it holds runs: name one, such as {sound}\n"
    )
