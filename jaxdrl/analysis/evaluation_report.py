"""Evaluations in the terminal: a table of figures, and a histogram of the returns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxdrl.evaluation.episodes import Evaluation
from jaxdrl.io.numerals import short

NUM_BINS = 10
"""Number of bars in the histogram."""


def whose_returns(found: Evaluation, opponents: str | None) -> str | None:
    """Whose the returns of several agents are, and who played the others; None of a single one."""
    if found.agent_returns is None:
        return None
    num_agents = found.agent_returns.shape[1]
    if opponents is None:
        return f"the return of an episode is the mean over its {num_agents} agents"
    return (
        f"the return is that of the policy, which played one of {num_agents} agents, each in turn, "
        f"against {opponents} opponents"
    )


def show(
    console: Console, found: Evaluation, agent_mean_returns: Sequence[float] | None = None
) -> None:
    """Prints a table of the figures, and a histogram of the returns."""
    rows = {
        "mean return": f"{short(found.mean_return)} "
        f"(95% interval {short(found.ci95_low)} to {short(found.ci95_high)})",
        "median": short(found.median_return),
        "interquartile mean": short(found.interquartile_mean),
        "smallest and largest": f"{short(float(found.returns.min()))} and "
        f"{short(float(found.returns.max()))}",
        "mean length": short(found.mean_length),
    }
    if agent_mean_returns is not None:
        rows["mean of each agent"] = ", ".join(map(short, agent_mean_returns))
    if found.num_cut:
        rows["cut by the step limit"] = f"{found.num_cut:,} episodes"
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, words in rows.items():
        table.add_row(Text(name, "bold"), words)
    console.print(table)
    for line in histogram(found.returns):
        console.print(line)


def histogram(returns: np.ndarray, width: int = 40) -> list[str]:
    """A bar of text for each of `NUM_BINS` equal bins; a single line if all returns are equal."""
    if returns.min() == returns.max():
        return [f"every return is {short(float(returns[0]))}"]
    counts, edges = np.histogram(returns, bins=NUM_BINS)
    labels = [
        f"{short(a)} to {short(b)}" for a, b in zip(edges[:-1].tolist(), edges[1:], strict=True)
    ]
    margin = max(map(len, labels))
    return [
        f"{label:>{margin}}  {'█' * round(width * count / counts.max())} {count}".rstrip()
        for label, count in zip(labels, counts.tolist(), strict=True)
    ]
