"""A few updates of a training step traced, and the time of one by stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from jaxdrl.algorithms.sharded import STAGES
from jaxdrl.checks import Count, checked, require
from jaxdrl.io.console import say
from jaxdrl.io.json_files import write_json
from jaxdrl.io.safe_files import require_own
from jaxdrl.runs.profiling import trace_reader
from jaxdrl.runs.profiling.trace_reader import OTHER, WAITING

NUM_SKIPPED = 5
"""Updates at the start of a process that are not traced, since they are slower than later ones."""

NUM_TRACED = 3
"""Updates that a run traces: enough to tell them apart, and their files stay small."""

DIRECTORY = "profile"
"""Where a run keeps the files, in its own directory."""

BREAKDOWN_FILE = "breakdown.json"


@dataclass(frozen=True)
class Profile:
    """Where the time of an update goes.

    Attributes:
      stages: milliseconds of an update by stage, means over the devices. `a/b` is a part of `a`;
        the others add up to `traced_ms`. "other" is outside of all stages, "waiting for the host"
        the time in which a device had nothing to do. Empty where the trace has no operations.
      traced_ms: milliseconds of an update while it was traced.
      untraced_ms: of one before; None where there was none. Where operations are small and many,
        tracing them costs time.
      num_updates: updates traced.
      num_devices: devices in the trace.
      trace: the `*.trace.json.gz` file, for Perfetto; that for TensorBoard is beside it.
    """

    stages: dict[str, float]
    traced_ms: float
    untraced_ms: float | None
    num_updates: int
    num_devices: int
    trace: Path


@checked
def profile(
    step: Callable[[Any], tuple[Any, Any]],
    state: Any,
    *,
    stages: Sequence[str] | None = None,
    num_updates: Count = NUM_TRACED,
    directory: Path | str = DIRECTORY,
) -> Profile:
    """Traces a training step, jaxdrl's or your own, and says where its time goes.

    Args:
      step: `(state) -> (state, metrics)`: a function, one that is jitted, or one that is compiled.
      state: to start from; it is copied, and stays as it is where the step donates it.
      stages: scopes of `jax.named_scope` in the step; `a/b` is the scope b within a. None takes
        those of jaxdrl's algorithms that the step has.
      num_updates: updates to trace, after as many that are timed alone.
      directory: where the trace and `breakdown.json` go.

    Raises:
      ConfigError: if there are no stages, or no updates.
    """
    works = "must name at least one scope, and neither other nor waiting for the host"
    is_given = stages is not None
    wanted = STAGES if stages is None else stages
    require(bool(wanted) and not {OTHER, WAITING} & set(wanted), "stages", stages, works)
    compiled = _compile(step, state)
    text = compiled.as_text()
    wanted = wanted if is_given else trace_reader.stages_in(text, wanted)
    state, _ = _time(compiled, jax.tree.map(jnp.copy, state), NUM_SKIPPED)
    state, untraced = _time(compiled, state, num_updates)
    trace = Trace(Path(directory))
    state, traced = _time(compiled, state, num_updates)
    return break_down(trace.stop(), text, wanted, traced, untraced, num_updates)


def _compile(step: Any, state: Any) -> Any:
    """`step` as a compiled program, which it may be already."""
    if hasattr(step, "as_text"):
        return step
    with current_names():
        return (step if hasattr(step, "lower") else jax.jit(step)).lower(state).compile()


def _time(step: Callable, state: Any, num_updates: int) -> tuple[Any, float]:
    """`(state, seconds of an update)`; two updates at most are on their way at once."""
    before = None
    started = time.perf_counter()
    for _ in range(num_updates):
        state, metrics = step(state)
        jax.block_until_ready(before)
        before = metrics
    state = jax.block_until_ready(state)
    return state, (time.perf_counter() - started) / num_updates


@contextlib.contextmanager
def current_names(wanted: bool = True) -> Iterator[None]:
    """Takes no program from the cache on disk whose operations have other names than the source."""
    name = "jax_compilation_cache_include_metadata_in_key"
    before = jax.config.values[name]
    jax.config.update(name, wanted or before)
    try:
        yield
    finally:
        jax.config.update(name, before)


class Trace:
    """A trace that has started; the devices have to be idle when it starts and when it stops."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        require_own(directory)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # calls of Python would slow down the host
        jax.profiler.start_trace(directory, profiler_options=options)
        self.window = jax.profiler.TraceAnnotation(trace_reader.WINDOW)
        self.window.__enter__()

    def stop(self) -> Path:
        """Writes the files; the `.trace.json.gz` one."""
        self.window.__exit__(None, None, None)
        jax.profiler.stop_trace()
        found = self.directory.glob("plugins/profile/*/*.trace.json.gz")
        return max(found, key=lambda path: path.stat().st_mtime_ns)


def break_down(
    trace: Path,
    text: str,
    stages: Sequence[str],
    traced: float,
    untraced: float | None,
    num_updates: int,
) -> Profile:
    """Reads a trace and writes `breakdown.json`; the times are seconds of an update."""
    space = trace.with_name(trace.name.removesuffix(".trace.json.gz") + ".xplane.pb")
    seconds, num_devices = trace_reader.measure(space, text, stages)
    own = {name: 1e3 * value / num_updates for name, value in seconds.items()}
    whole = {
        name: sum(ms for part, ms in own.items() if f"{part}/".startswith(f"{name}/"))
        for name in own
    }
    untraced_ms = None if untraced is None else 1e3 * untraced
    found = Profile(whole, 1e3 * traced, untraced_ms, num_updates, num_devices, trace)
    content = {k: v for k, v in vars(found).items() if k != "trace"}
    write_json(trace.parents[3] / BREAKDOWN_FILE, content)
    return found


def show(console: Console, found: Profile) -> None:
    """Prints a breakdown, and what opens its trace."""
    untraced = "" if found.untraced_ms is None else f" ({found.untraced_ms:,.1f} ms untraced)"
    say(
        console,
        f"profile: {found.traced_ms:,.1f} ms an update{untraced}, mean of {found.num_updates} "
        f"updates on {found.num_devices} device(s)",
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    for name, ms in found.stages.items():
        share = ms / found.traced_ms
        *above, own = name.split("/")
        table.add_row(
            "  " * len(above) + own, f"{ms:,.2f}", f"{share:.1%}", "█" * round(30 * share)
        )
    if found.untraced_ms is not None:
        cost = found.traced_ms - found.untraced_ms
        figures = ("none", "") if cost < 0 else (f"{cost:,.2f}", f"{cost / found.traced_ms:.1%}")
        table.add_row("of which tracing", *figures, "most of it where operations are small")
    if found.stages:
        console.print(table)
    else:
        console.print("the trace has no operations that can be told apart on this kind of device")
    console.print(
        f"trace: {found.trace} (open in https://ui.perfetto.dev)\n"
        f"or: tensorboard --logdir {found.trace.parents[3]} (pip install tensorboard xprof)",
        soft_wrap=True,
    )
