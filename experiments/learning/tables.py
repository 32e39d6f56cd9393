"""Figures over the seeds, and the table in Markdown."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.distributed import microbatches
from jaxdrl.evaluation.episodes import bootstrap_interval, interquartile_mean
from jaxdrl.runs import machine
from learning.notes import NOTES, Note


def summarise(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """A row a task, over the cells of its seeds."""
    return {task: _row(task, cells) for task, cells in found.items()}


def _row(task: str, cells: list[dict[str, Any]]) -> dict[str, Any]:
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
        "memory": cells[0]["settings"]["ppo"].get("memory", "none"),
        "published": note.published,
        "best": note.best,
        "words": note.words,
    }


def write_json(path: Path, rows: dict[str, dict[str, Any]]) -> None:
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


def markdown_rows(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The lines of the table, as they are in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    for task, row in rows.items():
        interval = f"{_number(row['ci95_low'])} to {_number(row['ci95_high'])}"
        cells = (
            task + (" (GRU)" if row["memory"] != "none" else ""),
            f"{_number(row['mean'])} ({interval})",
            str(row["num_seeds"]),
            _number(row["interquartile_mean"]),
            _number(row["published"]),
            _number(row["best"]),
            f"{row['env_steps'] / 1e6:.1f}M",
            f"{row['seconds']:.0f} s",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_markdown(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    """The table, with what has to be known to read it."""
    seeds = {row["num_seeds"] for row in rows.values()}
    episodes = {row["num_episodes"] for row in rows.values()}
    hours = sum(row["total_seconds"] for row in rows.values()) / 3600
    notes = [f"- {task}: {row['words']}." for task, row in rows.items() if row["words"]]
    lines = [
        "# Learning table: returns with the tuned presets",
        "",
        "This page is written by `python experiments/learning_table.py`. The settings are those of",
        f"`jaxdrl.make_config(ENV)`. Each return is the mean over {_range(seeds)} seeds with",
        f"{_range(episodes)} whole greedy episodes each. In brackets is the 95% bootstrap interval",
        'over the seeds; "middle half" is the interquartile mean. "Published" is the best score of',
        "PPO or evolution strategies on the same task. The time is that of one seed on "
        f"{microbatches.num_cores()} cores.",
        f"All training in this table took {hours:.1f} hours.",
        "",
        *markdown_rows(rows),
        "",
        "![Learning curves of every task](learning_curves.png)",
        *(["", "## Remarks", "", *notes] if notes else []),
    ]
    path.write_text("\n".join(lines) + "\n")


def _range(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
