"""The progress of a run: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from jaxdrl.io.numerals import duration, short

SECONDS_BETWEEN_LINES = 5.0
"""The least time between two lines of progress, where the output is not a terminal, and between two
lines of evaluations."""


class ProgressReport:
    """Shows environment steps, speed, episode return and time left; a context manager."""

    def __init__(self, console: Console, total_env_steps: int, env_steps: int = 0) -> None:
        self.console = console
        self.total_env_steps, self.first_env_steps = total_env_steps, env_steps
        self.episode_return = self.figures = ""
        self.started = self.last_line = time.perf_counter()
        self.last_evaluation = -float("inf")
        is_shown = console.is_terminal and not console.quiet
        self.bar = Progress(*_columns(), console=console, disable=not is_shown)
        self.task = self.bar.add_task("", total=total_env_steps, completed=env_steps, figures="")

    def __enter__(self) -> ProgressReport:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def show(self, record: dict[str, Any]) -> None:
        """Shows a line of `metrics.jsonl`."""
        if record["episode_return"] is not None:
            self.episode_return = f" return {short(record['episode_return'])},"
        speed = f"{record['steps_per_second']:,.0f} steps/s"
        env_steps = record["env_steps"]
        self.figures = f"{speed},{self.episode_return}".rstrip(",")
        self.bar.update(self.task, completed=env_steps, figures=self.figures)
        now = time.perf_counter()
        is_last = env_steps >= self.total_env_steps
        if self.bar.disable and (is_last or now - self.last_line >= SECONDS_BETWEEN_LINES):
            self.last_line = now
            seconds_a_step = (now - self.started) / max(1, env_steps - self.first_env_steps)
            left = duration((self.total_env_steps - env_steps) * seconds_a_step)
            self._print(
                f"{env_steps:,} of {self.total_env_steps:,} steps, {speed},"
                f"{self.episode_return.replace('return', 'episode return')} {left} left"
            )

    def begin_evaluation(self, env_steps: int) -> None:
        """Shows that an evaluation begins, whose first one is compiled, too."""
        self.bar.update(self.task, figures="evaluating")
        if self.bar.disable and env_steps >= self.total_env_steps:  # or all seems to be over
            self._print("evaluating")

    def show_evaluation(self, env_steps: int, figures: dict[str, Any]) -> None:
        """Shows the figures of an evaluation, except for the last one of a run."""
        self.bar.update(self.task, figures=self.figures)
        now = time.perf_counter()
        is_last = env_steps >= self.total_env_steps  # the result is printed anyway
        if is_last or now - self.last_evaluation < SECONDS_BETWEEN_LINES:
            return
        self.last_evaluation = now
        low, high = short(figures["ci95_low"]), short(figures["ci95_high"])
        best = "best " if "best_member" in figures else ""
        self._print(
            f"evaluated after {env_steps:,} steps: {best}mean return "
            f"{short(figures['mean_return'])} (95% interval {low} to {high})"
        )

    def _print(self, line: str) -> None:
        self.console.print(f"  {line}", soft_wrap=True)


def _columns() -> list[ProgressColumn]:
    """The bar takes what the figures leave of the width; 80 columns hold all of these."""
    whole = Column(no_wrap=True)
    return [
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:.0f}% of {task.total:,} steps", table_column=whole),
        TextColumn("{task.fields[figures]}", table_column=whole),
        TimeRemainingColumn(compact=True, table_column=whole),
    ]
