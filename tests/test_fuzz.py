"""Files of a run that are damaged in every way, and every verb on what is left.

Whatever was done to a directory, a verb refuses it in one sentence, or gives what it gives of the
sound one, or names the file and says what it left out: never a traceback, a hang, or another result
without a word.
"""

import collections
import contextlib
import dataclasses
import io
import itertools
import json
import re
import shutil
import signal

import jax
import numpy as np
import pytest

import jaxdrl
from damages import DAMAGES
from jaxdrl.cli import main
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import with_settings
from jaxdrl.errors import ConfigError
from jaxdrl.runs.metrics_log import sha256
from small_runs import CARTPOLE, PPO
from small_sweeps import WAVES

pytestmark = pytest.mark.usefixtures("compile_cache")

SECONDS = 120
"""After which a verb hangs."""

SMALL = "--devices 2 --num-envs 16 --num-minibatches 2 --hidden-sizes 8"


# The verbs, each `(run, out) -> result`, which is compared.


def by_command(line, result):
    def perform(run, out):
        main.main([word.format(run=run, out=out) for word in line.split()])
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
    main.main(["resume", str(run), "--total-env-steps", further])
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


def judge(sound, found, file):
    """The outcome beside that of the sound run, in a word."""
    if found.kind != "done":
        return found.kind
    if found.result == sound.result:
        return "same"
    return "said" if is_named(file, found.output) else "wrong"


def is_named(file, output):
    """Whether a warning has the directory and the name of a file, wherever its lines are broken."""
    _, *warnings = re.split("warning:|look:", re.sub(r"\s", "", output))
    wanted = ("" if file.parent.name == "" else f"{file.parent}/"), file.name
    return any(all(part in words for part in wanted) for words in warnings)


def make_run(directory, kind, seed):
    """A run of seconds, with everything that verbs leave in its directory."""
    settings = {
        "run": CARTPOLE,
        "population": dataclasses.replace(
            CARTPOLE,
            algorithm=with_settings(PPO, reproducible=True),
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


def shows_as_it_is(sound, damaged, damage, verb):
    """Whether a verb cannot know that a file is not as it was.

    So are a whole one of another run that stands by itself, and lines of metrics that came after
    the last checkpoint, as those of a run that goes on do.
    """
    if verb in ("config", "best", "load_policy"):
        return damage == "of another run"
    if verb not in ("watch", "plot") or sound.name != "metrics.jsonl" or not damaged.is_file():
        return False
    manifest = max((sound.parent / "checkpoints").glob("*/manifest.json"))
    num = json.loads(manifest.read_text())["progress"]["log"]["files"][sound.name]["bytes"]
    with damaged.open("rb") as file:
        return file.read(num) == sound.read_bytes()[:num]


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
        as_it_is = shows_as_it_is(run / file, copy / file, damage, verb)
        found = perform(verb, copy, tmp_path / "out")
        word = judge(sound[verb], found, file)
        if word == "wrong" and as_it_is:
            word = "shown"
        counts[word] += 1
        if word not in ("same", "refused", "said", "shown"):
            print(word, kind, file, damage, verb, found.result[-200:], flush=True)
            bad.append((word, kind, str(file), damage, verb, found.result, found.output[-300:]))
        shutil.rmtree(copy, ignore_errors=True)
    return counts, bad


def test_a_damaged_file_is_refused_or_changes_nothing(tmp_path):
    counts, bad = fuzz(tmp_path, "run", QUICK, 60)
    assert bad == []
    assert counts["refused"] + counts["said"] >= 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "population", "waves"])
def test_every_file_every_damage_and_every_verb(tmp_path, kind):
    counts, bad = fuzz(tmp_path, kind, VERBS, 250)
    print(f"{kind}: {dict(counts)}", flush=True)
    assert bad == []
