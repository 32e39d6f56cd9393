"""The `jaxdrl` command, and the command line of the experiment scripts."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxdrl.cli.evaluate_flags import evaluate
from jaxdrl.cli.exits import FAILED, answer
from jaxdrl.cli.flags import (
    FLAT,
    AlgorithmName,
    ConfigFile,
    Env,
    EnvIfAny,
    Flags,
    Metric,
    Params,
    Resume,
    Runs,
    SuiteIfAny,
    require_verb,
    with_known,
)
from jaxdrl.cli.help import first_paragraph, fitted, registry, versions, whole_description
from jaxdrl.cli.launch_processes import launch, require_separator
from jaxdrl.cli.next_steps import conclude
from jaxdrl.cli.serve_flags import serve
from jaxdrl.config.algorithms import DEFAULT
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.sweep_flags import SweepFlags


def main(args: Sequence[str] | None = None) -> None:
    """Distributed reinforcement learning in JAX: train on every device of one host or many.

    `jaxdrl VERB --help` explains a verb, `jaxdrl --version` prints versions, and
    `jaxdrl --tyro-print-completion bash` (or zsh) a script that completes verbs and flags.
    """
    answer(lambda: _cli(list(sys.argv[1:] if args is None else args)))


def _cli(args: list[str]) -> None:
    if args == ["--version"]:
        print(versions())
        return
    args = args or ["--help"]
    require_separator(args)
    app = tyro.extras.SubcommandApp()
    has_verb = bool(args) and not args[0].startswith("-")
    describe = whole_description if has_verb else first_paragraph
    looking = (evaluate, plot, render, export, watch, serve)
    others: tuple[Any, ...] = (resume, launch, *looking, doctor, envs, check)
    if has_verb:
        require_verb(args[0], [verb.__name__ for verb in (train, sweep, *others)])
    for function in (train, sweep):
        known = with_known(function, args)
        app.command(name=function.__name__, help=describe(function))(known)
    for verb in others:
        app.command(verb, help=describe(verb))
    config = (tyro.conf.PositionalRequiredArgs, *FLAT)
    paragraphs = (inspect.getdoc(main) or "").split("\n\n")
    words = "\n\n".join(" ".join(part.split()) for part in paragraphs)
    with fitted(args):
        app.cli(prog="jaxdrl", description=words, args=args, config=config, registry=registry())


def train(
    experiment: Flags,
    *,
    algorithm: AlgorithmName = DEFAULT,
    config: ConfigFile = None,
    resume: Resume = False,
) -> None:
    """Train on an environment, evaluate, and write a run directory.

    Flags override the tuned preset of the environment, which `--help` after its name shows, or
    with `--config FILE` the settings in a file, such as the config.json of a run or the best.json
    of a sweep.
    """
    from jaxdrl.launch import run

    conclude(run(experiment, resume=resume))


def sweep(
    settings: Annotated[SweepFlags, tyro.conf.arg(name="")],
    experiment: Flags,
    *,
    algorithm: AlgorithmName = DEFAULT,
    config: ConfigFile = None,
    resume: Resume = False,
) -> None:
    """Train many agents that differ in settings and seeds, and rank the settings.

    A value fixes a setting, and LOW:HIGH or log:LOW:HIGH varies a float setting:
    --gamma 0.99 --learning-rate log:1e-4:1e-2.

    One program trains them all on every device, or with --shape one program after another. The
    results are a table, the best settings as a file for `train --config`, and pictures of the
    effect of each setting. All verbs take the run directory.
    """
    from jaxdrl.launch import run

    experiment = dataclasses.replace(experiment, sweep=settings.to_sweep())
    conclude(run(experiment, resume=resume))


def resume(
    run_dir: tyro.conf.Positional[Path],
    *,
    devices: int | None = None,
    total_env_steps: int | None = None,
    keep_schedule: bool = False,
    checkpoint: int | Literal["best"] | None = None,
) -> None:
    """Resume a run from its last valid checkpoint, as if it had never stopped.

    Args:
      run_dir: Directory of the run.
      devices: Number of devices; None: as before.
      total_env_steps: New length of the run in environment steps, to extend it; None: as before.
      keep_schedule: Anneal the learning rate over the old length of the run, not the new one.
      checkpoint: Which checkpoint to resume from, by its update, or best; None: the last.
    """
    from jaxdrl import launch

    length: Any = {"total_env_steps": total_env_steps, "keep_schedule": keep_schedule}
    run = launch.resume(run_dir, devices=devices, checkpoint=checkpoint, **length)
    conclude(run)


def plot(
    run_dirs: Runs,
    *,
    out: Path | None = None,
    metric: Metric = "episode_return",
    against: Literal["env_steps", "seconds"] = "env_steps",
) -> None:
    """Draw learning curves of runs; runs of the same settings become one curve with a band.

    Args:
      run_dirs: Directories of runs, which may still be running.
      out: PNG, SVG or PDF file; None: only the terminal.
      metric: Name of any number in metrics.jsonl.
      against: Quantity on the horizontal axis.
    """
    from jaxdrl.analysis.learning_curves import main

    main(run_dirs, out, metric, against)


def render(
    run_dir: tyro.conf.Positional[Path],
    *,
    out: Path | None = None,
    num_envs: int = 1,
    num_steps: int | None = None,
    max_frames: int = 300,
    fps: int | None = None,
    sampled: bool = False,
    member: int | None = None,
    setting: int | None = None,
    checkpoint: int | Literal["best"] | None = None,
    seed: int = 0,
) -> None:
    """Make a film of whole episodes, played by the policy of a run.

    Args:
      run_dir: Directory of the run, which may still be running.
      out: GIF or MP4 file; None: film.gif in the run directory.
      num_envs: Number of environments side by side.
      num_steps: Steps after which episodes are cut; None: the environment's own limit.
      max_frames: Maximum number of frames; longer episodes show every 2nd, 4th, 8th, ... step.
      fps: Frames per second; None: 5 to 30, for about 10 seconds.
      sampled: Sample actions, instead of greedily taking the most probable one.
      member: Number of a member of a sweep; None: the best.
      setting: Number of a setting in the table of a sweep, instead of a member: its best seed.
      checkpoint: Which checkpoint, by its update, or best; None: the last.
      seed: Seed of the episodes.
    """
    from jaxdrl.analysis.render import Request, main

    how = num_envs, num_steps, max_frames, fps, not sampled
    main(run_dir, out, Request(*how, checkpoint, seed, member, setting))


def export(
    run_dir: tyro.conf.Positional[Path],
    *,
    out: Path | None = None,
    member: int | None = None,
    setting: int | None = None,
    checkpoint: int | Literal["best"] | None = None,
) -> None:
    """Write the policy of a run as one file, for programs with JAX or with ONNX.

    Args:
      run_dir: Directory of the run, which may still be running.
      out: The file, .zip for JAX or .onnx for ONNX; None: policy.zip in the run directory.
      member: Number of a member of a sweep; None: the best.
      setting: Number of a setting in the table of a sweep, instead of a member: its best seed.
      checkpoint: Which checkpoint, by its update, or best; None: the last.
    """
    from jaxdrl.analysis.export import main

    main(run_dir, out, checkpoint, member, setting)


def watch(run_dir: tyro.conf.Positional[Path], *, once: bool = False, seconds: float = 1.0) -> None:
    """Show a running or finished run in the terminal: curves, speed, and warnings.

    Args:
      run_dir: Directory of the run.
      once: Show the current state and exit; always so if the output is not a terminal.
      seconds: Seconds between updates of the display.
    """
    from jaxdrl.analysis.watch import main
    from jaxdrl.checks import require_number

    require_number("seconds", seconds, low=0, above=True)
    main(run_dir, once=once, seconds=seconds)


def doctor(env: EnvIfAny = "CartPole-v1", *, seconds: float = 1.0) -> None:
    """Describe this machine, find faults in its set-up, and measure how it trains fastest.

    Args:
      env: Environment to measure with.
      seconds: Duration of each measurement, after compiling.
    """
    from jaxdrl.cli.doctor import main

    main(env, seconds)


def envs(suite: SuiteIfAny = None) -> None:
    """List the suites, or the environments of one suite with their spaces and limits.

    Args:
      suite: Name of the suite, such as gymnax; None: all suites.
    """
    from jaxdrl.cli.list_envs import main

    main(suite)


def check(
    env: Env,
    *,
    env_params: Params = {},  # noqa: B006
    num_envs: int = 8,
    num_steps: int | None = None,
) -> None:
    """Play an environment at random and check that it keeps the contract that training relies on.

    An environment of your own is checked in Python, by `jaxdrl.check_environment(env)`.

    Args:
      env: Name of the environment.
      env_params: Parameters of the environment that differ from its defaults: NAME VALUE ...
      num_envs: Number of copies to play.
      num_steps: Number of steps of each; None: enough for two episodes, at most 512.
    """
    from jaxdrl.envs.contract.check import main

    if not main(env, env_params, num_envs, num_steps):
        sys.exit(FAILED)


def run_script(experiment: Experiment, description: str | None) -> None:
    """Runs `experiment`, with flags of the command line overriding its settings.

    Args:
      experiment: the config literal of the script.
      description: the description that `--help` shows.
    """
    how: Any = {"description": description, "config": FLAT, "registry": registry()}

    def action() -> None:
        with fitted(sys.argv[1:]):
            given = tyro.cli(Experiment, default=experiment, **how)
        train(given)

    answer(action)
