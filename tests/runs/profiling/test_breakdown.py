"""Where the time of an update goes: of a run with `--profile`, and of a step of one's own."""

import contextlib
import gzip
import io
import json
import time
import types
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxdrl
from jaxdrl.algorithms.sharded import STAGES
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.errors import ConfigError
from jaxdrl.io.console import warner
from jaxdrl.runs.profiling import breakdown
from jaxdrl.runs.profiling.breakdown import NUM_SKIPPED, NUM_TRACED, profile
from jaxdrl.runs.profiling.trace_reader import OTHER, WAITING
from jaxdrl.runs.profiling.tracer import Tracer, tracer_of
from jaxdrl.runs.session import Session
from jaxdrl.runs.stopping import Signals
from jaxdrl.runs.stopwatch import Stopwatch
from small_runs import CARTPOLE

LONG = replace(CARTPOLE, total_env_steps=10 * 128, evaluate_every=None, profile=True)

TRACER = "jaxdrl.runs.profiling.tracer"


def run_quietly(experiment):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        run = jaxdrl.run(experiment)
    return run, output.getvalue()


def events_of(directory):
    (path,) = directory.glob("plugins/profile/*/*.trace.json.gz")
    with gzip.open(path) as file:
        return [e for e in json.load(file)["traceEvents"] if e.get("ph") == "X"]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    return run_quietly(replace(LONG, run_dir=tmp_path_factory.mktemp("runs") / "run"))


def test_a_run_writes_files_that_open(profiled):
    run, printed = profiled
    directory = run.run_dir / "profile"
    assert len(events_of(directory)) > 100
    assert len(list(directory.glob("plugins/profile/*/*.xplane.pb"))) == 1
    assert f"trace: {directory}/plugins/" in printed
    assert f"tensorboard --logdir {directory} " in printed


def test_a_run_says_where_its_time_goes(profiled):
    run, printed = profiled
    found = json.loads((run.run_dir / "profile" / "breakdown.json").read_text())
    assert found["num_updates"] == NUM_TRACED
    assert found["num_devices"] == 2
    stages = found["stages"]
    assert list(stages) == [*STAGES, OTHER, WAITING]
    assert all(stages[name] > 0 for name in STAGES)
    assert stages["rollout"] > stages["rollout/policy"] + stages["rollout/environment"]
    assert stages[OTHER] < 0.5 * found["traced_ms"]
    total = sum(ms for name, ms in stages.items() if "/" not in name)
    assert total == pytest.approx(found["traced_ms"], rel=0.1)
    assert found["untraced_ms"] > 0
    assert f"profile: {found['traced_ms']:,.1f} ms an update (" in printed
    assert "\n  policy " in printed


@pytest.mark.parametrize(
    ("untraced", "row"),
    [(6.0, "of which tracing 4.00 40.0% most"), (12.0, "of which tracing none most"), (None, "")],
)
def test_what_tracing_cost_is_said_beside_the_shares(untraced, row):
    console = Console(file=io.StringIO(), width=120)
    stages = {"rollout": 7.0, "optimizer": 3.0}
    found = breakdown.Profile(stages, 10.0, untraced, 3, 1, Path("a/b/c/d/e.trace.json.gz"))
    breakdown.show(console, found)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert any(line.startswith("optimizer 3.00 30.0% ") for line in lines)
    assert any(line.startswith(row) for line in lines)
    assert ("tracing" in console.file.getvalue()) == (untraced is not None)


def test_a_run_does_not_depend_on_it(profiled, tmp_path):
    plain, _ = run_quietly(replace(LONG, run_dir=tmp_path / "run", profile=False))
    assert plain.result["state_sha256"] == profiled[0].result["state_sha256"]
    assert not (plain.run_dir / "profile").exists()


def test_a_run_that_is_traced_already_is_not_traced_again(profiled):
    experiment = replace(LONG, run_dir=profiled[0].run_dir)
    assert tracer_of(planned(experiment), None, None, Stopwatch()) is None


def planned(experiment, done=0):
    """A plan of `experiment` after `done` updates."""
    algorithm, start = types.SimpleNamespace(stages=STAGES), types.SimpleNamespace(update=done)
    fields = {"algorithm": algorithm, "start": start, "run_dir": experiment.run_dir}
    return types.SimpleNamespace(experiment=experiment, **fields)


def session_on(console):
    return Session(None, console, warner(console), Signals(), Hosts())


@pytest.mark.parametrize(("num_updates", "done"), [(1, 0), (NUM_SKIPPED, 0), (9, 7)])
def test_a_run_that_is_too_short_says_so(tmp_path, num_updates, done):
    console = Console(file=io.StringIO())
    short = replace(LONG, run_dir=tmp_path / "run", total_env_steps=128 * num_updates)
    program = types.SimpleNamespace(as_text=lambda: "")
    setup = planned(short, done)
    tracer = tracer_of(setup, session_on(console), program, Stopwatch())
    words = f"warning: profile: nothing is traced: {num_updates - done} updates are too few"
    assert console.file.getvalue().replace("\n", " ").startswith(words)
    for update in range(done, num_updates + 1):
        tracer.look(update, None, num_updates)
    assert not (tmp_path / "run").exists()


def make_tracer(**counts):
    session = session_on(Console(file=io.StringIO()))
    return Tracer(session, Stopwatch(), Path("profile"), "", STAGES, **counts)


class Traced:
    """Stands in for a trace; notes when it starts and stops."""

    def __init__(self, events, update):
        self.events, self.update = events, update

    def stop(self):
        self.events.append(("stop", self.update()))


