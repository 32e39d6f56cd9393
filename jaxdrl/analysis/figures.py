"""Figures without a display: files of pictures, and curves as lines of text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.checks import require
from jaxdrl.io.safe_files import replaced
from jaxdrl.runs.run_dir import require_writable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of Okabe and Ito that every kind of colour vision tells apart, without the yellow."""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "figure.titlesize": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "errorbar.capsize": 3,
    "lines.markersize": 4,
}
"""What all pictures share, as settings of matplotlib; `plot_style` adds the colours."""

LETTERS_PER_INCH = 14
"""Letters of a legend that fit beside each other."""


def plot_style() -> dict[Any, Any]:
    """Settings of matplotlib for pictures in the colours and fonts of those that jaxdrl draws.

    `matplotlib.pyplot.style.use(jaxdrl.plot_style())` sets them for all later pictures, and
    `with matplotlib.pyplot.style.context(...)` for those of a block. After the colours, which every
    kind of colour vision tells apart, dashed and dotted lines of the same colours follow.
    """
    from matplotlib.rcsetup import cycler

    lines = cycler(linestyle=["-", "--", ":"]) * cycler(color=COLOURS)
    return STYLE | {"axes.prop_cycle": lines}


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


@contextlib.contextmanager
def picture(out: Path, width: float, height: float) -> Iterator[Any]:
    """A figure of a size in inches, to draw on in the common style and then written to `out`."""
    from matplotlib import rc_context

    with rc_context(plot_style()):
        figure = make_figure(width, height)
        yield figure
        save_figure(figure, out)


def count_axis(axis: Any, label: str) -> None:
    """Labels an axis of counts, whose ticks are written like 250k."""
    from matplotlib.ticker import EngFormatter

    axis.set_label_text(label)
    axis.set_major_formatter(EngFormatter(sep=""))


def legend_beside(figure: Any, side: str = "lower") -> None:
    """One legend under all panels or above them, where it covers no data, with each label once.

    Args:
      figure: with everything that is drawn.
      side: "lower" or "upper", where a figure has a label or a title of its own on the other.
    """
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    fit = int(LETTERS_PER_INCH * figure.get_size_inches()[0]) // (max(map(len, found)) + 8)
    num_rows = -(-len(found) // max(1, fit))
    how: dict[str, Any] = {"loc": f"outside {side} center", "ncols": -(-len(found) // num_rows)}
    figure.legend(found.values(), found, **how)


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
