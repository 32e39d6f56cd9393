"""Progress of a run: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0
"""How often a plain line appears at most, where the output is no terminal."""


class ProgressReport:
    """Shows environment steps, speed, episode return and time left; a context manager."""

    def __init__(self, console: Console, total_env_steps: int, env_steps: int = 0) -> None:
        self.console = console
        self.total_env_steps, self.first_env_steps = total_env_steps, env_steps
        self.episode_return: float | None = None
        self.started = self.last_line = time.perf_counter()
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(
            "training", total=total_env_steps, completed=env_steps, figures=""
        )

    def __enter__(self) -> ProgressReport:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def show(self, record: dict[str, Any]) -> None:
        """Shows a line of `metrics.jsonl`."""
        if record["episode_return"] is not None:
            self.episode_return = record["episode_return"]
        figures = f"{record['steps_per_second']:,.0f} steps/s"
        if self.episode_return is not None:
            figures += f", episode return {self.episode_return:.1f}"
        env_steps = record["env_steps"]
        self.bar.update(self.task, completed=env_steps, figures=figures)
        now = time.perf_counter()
        is_last = env_steps >= self.total_env_steps
        if self.bar.disable and (is_last or now - self.last_line >= SECONDS_BETWEEN_LINES):
            self.last_line = now
            speed = (env_steps - self.first_env_steps) / (now - self.started)
            left = (self.total_env_steps - env_steps) / speed
            self.console.print(
                f"  {env_steps:,} of {self.total_env_steps:,} steps, {figures}, {left:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )
