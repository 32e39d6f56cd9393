"""The plan of a run: everything that it is made of, decided before anything is compiled or written.

`plan` makes it of a config, `plan_resume` of a run directory. What either gives is final.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxdrl.checks import require
from jaxdrl.config.algorithms import can_start_from, kind_of
from jaxdrl.config.experiment import Experiment, default_run_dir, resolve
from jaxdrl.core.keys import abstract_key
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.io.console import say
from jaxdrl.io.safe_files import remove, set_aside
from jaxdrl.runs import acting, backend, checkpoint_manager, finite_states, memory, together
from jaxdrl.runs import checkpoint as checkpoints
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.assemble import Setup, Start, assemble, load_state
from jaxdrl.runs.changes import Changes, extend, idle_words, schedule_words
from jaxdrl.runs.checkpoint_binding import require_logs, require_of_run
from jaxdrl.runs.nested import folder_of, id_of_whole, require_part, whole_of
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.session import Session
from jaxdrl.runs.trackers import require_installed


@contextlib.contextmanager
def plan(experiment: Experiment, overrides: Overrides, session: Session) -> Iterator[Setup]:
    """The setup of a new run, whose directory nobody else writes to within the block.

    Raises:
      ConfigError: if it cannot work; nothing is written then.
    """
    experiment, console, hosts = resolve(experiment), session.console, session.hosts
    together.require_same_run(hosts, experiment, overrides.names)
    if experiment.run_dir is not None:
        hosts.first("free", partial(files.require_free, experiment.run_dir))
    require_installed(experiment.track if hosts.is_first else ())
    setup = assemble_on_devices(experiment, overrides, session)
    start = Start(warm_start=load_warm_start(setup, session))
    budget = memory.plan(setup.experiment, setup.algorithm, setup.mesh)
    budget = together.least_memory(hosts, budget)
    experiment = memory.in_waves(setup.experiment, budget)
    budget = memory.of_wave(experiment, budget)
    if words := idle_words(experiment, overrides):
        say(console, words)
    if folder_of(experiment.sweep) is None:  # else each part sees whether it fits
        say(console, memory.check(experiment, budget))
    together.require_one_part(hosts, experiment)
    run_dir = Path(hosts.first("run_dir", lambda: str(_make_run_dir(experiment))))
    session.run_dir = session.run_dir or run_dir
    with together.claim_together(run_dir, session) as claimed:
        hosts.first("free", partial(files.require_free, run_dir))
        experiment = replace(experiment, run_dir=run_dir)
        origin = hosts.first("origin", lambda: files.new_origin(id_of_whole(run_dir))._asdict())
        origin = files.Origin(**origin)
        yield replace(
            setup, experiment=experiment, origin=origin, start=start, memory=budget, claim=claimed
        )


def _make_run_dir(experiment: Experiment) -> Path:
    return experiment.run_dir or files.make_new(default_run_dir(experiment))


@contextlib.contextmanager
def plan_resume(
    stored: files.StoredRun,
    run_dir: Path,
    overrides: Overrides,
    changes: Changes,
    session: Session,
) -> Iterator[Setup]:
    """The setup of a run that is resumed; what came after its checkpoint is dropped.

    Args:
      stored: what its `config.json` says.
      run_dir: its directory.
      overrides: as in `jaxdrl.resume`.
      changes: likewise.
      session: that it is resumed in.

    Raises:
      ConfigError: if it cannot be resumed; the directory is as it was then.
    """
    console, hosts = session.console, session.hosts
    together.require_same_run(hosts, stored.experiment, overrides.names, changes)
    together.require_one_part(hosts, stored.experiment)
    with together.claim_together(run_dir, session) as claimed:
        require_part(run_dir, stored)
        path, manifest = _choose_together(run_dir, stored, changes.checkpoint, session)
        update = Start(manifest).update
        before = replace(stored.experiment, run_dir=run_dir)
        experiment = extend(before, changes, update)
        setup = assemble_on_devices(experiment, overrides, session, stored, changes)
        budget = memory.plan(setup.experiment, setup.algorithm, setup.mesh)
        budget = together.least_memory(hosts, budget)
        say(console, memory.check(setup.experiment, budget))
        if path is None:
            start = Start(warm_start=load_warm_start(setup, session))
        else:
            start = Start(manifest, load_state(setup, path, stored))
        where = f" ({path})" if path else ", the start: it ended before its first checkpoint"
        say(console, f"resuming from update {update}{where}")
        if words := schedule_words(before, experiment, overrides):
            say(console, words)
        dropped = _drop_what_came_after if hosts.is_first else _drop_nothing
        for kept in dropped(run_dir, update):
            words = "it ended before its first checkpoint and starts again; its lines so far"
            session.warn(f"{words} are kept in {kept}")
        yield replace(setup, start=start, memory=budget, claim=claimed)


def assemble_on_devices(
    experiment: Experiment,
    overrides: Overrides,
    session: Session,
    stored: files.StoredRun | None = None,
    changes: Changes | None = None,
) -> Setup:
    """`assemble`, with a mesh over the devices that the experiment asks for.

    A run that is resumed keeps its number of devices only where these processes have as many.
    """
    console, num_shards = session.console, experiment.algorithm.execution.num_shards
    is_wish = changes is not None and changes.devices is None
    # Before gymnax is imported, which starts the backend.
    beside = acting.require_possible(experiment, overrides, session.hosts)
    mesh, words = backend.start(
        experiment.devices, num_shards, session.hosts, is_wish=is_wish, beside=beside
    )
    devices = acting.actor_devices(experiment, overrides, mesh, beside)
    say(console, words)
    if overrides.env is None:
        console.print(f"loading {experiment.env}")
    num_devices = int(mesh.devices.size)
    if experiment.sweep is not None:
        along = math.gcd(num_devices, experiment.sweep.num_members)
        mesh = make_mesh(num_devices, population=along)
    setup = assemble(replace(experiment, devices=num_devices), overrides, mesh, stored)
    if devices:
        words = acting.describe(experiment.acting, setup.env, devices, mesh)
        say(console, words)
    return replace(setup, actor_devices=tuple(devices))


def load_warm_start(setup: Setup, session: Session) -> dict[str, Any] | None:
    """Parameters and statistics in the last checkpoint of `from_run`, None without such a run.

    Raises:
      ConfigError: if it is not a run, or a sweep, or of an algorithm with parameters of another
        meaning, or was trained on other spaces, another network or another normalisation.
    """
    run_dir = setup.experiment.from_run
    if run_dir is None:
        return None
    stored = files.read_run(run_dir, setup.overrides.config_type)
    works = f"name a run of one agent, such as that of `jaxdrl train --config {whole_of(run_dir)}"
    works = f"is a sweep, each member of which has parameters of its own; {works}/best.json`"
    require(stored.experiment.sweep is None, "from", str(run_dir), works)
    there, here = (kind_of(e.algorithm) for e in (stored.experiment, setup.experiment))
    works = f"is a run of {there}, whose parameters {here} cannot use; name a run of {here}"
    require(can_start_from(here, there), "from", str(run_dir), works)
    check = partial(require_of_run, stored.content)
    path, _ = checkpoint_manager.choose(run_dir / files.CHECKPOINTS, None, session.warn, check)
    learner = jax.eval_shape(setup.algorithm.init, abstract_key()).learner
    names = ("params", "target_params", "obs_statistics", "return_statistics")
    abstract = {"learner": {name: getattr(learner, name) for name in names}}
    what = f"{setup.env.name} with this config; --from wants the same spaces and network"
    complete = tuple(f"learner/{name}/" for name in names[:3])
    return finite_states.load(path, abstract, what, complete=complete)["learner"]


def _choose_together(
    run_dir: Path, stored: files.StoredRun, wanted: int | str | None, session: Session
) -> tuple[Path | None, dict[str, Any] | None]:
    """`_choose_checkpoint` of process 0, in all processes."""
    found: list[tuple[Path | None, dict[str, Any] | None]] = []

    def choose() -> str | None:
        found.append(_choose_checkpoint(run_dir, stored, wanted, session))
        path, _ = found[0]
        return None if path is None else path.name

    name = session.hosts.first("checkpoint", choose)
    if found or name is None:
        return found[0] if found else (None, None)
    path = run_dir / files.CHECKPOINTS / name
    return path, checkpoints.read_manifest(path)


def _drop_what_came_after(run_dir: Path, update: int) -> list[Path]:
    """Removes the result and later checkpoints: they will be written again, or are damaged.

    Before the first update the logs are renamed; their new names are returned.
    """
    directory = run_dir / files.CHECKPOINTS
    checkpoints.remove_unfinished(directory)
    for later in checkpoints.updates_in(directory):
        if later > update:
            checkpoints.remove(directory, later)
    remove(run_dir / files.RESULT_FILE)
    logs = [run_dir / name for name in files.LOG_FILES] if update == 0 else []
    return [set_aside(path) for path in logs if path.exists()]


def _drop_nothing(run_dir: Path, update: int) -> list[Path]:
    return []


def _choose_checkpoint(
    run_dir: Path, stored: files.StoredRun, wanted: int | str | None, session: Session
) -> tuple[Path | None, dict[str, Any] | None]:
    """`(path, manifest)` of the checkpoint to resume from.

    None for both where the run ended before its first one.
    """
    directory = run_dir / files.CHECKPOINTS
    has_saved = (run_dir / files.RESULT_FILE).exists() or stored.origin.has_checkpoints
    if wanted is None and not checkpoints.updates_in(directory) and not has_saved:
        return None, None
    check = partial(require_of_run, stored.content)
    path, manifest = checkpoint_manager.choose(directory, wanted, session.warn, check)
    require_logs(run_dir, path, manifest)  # before anything is changed
    return path, manifest
