"""The `jaxdrl` command, and the command line of the experiment scripts."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxdrl.cli.exits import FAILED, answer
from jaxdrl.cli.flags import FLAT, AlgorithmName, ConfigFile, Flags, with_known
from jaxdrl.config.algorithms import DEFAULT
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.sweep_flags import SweepFlags


def main(args: Sequence[str] | None = None) -> None:
    """Distributed reinforcement learning in JAX: train on every device of this host."""
    answer(lambda: _cli(list(sys.argv[1:] if args is None else args)))


def _cli(args: list[str]) -> None:
    app = tyro.extras.SubcommandApp()
    for function in (train, sweep):
        app.command(name=function.__name__, help=_summary(function))(with_known(function, args))
    others: tuple[Any, ...] = (resume, evaluate, plot, render, export, watch, doctor, envs, check)
    for verb in others:
        app.command(verb)
    config = (tyro.conf.PositionalRequiredArgs, *FLAT)
    app.cli(prog="jaxdrl", description=main.__doc__, args=args, config=config)


def _summary(function: Callable) -> str:
    return (inspect.getdoc(function) or "").partition("\nArgs:")[0]


def train(
    experiment: Flags, *, algorithm: AlgorithmName = DEFAULT, config: ConfigFile = None
) -> None:
    """Train on an environment, evaluate, and write a run directory.

    The flags are laid over the settings that are known to work for it, which `--help` after its
    name shows; with `--config FILE` over those of a file, such as the config.json of a run or the
    best.json of a sweep.
    """
    from jaxdrl.launch import run

    _require_written(run(experiment))


def sweep(
    settings: Annotated[SweepFlags, tyro.conf.arg(name="")],
    experiment: Flags,
    *,
    algorithm: AlgorithmName = DEFAULT,
    config: ConfigFile = None,
) -> None:
    """Train many agents at once that differ in settings and seeds, and rank the settings.

    A value fixes a setting, and LOW:HIGH or log:LOW:HIGH varies one that is a float:
    --gamma 0.99 --learning-rate log:1e-4:1e-2.

    One program trains them all, on every device, or with --shape one program after another.
    Results: a table, the best settings as a file for `train --config`, and pictures of what each
    setting does. All verbs take the run directory.
    """
    from jaxdrl.launch import run

    _require_written(run(dataclasses.replace(experiment, sweep=settings.to_sweep())))


def resume(
    run_dir: tyro.conf.Positional[Path],
    *,
    devices: int | None = None,
    total_env_steps: int | None = None,
    keep_schedule: bool = False,
    checkpoint: int | Literal["best"] | None = None,
) -> None:
    """Go on with a run from its last sound checkpoint, as if nothing had happened.

    Args:
      run_dir: Directory of the run.
      devices: Another number of devices than before; None: the same.
      total_env_steps: To go further than the run was meant to, in environment steps; None: as far.
      keep_schedule: Anneal the learning rate over the length from before, not over the new one.
      checkpoint: Update of an earlier checkpoint, or best; None: the last.
    """
    from jaxdrl import launch

    length: Any = {"total_env_steps": total_env_steps, "keep_schedule": keep_schedule}
    run = launch.resume(run_dir, devices=devices, checkpoint=checkpoint, **length)
    _require_written(run)


def _require_written(run: Any) -> None:
    """Fails where the result of a run that came to its end could not be written, as was said."""
    if run is not None and not run.is_written:
        sys.exit(FAILED)


def evaluate(
    run_dir: tyro.conf.Positional[Path],
    *,
    vary: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    compare: Path | None = None,
    num_episodes: int | None = None,
    sampled: bool = False,
    member: int | None = None,
    setting: int | None = None,
    checkpoint: int | Literal["best"] | None = None,
    seed: int = 0,
    json: Path | None = None,
    out: Path | None = None,
) -> None:
    """Play whole episodes with the policy of a run, and say how good it is.

    Args:
      run_dir: Directory of the run, which may still go on.
      vary: NAME=LOW:HIGH:NUM, a parameter of the environment in so many values; twice: a grid.
      compare: Directory of another run, for the same and the difference.
      num_episodes: How many episodes; None: 1000, and 32 in each cell of a grid.
      sampled: Act by a sample instead of the most probable action.
      member: Of a sweep, the one that is meant; None: the best.
      setting: Of a sweep, in place of a member a setting by its number in the table: its best seed.
      checkpoint: Update of a checkpoint, or best; None: the last.
      seed: Seed of the episodes, of both runs.
      json: File for the figures and all returns, or those of the grid.
      out: PNG, SVG or PDF file for a curve or map of the grid.
    """
    from jaxdrl.analysis.evaluate_run import Request, main

    which = checkpoint, seed, json, out, member, setting
    main(run_dir, Request(vary, compare, num_episodes, sampled, *which))


def plot(
    run_dirs: tyro.conf.Positional[tuple[Path, ...]],
    *,
    out: Path | None = None,
    metric: str = "episode_return",
    against: Literal["env_steps", "seconds"] = "env_steps",
) -> None:
    """Draw learning curves of runs; those of the same settings become one with a band.

    Args:
      run_dirs: Directories of runs, which may still go on.
      out: PNG, SVG or PDF file; None: the terminal alone.
      metric: Any number of metrics.jsonl.
      against: What is below the curves.
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
      run_dir: Directory of the run, which may still go on.
      out: GIF or MP4 file; None: film.gif in the directory of the run.
      num_envs: Environments side by side.
      num_steps: Steps after which an episode is cut; None: the environment's own limit.
      max_frames: Frames at most; of longer episodes every 2nd step is shown, every 4th, and so on.
      fps: Frames a second; None: by their number, 5 to 30.
      sampled: Act by a sample instead of the most probable action.
      member: Of a sweep, the one that is meant; None: the best.
      setting: Of a sweep, in place of a member a setting by its number in the table: its best seed.
      checkpoint: Update of a checkpoint, or best; None: the last.
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
    """Write the policy of a run as one file, for programs that have JAX and nothing of ours.

    Args:
      run_dir: Directory of the run, which may still go on.
      out: The file; None: policy.zip in the directory of the run.
      member: Of a sweep, the one that is meant; None: the best.
      setting: Of a sweep, in place of a member a setting by its number in the table: its best seed.
      checkpoint: Update of a checkpoint, or best; None: the last.
    """
    from jaxdrl.analysis.export import main

    main(run_dir, out, checkpoint, member, setting)