def traced_updates(monkeypatch, num_updates, evaluate_every, done=0, stop_after=None):
    """`(update before, last update)` of each trace in a run of so many updates."""
    events, now = [], [done]

    def start(directory):
        events.append(("start", now[0]))
        return Traced(events, lambda: now[0])

    monkeypatch.setattr(f"{TRACER}.Trace", start)
    monkeypatch.setattr(f"{TRACER}.break_down", lambda *args: events.append(("read", now[0])))
    monkeypatch.setattr(f"{TRACER}.show", lambda *args: None)
    tracer = make_tracer(done=done, num_updates=num_updates, evaluate_every=evaluate_every)
    every = evaluate_every or num_updates
    while now[0] < num_updates:
        last = min((now[0] // every + 1) * every, num_updates)
        tracer.begin(now[0], None, last)
        for update in range(now[0] + 1, last + 1):
            now[0] = update
            tracer.look(update, None, last)
            if update == stop_after:
                tracer.close()
                return events
        tracer.close()
    return events


@pytest.mark.parametrize(
    ("run", "first", "last"),
    [
        ((100, None), 5, 8),
        ((100, None, 40), 45, 48),
        ((100, 4), 5, 8),
        ((100, 3), 6, 9),  # after update 5, an evaluation would come too soon
        ((100, 2), 6, 8),
        ((100, 1), 5, 6),
        ((6, None), 5, 6),
        ((7, 3), 6, 7),
    ],
)
def test_which_updates_a_run_traces(monkeypatch, run, first, last):
    expected = [("start", first), ("stop", last), ("read", last)]
    assert traced_updates(monkeypatch, *run) == expected


def test_a_trace_that_a_signal_cuts_short_is_closed(monkeypatch):
    found = traced_updates(monkeypatch, 100, None, stop_after=6)
    assert found == [("start", 5), ("stop", 6)]


def test_a_trace_that_cannot_start_stops_no_run(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("Profile has already been started.")

    monkeypatch.setattr(jax.profiler, "start_trace", fail)
    tracer = make_tracer(done=0, num_updates=100, evaluate_every=None)
    for update in range(100):
        tracer.look(update, None, 100)
    tracer.close()
    printed = tracer.console.file.getvalue()
    assert printed.count("profile: no trace: Profile has already been started.") == 1


def test_the_work_of_a_trace_is_no_time_of_training(monkeypatch):
    tracer, found = make_tracer(done=0, num_updates=100, evaluate_every=None), []

    def seconds_meanwhile(*args):
        before = tracer.stopwatch.seconds
        time.sleep(0.001)
        found.append(tracer.stopwatch.seconds - before)
        return Path("trace")

    def start(directory):
        seconds_meanwhile()
        return types.SimpleNamespace(stop=seconds_meanwhile)

    monkeypatch.setattr(f"{TRACER}.Trace", start)
    monkeypatch.setattr(f"{TRACER}.break_down", seconds_meanwhile)
    monkeypatch.setattr(f"{TRACER}.show", seconds_meanwhile)
    with tracer.stopwatch.running():
        seconds_meanwhile()  # the control
        for update in range(100):
            tracer.look(update, None, 100)
    assert found[0] > 0
    assert found[1:] == [0.0] * 4


def test_a_trace_that_cannot_be_written_stops_no_run(monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"{TRACER}.Trace", lambda _: types.SimpleNamespace(stop=fail))
    tracer = make_tracer(done=0, num_updates=100, evaluate_every=None)
    for update in range(100):
        tracer.look(update, None, 100)
    printed = tracer.console.file.getvalue()
    assert printed.count("profile: the trace could not be written or read: [Errno 28]") == 1


# A step of one's own


def work(x, times):
    return jax.lax.fori_loop(0, times, lambda _, x: jnp.tanh(x @ x.T) @ x, x)


def step(x):
    with jax.named_scope("light"):
        x = work(x, 4)
    with jax.named_scope("heavy"):
        x = work(x, 200)
    return x, {"mean": x.mean()}


def test_a_step_of_ones_own_is_broken_down(tmp_path):
    state, own = jnp.ones((96, 96)) / 96, jax.jit(step, donate_argnums=0)
    ratio = 0.0
    for i in range(5):  # other processes may have the core during a stage
        directory = tmp_path / str(i)
        found = profile(own, state, stages=("light", "heavy"), directory=directory)
        assert list(found.stages) == ["light", "heavy", OTHER, WAITING]
        ratio = found.stages["heavy"] / found.stages["light"]
        if 20 < ratio < 125:
            break
    assert 20 < ratio < 125
    assert sum(found.stages.values()) == pytest.approx(found.traced_ms, rel=0.1)
    assert found.num_devices == 1
    assert len(events_of(directory)) > 100
    assert json.loads((directory / "breakdown.json").read_text())["stages"] == found.stages
    np.testing.assert_array_equal(state, np.full((96, 96), np.float32(1) / 96))  # not taken


def test_names_of_a_program_on_disk_are_not_taken_for_those_of_the_source(tmp_path):
    def named(name):
        def step(x):
            with jax.named_scope(name):
                return jnp.tanh(x @ x.T) @ x, {}

        return breakdown._compile(step, jnp.ones((8, 8))).as_text()

    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    try:
        for name, value in zip(names, (str(tmp_path), 0.0), strict=True):
            jax.config.update(name, value)
        assert "/first/" in named("first")
        assert "/second/" in named("second")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_updates": 0}, "num_updates = 0: "),
        ({"stages": ()}, "stages = (): must name at least one scope"),
        ({"stages": ("other",)}, "stages = ('other',): must name at least one scope"),
    ],
)
def test_bad_values_are_refused(given, words):
    with pytest.raises(ConfigError) as caught:
        profile(step, jnp.ones((8, 8)), **given)
    assert str(caught.value).startswith(words)
