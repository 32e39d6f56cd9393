"""`jaxdrl evaluate` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

Variations = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=LOW:HIGH:NUM")
]
Opponent = Annotated[str | None, tyro.conf.arg(metavar="PATH|random")]


def evaluate(
    run_dir: tyro.conf.Positional[Path],
    *,
    vary: Variations = (),
    compare: Path | None = None,
    against: Opponent = None,
    round_robin: bool = False,
    random_moves: int = 0,
    num_episodes: int | None = None,
    sampled: bool = False,
    member: int | None = None,
    setting: int | None = None,
    checkpoint: int | Literal["best"] | None = None,
    seed: int = 0,
    json: Path | None = None,
    out: Path | None = None,
) -> None:
    """Evaluate the policy of a run over whole episodes, or let it play against others.

    Args:
      run_dir: Directory of the run, which may still be running.
      vary: Vary a parameter of the environment over NUM values; given twice, over a grid.
      compare: Directory of another run to evaluate as well, with the difference between the two.
      against: Opponent: the directory of another run, or random; they take the seats in turn.
      round_robin: Let all checkpoints of the run play each other, and rate them.
      random_moves: Random moves at the start of each game of a match, so that games differ.
      num_episodes: Number of episodes; None: 1000; 32 per cell of a grid; 100 games per pair.
      sampled: Sample actions, instead of greedily taking the most probable one.
      member: Number of a member of a sweep; None: the best.
      setting: Number of a setting in the table of a sweep, instead of a member: its best seed.
      checkpoint: Which checkpoint, by its update, or best; None: the last.
      seed: Seed of the episodes, for both runs.
      json: JSON file for all figures, including the return of each episode or those of the grid.
      out: PNG, SVG or PDF file for a picture of the grid or of the ratings.
    """
    from jaxdrl.analysis.evaluate_verb import Request, main

    which = checkpoint, seed, json, out, member, setting
    games = against, round_robin, random_moves
    main(run_dir, Request(vary, compare, num_episodes, sampled, *which, *games))