def watch(run_dir: tyro.conf.Positional[Path], *, once: bool = False, seconds: float = 1.0) -> None:
    """Show a running or finished run in the terminal: curves, speed, and what looks ill.

    Args:
      run_dir: Directory of the run.
      once: Show it as it stands and end, as where the output is no terminal.
      seconds: Time between two looks.
    """
    from jaxdrl.analysis.watch import main
    from jaxdrl.checks import require_number

    require_number("seconds", seconds, low=0, above=True)
    main(run_dir, once=once, seconds=seconds)


def doctor(env: tyro.conf.Positional[str] = "CartPole-v1", *, seconds: float = 1.0) -> None:
    """Tell what machine this is, what is misconfigured, and how it trains fastest.

    Args:
      env: Environment to measure with.
      seconds: Length of each measurement, after the compilation.
    """
    from jaxdrl.cli.doctor import main

    main(env, seconds)


def envs(suite: tyro.conf.Positional[str | None] = None) -> None:
    """List the suites of environments, or the environments of one with their spaces and limits.

    Args:
      suite: Name of the suite, gymnax or one that is an extra; None: all suites.
    """
    from jaxdrl.cli.list_envs import main

    main(suite)


def check(
    env: tyro.conf.Positional[str],
    *,
    env_params: dict[str, float | str] = {},  # noqa: B006
    num_envs: int = 8,
    num_steps: int | None = None,
) -> None:
    """Play an environment at random and tell whether it keeps the contract that training relies on.

    Args:
      env: Name of the environment.
      env_params: Parameters of the environment other than its defaults: NAME VALUE ...
      num_envs: Copies that are played.
      num_steps: Steps of each; None: enough for two episodes, at most 512.
    """
    from jaxdrl.envs.contract.check import main

    if not main(env, env_params, num_envs, num_steps):
        sys.exit(FAILED)


def run_script(experiment: Experiment, description: str | None) -> None:
    """Runs `experiment` with the flags of the command line laid over it.

    Args:
      experiment: the config literal of the script.
      description: what `--help` says of it.
    """
    answer(
        lambda: train(
            tyro.cli(Experiment, default=experiment, description=description, config=FLAT)
        )
    )
