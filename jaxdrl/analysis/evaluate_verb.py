"""`jaxdrl evaluate`: episodes of a policy, grids of them, matches, and ratings of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxdrl.analysis import against, checkpoint_ratings, evaluation_report, robustness_map
from jaxdrl.analysis.evaluate_run import RunEvaluation, evaluate_player, vary_player
from jaxdrl.analysis.figures import require_picture
from jaxdrl.checks import EpisodeCount, Index, Seed, check_fields, require
from jaxdrl.evaluation import parameter_grid
from jaxdrl.evaluation.episodes import difference_interval
from jaxdrl.evaluation.parameter_grid import Variation, parse_variation
from jaxdrl.io.console import labelled, make_console
from jaxdrl.io.json_files import write_json
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import printable
from jaxdrl.runs import backend
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import Player, load_player, player_names, require_checkpoint
from jaxdrl.runs.run_dir import require_writable

RANDOM = "random"
"""The name of an opponent that is no run."""


@dataclass(frozen=True)
class Request:
    """The flags of `jaxdrl evaluate`."""

    vary: tuple[str, ...]
    compare: Path | None
    num_episodes: EpisodeCount | None
    sampled: bool
    checkpoint: int | str | None
    seed: Seed
    json: Path | None
    out: Path | None
    member: Index | None = None
    setting: Index | None = None
    against: str | None = None
    round_robin: bool = False
    random_moves: Index = 0

    def __post_init__(self) -> None:
        check_fields(self)


def main(run_dir: Path, request: Request) -> None:
    """Evaluates, prints, and writes the requested files."""
    _require_one_kind(request)
    if request.out is not None and request.round_robin:
        require_picture(request.out)
    elif request.out is not None:
        robustness_map.require_drawable(request.out, len(request.vary))
    if request.json is not None:
        require_writable("json", request.json)
    variations = [parse_variation(text) for text in request.vary]
    if variations:
        parameter_grid.require_grid(variations, _num_episodes(request))
    which = _which(run_dir, request)
    for one in which:  # before the backend starts
        require_checkpoint(*one)
    if request.round_robin:
        checkpoint_ratings.require_several(run_dir, request.member, request.setting)
    backend.start(1, 1)
    console = make_console()
    with console.status("playing"):
        players = [load_player(one[0], Overrides(), "evaluate_run", *one[1:]) for one in which]
        content = _content(console, players, request, variations)
    if request.json is not None:
        request.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(request.json, content)


def _content(
    console: Console, players: list[Player], request: Request, variations: list[Variation]
) -> dict[str, Any]:
    """Prints what is asked for; returns an object for JSON."""
    if request.round_robin:
        return _rate(console, players[0], request)
    if request.against is not None:
        return _play(console, players, request)
    names = player_names(players)
    act = partial(_vary, variations) if variations else _evaluate
    contents = act(console, players, names, request, _num_episodes(request))
    return dict(zip(names, contents, strict=True)) if len(contents) == 2 else contents[0]


def _num_episodes(request: Request) -> int:
    usual = 32 if request.vary else 100 if request.round_robin else 1000
    return request.num_episodes or usual


def _which(run_dir: Path, request: Request) -> list[tuple[Any, ...]]:
    """Directory, checkpoint, member and setting of each policy that is asked for."""
    which: list[tuple[Any, ...]] = [(run_dir, request.checkpoint, request.member, request.setting)]
    other = request.compare if request.against in (None, RANDOM) else Path(request.against or "")
    if other is not None:  # with its last checkpoint and best member
        which.append((other, None, None, None))
    return which


def _require_one_kind(request: Request) -> None:
    """Raises `ConfigError` for flags that do not go together."""
    kinds = {name: getattr(request, name) for name in ("against", "round_robin", "vary", "compare")}
    given = [name for name, value in kinds.items() if value not in (None, False, ())]
    is_match = bool({"against", "round_robin"} & set(given))
    for name in given[1:] if is_match else ():
        works = f"does not go with --{given[0].replace('_', '-')}; leave one of them out"
        require(False, name, str(kinds[name]), works)
    if request.round_robin:
        works = "is not for --round-robin, in which every checkpoint plays; leave it out"
        require(request.checkpoint is None, "checkpoint", request.checkpoint, works)
    works = "opens the games of --against or --round-robin; give one of them"
    require(is_match or not request.random_moves, "random_moves", request.random_moves, works)


def _vary(
    variations: list[Variation],
    console: Console,
    players: list[Player],
    names: list[str],
    request: Request,
    num_episodes: int,
) -> list[dict[str, Any]]:
    """Prints and draws maps of one or two policies; returns an object for JSON for each."""
    titles = names if len(players) == 2 else [players[0].env.name]
    how = num_episodes, not request.sampled, request.seed
    contents, grids = [], {}
    for player, title in zip(players, titles, strict=True):
        grid = grids[title] = vary_player(player, variations, *how)
        console.print(title, style="bold", soft_wrap=True)
        if player.member is not None:
            console.print(str(player.member), soft_wrap=True)
        robustness_map.show(console, grid)
        env, figures = player.env.name, parameter_grid.figures_of(grid)
        contents.append({**player.origin, "update": player.update, "env": env, **figures})
    if len(grids) == 2:
        robustness_map.show_difference(console, *grids.values())
    if request.out is not None:
        trained = {
            title: robustness_map.trained_at(player)
            for player, title in zip(players, titles, strict=True)
        }
        robustness_map.draw(grids, request.out, players[0].env.name, trained)
        console.print(f"picture: {request.out}", soft_wrap=True)
    return contents


def _evaluate(
    console: Console, players: list[Player], names: list[str], request: Request, num_episodes: int
) -> list[dict[str, Any]]:
    """Prints the evaluation of one or two policies; returns an object for JSON for each."""
    found = []
    for player, name in zip(players, names, strict=True):
        if len(players) == 2:
            console.print(name, style="bold", soft_wrap=True)
        found.append(evaluate_player(player, num_episodes, not request.sampled, request.seed))
        _show(console, found[-1])
    if len(found) == 2:
        first, second = (one.evaluation.returns for one in found)
        low, high = difference_interval(first, second)
        gain = short(float(first.mean() - second.mean()))
        words, interval = "first minus second:", f"{short(low)} to {short(high)}"
        console.print(labelled(f"{words} {gain}", f"(95% interval {interval})", "bold"))
    return [{**one.figures, "returns": one.evaluation.returns.tolist()} for one in found]


def _show(console: Console, found: RunEvaluation) -> None:
    how = "greedy" if found.greedy else "sampled"
    console.print(
        f"{printable(found.env)}, after update {found.update} ({found.env_steps:,} steps): "
        f"{found.evaluation.num_episodes:,} whole episodes, {how}"
    )
    if found.member is not None:
        console.print(str(found.member), soft_wrap=True)
    whose = evaluation_report.whose_returns(found.evaluation, found.opponents)
    if whose is not None:
        console.print(whose, soft_wrap=True)
    evaluation_report.show(console, found.evaluation, found.agent_mean_returns)


def _play(console: Console, players: list[Player], request: Request) -> dict[str, Any]:
    """Prints a match; returns an object for JSON."""
    opponent = players[1] if len(players) == 2 else None
    how = _num_episodes(request), not request.sampled, request.random_moves, request.seed
    found = against.play_players(players[0], opponent, *how)
    against.show(console, found)
    return found.figures


def _rate(console: Console, last: Player, request: Request) -> dict[str, Any]:
    """Prints ratings of the checkpoints of a run; returns an object for JSON."""
    how = _num_episodes(request), not request.sampled, request.random_moves, request.seed
    found = checkpoint_ratings.rate_players(checkpoint_ratings.load_checkpoints(last), *how)
    checkpoint_ratings.show(console, found)
    if request.out is not None:
        checkpoint_ratings.draw(found, request.out)
        console.print(f"picture: {request.out}", soft_wrap=True)
    return found.figures
