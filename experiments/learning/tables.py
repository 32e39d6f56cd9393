"""Figures over the seeds, and the table in Markdown."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.config.algorithms import ALGORITHMS
from jaxdrl.distributed import microbatches
from jaxdrl.evaluation.episodes import bootstrap_interval, interquartile_mean
from jaxdrl.runs import machine
from learning.notes import NOTES, Note

Row = dict[str, Any]
"""Figures of a task and an algorithm."""

Rows = dict[str, dict[str, Row]]
"""By task and algorithm."""


def summarise(found: dict[str, dict[str, list[dict[str, Any]]]]) -> Rows:
    """A row for each task and algorithm, over the cells of its seeds."""
    return {
        task: {algorithm: _row(task, algorithm, cells) for algorithm, cells in of_task.items()}
        for task, of_task in found.items()
    }


def of_algorithm(rows: Rows, algorithm: str) -> dict[str, Row]:
    """The rows of one algorithm, by task."""
    return {task: of_task[algorithm] for task, of_task in rows.items() if algorithm in of_task}


def algorithms_in(rows: Rows) -> list[str]:
    """The algorithms that there are rows of, in the order of `ALGORITHMS`."""
    return ordered({name for of_task in rows.values() for name in of_task})


def ordered(names: Iterable[str]) -> list[str]:
    """Algorithms in the order of `ALGORITHMS`."""
    return sorted(names, key=order)


def order(name: str) -> int:
    """Which place an algorithm has among all of them."""
    return list(ALGORITHMS).index(name)


def compared(rows: Rows) -> Rows:
    """Those of the tasks that several algorithms trained."""
    return {task: of_task for task, of_task in rows.items() if len(of_task) > 1}


def _row(task: str, algorithm: str, cells: list[dict[str, Any]]) -> Row:
    returns = [cell["evaluation"]["mean_return"] for cell in cells]
    low, high = bootstrap_interval(np.asarray(returns))
    note = NOTES.get(task, Note())
    return {
        "num_seeds": len(cells),
        "num_episodes": cells[0]["evaluation"]["num_episodes"],
        "returns": returns,
        "mean": float(np.mean(returns)),
        "ci95_low": low,
        "ci95_high": high,
        "interquartile_mean": interquartile_mean(np.asarray(returns)),
        "env_steps": cells[0]["env_steps"],
        "seconds": float(np.mean([cell["train_seconds"] for cell in cells])),
        "total_seconds": float(
            sum(cell["train_seconds"] + cell["compile_seconds"] for cell in cells)
        ),
        "memory": cells[0]["settings"][algorithm].get("memory", "none"),
        "published": note.published,
        "best": note.best,
        "words": note.words,
    }


def write_json(path: Path, rows: Rows) -> None:
    """All figures, with the machine that they were measured on."""
    document = {
        "processor": machine.processor(),
        "versions": machine.versions(),
        "tasks": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


COLUMNS = (
    *("task", "mean return", "seeds", "middle half", "published", "best possible"),
    *("steps", "time"),
)


def comparison(rows: Rows) -> list[str]:
    """The lines of the table with a column for each algorithm, as they are in Markdown."""
    rows = compared(rows)
    names = algorithms_in(rows)
    lines = [f"| task | {' | '.join(map(str.upper, names))} |", "|" + " --- |" * (1 + len(names))]
    for task, of_task in rows.items():
        cells = [_in_brief(of_task[name]) if name in of_task else "–" for name in names]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return lines


def _in_brief(row: Row) -> str:
    """Mean return with its interval, environment steps and seconds."""
    interval = f"{number(row['ci95_low'])} to {number(row['ci95_high'])}"
    return f"{number(row['mean'])} ({interval}); {_steps(row)}, {_seconds(row)}"


def markdown_rows(rows: dict[str, Row]) -> list[str]:
    """The lines of the table of one algorithm, as they are in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    for task, row in rows.items():
        interval = f"{number(row['ci95_low'])} to {number(row['ci95_high'])}"
        cells = (
            task + (" (GRU)" if row["memory"] != "none" else ""),
            f"{number(row['mean'])} ({interval})",
            str(row["num_seeds"]),
            number(row["interquartile_mean"]),
            number(row["published"]),
            number(row["best"]),
            _steps(row),
            _seconds(row),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_markdown(path: Path, rows: Rows) -> None:
    """The tables, with what has to be known to read them."""
    every = [row for of_task in rows.values() for row in of_task.values()]
    seeds = {row["num_seeds"] for row in every}
    episodes = {row["num_episodes"] for row in every}
    hours = sum(row["total_seconds"] for row in every) / 3600
    words = {task: next(iter(of_task.values()))["words"] for task, of_task in rows.items()}
    notes = [f"- {task}: {text}." for task, text in words.items() if text]
    lines = [
        "# Learning table: returns with the tuned presets",
        "",
        "This page is written by `python experiments/learning_table.py`. The settings are those of",
        f"`jaxdrl.make_config(ENV, ALGORITHM)`. Each return is the mean over {_range(seeds)} seeds",
        f"with {_range(episodes)} whole greedy episodes each. In brackets is the 95% bootstrap",
        'interval over the seeds; "middle half" is the interquartile mean. "Published" is the best',
        "score of PPO or evolution strategies on the same task. The time is that of one seed on "
        f"{microbatches.num_cores()} cores.",
        f"All training in this table took {hours:.1f} hours.",
        "",
        *_sections(rows),
        *(["", "## Remarks", "", *notes] if notes else []),
    ]
    path.write_text("\n".join(lines) + "\n")


def _sections(rows: Rows) -> list[str]:
    """A table for each algorithm, after one of those tasks that several have trained."""
    curves = "![Learning curves of every task](learning_curves.png)"
    names = algorithms_in(rows)
    if len(names) == 1:
        return [*markdown_rows(of_algorithm(rows, names[0])), "", curves]
    lines = []
    if compared(rows):
        lines += ["## By algorithm", "", "Mean return with its interval; environment steps, time."]
        lines += ["", *comparison(rows), ""]
        lines += ["![Learning curves by algorithm](learning_curves_by_algorithm.png)", ""]
    for name in names:
        lines += [f"## {name.upper()}", "", *markdown_rows(of_algorithm(rows, name)), ""]
    return [*lines, curves]


def _steps(row: Row) -> str:
    millions = row["env_steps"] / 1e6
    return f"{millions:.1f}M" if millions >= 0.095 else f"{1000 * millions:.0f}k"


def _seconds(row: Row) -> str:
    return f"{row['seconds']:.0f} s"


def _range(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def number(value: float | None) -> str:
    """A return in the table."""
    if value is None:
        return "–"
    text = f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
