"""`jaxdrl render`: a film of whole episodes, played by the policy of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import optax
from flax import linen as nn
from PIL import Image

from jaxdrl.algorithms.build import MakeAlgorithm
from jaxdrl.analysis import film_writer
from jaxdrl.analysis.evaluate_run import STREAM
from jaxdrl.annotations import Bounds
from jaxdrl.checks import Count, Index, Seed, check_fields, checked, require
from jaxdrl.core.keys import make_key, pinned
from jaxdrl.core.types import Network
from jaxdrl.envs import Environment, make
from jaxdrl.envs.domain_randomization import unwrapped
from jaxdrl.envs.drawing.canvas import BLUE, LIGHT, VERMILLION
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.episodes import DEFAULT_MAX_STEPS
from jaxdrl.evaluation.host_playback import require_drawn
from jaxdrl.evaluation.moments import Moment, require_picture
from jaxdrl.evaluation.playback import record
from jaxdrl.io.console import make_console, say
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import printable
from jaxdrl.runs import backend
from jaxdrl.runs.assemble import read_stored
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import load_player
from jaxdrl.runs.run_dir import read_run
from jaxdrl.runs.sweep_members import Member

MAX_ENVS = 36
"""With more environments, nothing could be recognised."""


@dataclass(frozen=True)
class Film:
    """The result of `jaxdrl render`: the file, and its content."""

    path: Path
    title: str
    moments: list[Moment]
    fps: int
    member: Member | None = None


@checked
def render_run(
    run_dir: Path | str,
    out: Path | str | None = None,
    *,
    num_envs: int = 1,
    num_steps: int | None = None,
    max_frames: int = 300,
    fps: int | None = None,
    greedy: bool = True,
    checkpoint: int | str | None = None,
    member: Index | None = None,
    setting: Index | None = None,
    seed: int = 0,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    make_algorithm: MakeAlgorithm | None = None,
) -> Path:
    """Makes a film of whole episodes, played by the policy in a checkpoint of a run.

    These are the episodes that `jaxdrl.evaluate_run` plays with the same seed and number of
    episodes. A frame shows every environment with its return and step; when an episode is over, its
    last state stays. If there would be more than `max_frames`, only every 2nd step is shown, or
    every 4th and so on, and always the last.

    Args:
      run_dir: directory of the run, which may still be running.
      out: a GIF file, or an MP4 with the extra `video`; None for `film.gif` in the run directory.
      num_envs: number of environments side by side.
      num_steps: the step limit at which episodes are cut; None takes the environment's own limit,
        or 10,000 if it has none.
      max_frames: the most frames of the film.
      fps: frames per second; None chooses 5 to 30 such that the film takes about 10 seconds.
      greedy: whether to take the most probable action or a sample.
      checkpoint: as in `jaxdrl.restore`.
      member: as in `jaxdrl.restore`, for a sweep.
      setting: likewise.
      seed: seed of the episodes.
      env: as in `jaxdrl.restore`, for a run with an environment given in Python, or an environment
        with a `draw` for any run.
      network: as in `jaxdrl.restore`.
      optimizer: likewise.
      make_algorithm: likewise.

    Returns:
      The file.

    Raises:
      ConfigError: if the directory is not a run or has no valid checkpoint, if its environment has
        no drawing, or for another kind of file or an invalid argument.
    """
    overrides = Overrides(env, network, optimizer, make_algorithm)
    how = num_envs, num_steps, max_frames, fps, greedy
    request = Request(*how, checkpoint, seed, member, setting)
    return make_film(Path(run_dir), None if out is None else Path(out), request, overrides).path


@dataclass(frozen=True)
class Request:
    """The settings of a film, see `jaxdrl.render_run`."""

    num_envs: Annotated[int, Bounds(1, MAX_ENVS)] = 1
    num_steps: Count | None = None
    max_frames: Annotated[int, Bounds(2)] = 300
    fps: Annotated[int, Bounds(1, 50)] | None = None
    greedy: bool = True
    checkpoint: int | str | None = None
    seed: Seed = 0
    member: Index | None = None
    setting: Index | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@pinned()
def make_film(run_dir: Path, out: Path | None, request: Request, overrides: Overrides) -> Film:
    """As `render_run`, but returns the content of the film, too."""
    out = run_dir / "film.gif" if out is None else out
    film_writer.require_film(out)
    require_drawing(run_dir, overrides)
    which = request.checkpoint, request.member, request.setting
    player = load_player(run_dir, overrides, "render_run", *which)
    env = player.env
    moments = record(
        env,
        player.policy,
        player.learner,
        jax.random.fold_in(make_key(request.seed), STREAM),
        num_envs=request.num_envs,
        num_steps=request.num_steps or env.max_episode_steps or DEFAULT_MAX_STEPS,
        max_frames=request.max_frames,
        greedy=request.greedy,
    )
    how = "" if request.greedy else ", sampled"
    of_sweep = "" if player.member is None else f", member {player.member.number}"
    title = f"{printable(env.name)}, after update {player.update}{of_sweep}{how}"
    fps = request.fps or min(max(round(len(moments) / 10), 5), 30)
    film_writer.write_film(out, len(moments), frame_maker(env, title, moments), fps)
    return Film(out, title, moments, fps, player.member)


def require_drawing(run_dir: Path, overrides: Overrides) -> None:
    """Refuses a run whose environment has no drawing, before anything is read or compiled."""
    stored = read_stored(run_dir, overrides, "render_run")
    experiment = stored.experiment
    env = overrides.env or make(experiment.env, **experiment.env_params)
    if env.host is not None:
        require_drawn(env)
    elif env.draw is None:
        made, others = "my_env", [name for name in stored.overrides if name != "env"]
        if "env" not in stored.overrides:
            params = "".join(f", {name}={value!r}" for name, value in experiment.env_params.items())
            made = f"jaxdrl.make({experiment.env!r}{params})"
        again = "".join(f", {name}=my_{name}" for name in others)
        raise ConfigError(
            f"env = {env.name!r}: has no drawing; give it a function "
            "(env_state, params) -> uint8 [height, width, 3], in Python: "
            f"jaxdrl.render_run({str(run_dir)!r}, env={made}._replace(draw=my_draw){again})"
        )


def frame_maker(
    env: Environment, title: str, moments: list[Moment]
) -> Callable[[int], Image.Image]:
    """A function that makes the frame of a moment; the end of an episode is drawn only once."""
    params = jax.device_get(env.default_params)
    pictures_of_ends: dict[int, np.ndarray] = {}
    size = draw_state(env, params, moments[0], 0).shape

    def make_frame(index: int) -> Image.Image:
        moment, tiles = moments[index], []
        for i, ended in enumerate(moment.ended):
            picture = pictures_of_ends.get(i) if ended else None
            if picture is None:
                picture = draw_state(env, params, moment, i)
                works = "all pictures must have one size"
                require(picture.shape == size, f"{env.name}: draw returned", picture.shape, works)
            if ended:
                pictures_of_ends[i] = picture
            tiles.append(film_writer.Tile(picture, *captions(moment, i)))
        return film_writer.compose(title, tiles)

    return make_frame


def draw_state(env: Environment, params: Any, moment: Moment, i: int) -> np.ndarray:
    """The picture of one environment.

    Raises:
      ConfigError: if `draw` returned anything else.
    """
    if env.host is not None:
        return moment.env_state[i].unpacked()
    env_state = jax.tree.map(lambda x: x[i], moment.env_state)
    drawn = env.draw(*unwrapped(env, env_state, params))  # type: ignore[misc]
    return require_picture(env.name, drawn)


def captions(moment: Moment, i: int) -> tuple[str, str, str]:
    """The caption of an environment: left text, right text, and background colour."""
    words = f"return {short(float(moment.returns[i]))}", f"step {int(moment.lengths[i]):,}"
    if moment.terminated[i]:
        return words[0], f"terminated, {words[1]}", VERMILLION
    if moment.truncated[i]:
        return words[0], f"time limit, {words[1]}", BLUE
    return *words, LIGHT


def main(run_dir: Path, out: Path | None, request: Request) -> None:
    """Makes the film, and prints its content."""
    film_writer.require_film(out or Path("film.gif"))
    read_run(run_dir)  # before the backend starts
    backend.start(1, 1)
    console = make_console()
    with console.status("playing and drawing"):
        film = make_film(run_dir, out, request, Overrides())
    moments, last = film.moments, film.moments[-1]
    every = moments[1].num_steps
    thinned = f", every {ordinal(every)} step and the last" if every > 1 else ""
    cut = int((~last.ended).sum())
    ends = {
        "terminated": int(last.terminated.sum()),
        "at the time limit": int(last.truncated.sum()),
    }
    counts = [f"{num} {name}" for name, num in {**ends, "cut": cut}.items() if num]
    returns = ", ".join(short(value) for value in last.returns.tolist())
    if film.member is not None:
        say(console, str(film.member))
    say(
        console,
        f"{film.title}: {', '.join(counts)}, {'returns' if len(last.returns) > 1 else 'return'} "
        f"{returns}\n{len(moments)} frames{thinned}, {film.fps} per second, "
        f"{film.path.stat().st_size / 2**20:.1f} MiB",
    )
    console.print(f"film: {film.path}", soft_wrap=True)


def ordinal(num: int) -> str:
    """A power of two as an ordinal.

    >>> ordinal(2), ordinal(32), ordinal(64)
    ('2nd', '32nd', '64th')
    """
    return f"{num}{'nd' if num % 10 == 2 and num % 100 != 12 else 'th'}"
