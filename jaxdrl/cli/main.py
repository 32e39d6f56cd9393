"""The `jaxdrl` command, and the command line of the experiment scripts."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import tyro

from jaxdrl.algorithms.settings import make_experiment
from jaxdrl.cli.exits import FAILED, answer
from jaxdrl.config.algorithms import ALGORITHMS, require_algorithm
from jaxdrl.config.experiment import Experiment, unresolve
from jaxdrl.config.sweep_flags import SweepFlags, take_ranges
from jaxdrl.runs.run_dir import read_experiment

Flags = Annotated[Experiment, tyro.conf.arg(name="")]
ConfigFile = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="FILE",
        help="Instead of ENV: config.json of a run or best.json of a sweep, whose settings the "
        "flags are laid over.",
    ),
]
"""Taken out of the arguments before they are parsed; it is declared for `--help`."""
AlgorithmName = Annotated[
    Literal["ppo"], tyro.conf.arg(help="The algorithm, whose settings the flags below are.")
]
"""Likewise."""
FLAT = (tyro.conf.OmitArgPrefixes,)
"""Every setting has a flag of its own name, nested or not."""


def main(args: Sequence[str] | None = None) -> None:
    """Distributed reinforcement learning in JAX: train on every device of this host."""
    answer(lambda: _cli(list(sys.argv[1:] if args is None else args)))


def _cli(args: list[str]) -> None:
    app = tyro.extras.SubcommandApp()
    for function in (train, sweep):
        app.command(name=function.__name__, help=_summary(function))(_of_known(function, args))
    others: tuple[Any, ...] = (resume, evaluate, plot, render, export, watch, doctor, envs, check)
    for verb in others:
        app.command(verb)
    config = (tyro.conf.PositionalRequiredArgs, *FLAT)
    app.cli(prog="jaxdrl", description=main.__doc__, args=args, config=config)


def _summary(function: Callable) -> str:
    return (inspect.getdoc(function) or "").partition("\nArgs:")[0]


def _of_known(function: Callable, args: list[str]) -> Callable:
    """`function` over the settings that an environment or a file in `args`, which lose it, has."""
    if args[:1] != [function.__name__]:
        return function
    algorithm, known = _take_value(args, "--algorithm") or "ppo", _take_config(args)
    require_algorithm(algorithm)
    defaults: dict[str, Any] = {}
    if function is sweep:
        defaults["settings"] = SweepFlags(take_ranges(args, ALGORITHMS[algorithm]()))
    if known is None and (position := _position_of_env(args)) is not None:
        known = make_experiment(args.pop(position), algorithm)
    if known is not None:
        defaults["experiment"] = known
    parameters = {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    for name, default in defaults.items():
        parameters[name] = parameters[name].replace(default=default)

    def with_known(**arguments: Any) -> None:
        function(**arguments)

    hints = get_type_hints(function, include_extras=True)
    with_known.__signature__ = inspect.Signature([*parameters.values()])  # type: ignore[attr-defined]
    with_known.__annotations__ = hints
    return with_known


def _take_config(args: list[str]) -> Experiment | None:
    """The experiment in the file that `--config` names, which `args` lose."""
    path = _take_value(args, "--config")
    return None if path is None else unresolve(read_experiment(Path(path)))


def _take_value(args: list[str], name: str) -> str | None:
    """The value of a flag, which `args` lose."""
    for i, arg in enumerate(args):
        flag, has_value, value = arg.partition("=")
        if flag == name and (has_value or i + 1 < len(args)):
            value = value if has_value else args[i + 1]
            del args[i : i + (1 if has_value else 2)]
            return value
    return None


def _position_of_env(args: list[str]) -> int | None:
    """Where the environment is named, whose settings are what the flags are laid over.

    It is the first argument that is neither a flag nor the value of one.
    """
    configs = (Experiment, SweepFlags, *ALGORITHMS.values())
    kinds = {flag: kind for config in configs for flag, kind in _kinds_of_flags(config).items()}
    i = 1
    while i < len(args):
        if not args[i].startswith("-"):
            return i
        flag, has_value, _ = args[i].partition("=")
        kind = "flag" if has_value else kinds.get(flag.replace("_", "-"), "flag")
        i += 2 if kind == "value" else 1
        while kind == "values" and i < len(args) and not args[i].startswith("-"):
            i += 1
    return None


def _kinds_of_flags(config: type) -> dict[str, str]:
    """For each flag of a config, whether it takes a "value", many "values" or is a "flag"."""
    kinds: dict[str, str] = {}
    with_extras = get_type_hints(config, include_extras=True)
    for name, hint in get_type_hints(config).items():
        is_repeated = tyro.conf.UseAppendAction in getattr(with_extras[name], "__metadata__", ())
        flag = "--" + {"from_run": "from"}.get(name, name).replace("_", "-")
        if dataclasses.is_dataclass(hint):
            kinds |= _kinds_of_flags(hint)  # type: ignore[arg-type]
        elif hint is not bool:
            takes_many = get_origin(hint) in (tuple, dict) and not is_repeated
            kinds[flag] = "values" if takes_many else "value"
    return kinds


def train(
    experiment: Flags, *, algorithm: AlgorithmName = "ppo", config: ConfigFile = None
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
    algorithm: AlgorithmName = "ppo",
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
