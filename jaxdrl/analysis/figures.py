"""Figures without a display: files of pictures, and curves as lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.checks import require
from jaxdrl.io.safe_files import replaced
from jaxdrl.runs.run_dir import require_writable


def require_picture(out: Path) -> None:
    """Raises `ConfigError` unless `out` can be written and has the suffix of a picture."""
    kinds = (".png", ".svg", ".pdf")
    works = f"must end in one of {', '.join(kinds)}"
    require(out.suffix.lower() in kinds, "out", str(out), works)
    require_writable("out", out)


def make_figure(width: float, height: float) -> Any:
    """An empty figure of a size in inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, out: Path) -> None:
    """Writes a figure, and creates its directories."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replaced(out) as unfinished:
        figure.savefig(unfinished, dpi=150, format=out.suffix[1:].lower())


def sparkline(values: np.ndarray, low: float, high: float, width: int = 24) -> str:
    """A curve in one line of text, with `low` at the bottom and `high` at the top."""
    parts = np.array_split(values, min(width, len(values)))
    scale = 7.0 / (high - low) if high > low else 0.0
    return "".join("▁▂▃▄▅▆▇█"[round((float(part.mean()) - low) * scale)] for part in parts)
