"""What a run reports: the content of its config and result, and messages about its end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from jaxdrl.config.experiment import Experiment
from jaxdrl.config.stored import to_json
from jaxdrl.core.types import TrainState
from jaxdrl.distributed.spread import fetch
from jaxdrl.evaluation.episodes import Evaluation
from jaxdrl.io.advice import resume_call
from jaxdrl.io.console import say
from jaxdrl.io.json_files import finite, sealed, write_json
from jaxdrl.io.terminal import printable
from jaxdrl.runs import checkpoint as checkpoints
from jaxdrl.runs import env_params, memory
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.assemble import Setup, spaces_of
from jaxdrl.runs.checkpoint_manager import Saver
from jaxdrl.runs.machine import versions
from jaxdrl.runs.memory import MemoryBudget
from jaxdrl.runs.metrics_log import evaluation_figures, sha256
from jaxdrl.runs.nested import whole_of
from jaxdrl.runs.session import Session
from jaxdrl.runs.sweep_members import numbers_in_words


def out_of_memory_words(experiment: Experiment, budget: MemoryBudget, error: Exception) -> str:
    """The message for a run that ran out of memory, with what would fit."""
    first_line, needed = str(error).splitlines()[0], budget.needed.total
    free = needed if budget.free is None else min(needed, budget.free)
    less = int(0.8 * free)  # than what was not enough
    subject = memory.subject(experiment, budget, less)
    advice = memory.advice(experiment, budget, less)
    return f"out of memory with {subject}: {first_line}; {advice}"


def last_good(saver: Saver, run_dir: Path) -> str:
    """The last checkpoint before values became non-finite, once it is written."""
    saver.wait()
    if saver.last_update is None:
        return "No checkpoint was written before that"
    path = checkpoints.path_of(run_dir / files.CHECKPOINTS, saver.last_update)
    return f"The last good checkpoint is {path}"


def resume_words(saver: Saver, setup: Setup) -> str:
    """Which checkpoint is saved, and the command that resumes from it."""
    whole = whole_of(setup.run_dir)
    call = resume_call(whole, setup.overrides.names)
    if saver.last_update is not None:
        return f"The checkpoint of update {saver.last_update} is saved; resume with: {call}"
    if whole == setup.run_dir:
        return f"No checkpoint was written; start again with: {call}"
    return f"Resume with: {call}"


def describe(setup: Setup, budget: MemoryBudget) -> dict[str, Any]:
    """The content of `config.json`: everything that decides the run, resolved."""
    mesh = setup.mesh
    assert mesh is not None
    device = mesh.devices.flat[0]
    content = finite(
        {
            "format_version": files.FORMAT_VERSION,
            **setup.origin._asdict(),
            "experiment": to_json(setup.experiment) | {"env": setup.env.name},
            "env_params": env_params.describe(setup.env.default_params),
            "spaces": spaces_of(setup.env),
            "overrides": setup.overrides.names,
            "versions": versions(),
            "devices": {
                "num": int(mesh.devices.size),
                "platform": device.platform,
                "kind": device.device_kind,
                "needed_bytes": budget.needed.total,
                "is_counted": budget.needed.is_counted,
            },
        }
    )
    return sealed(content)


def summarise(
    setup: Setup,
    state: TrainState,
    evaluation: Evaluation,
    compile_seconds: float,
    train_seconds: float,
) -> dict[str, Any]:
    """The content of `result.json`."""
    experiment, mesh = setup.experiment, setup.mesh
    num_members = len(evaluation.members) or 1
    updates = int(np.max(fetch(state.learner.num_updates)))
    env_steps = updates * experiment.algorithm.env_steps_per_update
    return {
        "env": setup.env.name,
        "seed": experiment.seed,
        "devices": 1 if mesh is None else int(mesh.devices.size),
        "env_steps": env_steps,
        "updates": updates,
        "stopped_early": updates < experiment.num_updates,
        "compile_seconds": compile_seconds,
        "train_seconds": train_seconds,
        "steps_per_second": num_members * env_steps / train_seconds,
        "params_sha256": sha256(state.learner.params),
        "state_sha256": sha256(state),
        "greedy_evaluation": experiment.greedy_evaluation,
        "evaluation": evaluation_figures(evaluation),
        **({"opponents": "random"} if setup.env.is_competitive else {}),
    }


def write_result(
    session: Session, run_dir: Path, overrides: list[str], result: dict[str, Any]
) -> bool:
    """Writes `result.json` and prints the result; returns whether the file could be written."""
    try:
        write_json(run_dir / files.RESULT_FILE, result)
        return True
    except OSError as error:
        what = f"{run_dir / files.RESULT_FILE}: could not be written ({error.strerror or error})"
        call = resume_call(whole_of(run_dir), overrides)
        session.warn(f"{what}; once it can, this writes it: {call}")
        return False
    finally:
        print_result(session.console, run_dir, result)


def print_result(console: Console, run_dir: Path, result: dict[str, Any]) -> None:
    """Prints the result, and where it is."""
    num = len(result["evaluation"].get("member_returns", ()))
    of_members = f" of each of {num} members" if num else ""
    how = "greedy" if result["greedy_evaluation"] else "sampled"
    shown, whose, over = _shown(result)
    console.print(
        f"trained {result['env_steps']:,} steps{of_members} in {result['train_seconds']:.1f} s "
        f"({result['steps_per_second']:,.0f} steps/s)"
    )
    low, high = figure(shown["ci95_low"]), figure(shown["ci95_high"])
    before = f"{printable(result['env'])}: {whose}{how} mean return "
    mean, after = figure(shown["mean_return"]), f" (95% interval {low} to {high}) over {over}"
    say(console, Text.assemble(before, (mean, "bold"), after))
    console.print(f"results: {printable(run_dir)}", soft_wrap=True)


def _shown(result: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """The figures to print, whose they are, and what they are means over.

    For a sweep they are those of the best setting, not of the luckiest member.
    """
    evaluated = result["evaluation"]
    over = f"{evaluated['num_episodes']} episodes"
    if result.get("opponents") == "random":
        over += " against random players at all other seats"
    if result.get("settings"):
        row = result["settings"][0]
        members, seeds = numbers_in_words(row["members"]), len(row["members"])
        whose = f"the best setting, {row['setting']} (member{'s' if seeds > 1 else ''} {members})"
        over = over if seeds == 1 else f"its {seeds} seeds, each over {over}"
        return row, f"{whose}: ", over
    best = evaluated.get("best_member")
    return evaluated, "" if best is None else f"the best member, {best}: ", over


def figure(value: float | None) -> str:
    """A number with one digit after the point, or three where it is small."""
    if value is None or not math.isfinite(value):
        return "not finite"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"
