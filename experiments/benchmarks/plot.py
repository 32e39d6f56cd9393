"""Pictures of the results; matplotlib is imported only when one is drawn."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxdrl import ConfigError
from jaxdrl.analysis.figures import COLOURS, legend_beside, picture

LONGEST = 24
"""Letters of the longest name of a bar with which two panels fit beside each other."""


def check() -> None:
    """Refuses where there is no matplotlib.

    Raises:
      ConfigError: with the command that installs it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError("plot: needs matplotlib: pip install matplotlib") from error


def draw(content: dict[str, Any], path: Path) -> None:
    """Writes a picture of what `report.document` made of a mode's result."""
    with picture(path, 9, 4.5) as figure:
        figure.suptitle(_measured_on(content))
        DRAWINGS[content["mode"]](figure, content["result"])


def _measured_on(content: dict[str, Any]) -> str:
    """The devices, or the processor where it is the device."""
    kinds = dict.fromkeys(_kinds(content["result"]))
    machine = content["machine"]
    cores = f"{machine['cpu']}, {machine['cores']} core{'s' * (machine['cores'] != 1)}"
    return ", ".join(kind for kind in kinds if kind != "cpu") or cores


def _kinds(result: Any) -> Iterator[str]:
    """The kind of device of every trainer in a result."""
    if isinstance(result, dict):
        for name, value in result.items():
            if name == "device_kind":
                yield value
            yield from _kinds(value)


Spreads = dict[str, dict[str, float]]
"""Median, least and greatest by name."""


def _bars(figure: Any, panels: dict[str, Spreads], label: str, whole: float | None = None) -> None:
    """A bar a name with its median beside it; what is before a comma in the name has one colour.

    Args:
      figure: to draw on.
      panels: by title.
      label: of the axis.
      whole: where a line is drawn, such as at 1 for ratios.
    """
    names = [name for spreads in panels.values() for name in spreads]
    kinds = list(dict.fromkeys(name.split(",")[0] for name in names))
    num_columns = 1 if len(panels) == 1 or max(map(len, names)) > LONGEST else 2
    num_rows = -(-len(panels) // num_columns)
    bars = max(len(spreads) for spreads in panels.values())
    figure.set_size_inches(9, num_rows * (0.3 * bars + 0.7) + 0.8)
    grid = figure.subplots(num_rows, num_columns, squeeze=False).reshape(-1)
    for axes, (title, spreads) in zip(grid, panels.items(), strict=False):
        _bars_of_panel(axes, spreads, kinds)
        axes.set_title(title)
        if whole is not None:
            axes.axvline(whole, linestyle=":", color="black")
    for axes in grid[len(panels) :]:
        axes.remove()
    figure.supxlabel(f"{label}: median of the rounds, with least and greatest as whiskers", size=9)


def _bars_of_panel(axes: Any, spreads: Spreads, kinds: list[str]) -> None:
    from matplotlib.ticker import EngFormatter

    medians = [spread["median"] for spread in spreads.values()]
    below = [spread["median"] - spread["min"] for spread in spreads.values()]
    above = [spread["max"] - spread["median"] for spread in spreads.values()]
    colours = [COLOURS[kinds.index(name.split(",")[0]) % len(COLOURS)] for name in spreads]
    axes.barh(list(spreads), medians, xerr=[below, above], color=colours, alpha=0.85)
    for i, spread in enumerate(spreads.values()):
        text = EngFormatter(sep="")(float(f"{spread['median']:.3g}"))
        axes.annotate(text, (spread["max"], i), (4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.15)
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _throughput(figure: Any, result: dict[str, Any]) -> None:
    panels = {}
    for name, measured in result.items():
        trainers = measured["trainers"].items()
        title = _title(name, measured)
        title = f"{title} ({name})" if title in panels else title
        panels[title] = {key: figures["speed"] for key, figures in trainers}
    _bars(figure, panels, "training steps/s")


def _title(name: str, measured: dict[str, Any]) -> str:
    """What was trained."""
    case = measured.get("case")
    if case is None:
        return name
    algorithm = f", {case['algorithm'].upper()}" if "algorithm" in case else ""
    return (
        f"{case['env']}, {case['num_envs']:,} environments x {case['num_steps']} steps{algorithm}"
    )


def _breakdown(figure: Any, result: dict[str, Any]) -> None:
    (axes,) = _row(figure, 1)
    names = [*result["stages"], "remainder"]
    stages = result["stages"].values()
    seconds = [stage["seconds"]["median"] for stage in stages] + [result["remainder_seconds"]]
    axes.barh(names, [1e3 * value for value in seconds], label="measured")
    limits = [1e3 * stage["limit_seconds"] for stage in stages]
    axes.barh(list(result["stages"]), limits, height=0.3, label="limit")
    axes.invert_yaxis()
    axes.set_xlabel("time of one update (ms)")
    legend_beside(figure)


def _scaling(figure: Any, result: dict[str, Any]) -> None:
    for axes, (kind, measured) in zip(
        _row(figure, len(result["measured"])), result["measured"].items(), strict=True
    ):
        devices = [figures["devices"] for figures in measured]
        speed_up = [figures["speed_up"]["median"] for figures in measured]
        axes.plot(devices, speed_up, marker="o", label="measured, median of the rounds")
        perfect = [d / devices[0] for d in devices]
        axes.plot(devices, perfect, linestyle=":", color="black", label="perfect")
        axes.set_xlabel("devices")
        axes.set_ylabel("speed over that of one device")
        axes.set_title(f"{kind} scaling")
    legend_beside(figure)


def _envs(figure: Any, result: dict[str, Any]) -> None:
    left, right = _row(figure, 2)
    num_envs = [figures["num_envs"] for figures in result["sizes"]]
    left.loglog(num_envs, [f["speed"]["median"] for f in result["sizes"]], marker="o")
    left.set_ylabel("training steps/s (log)")
    right.loglog(
        num_envs,
        [f["peak_bytes"] for f in result["sizes"]],
        marker="o",
        label="peak of the process",
    )
    needed = [sum(f["needed_bytes"].values()) for f in result["sizes"]]
    right.loglog(num_envs, needed, linestyle=":", color="black", label="by formula")
    right.set_ylabel("memory, bytes (log)")
    for axes in (left, right):
        axes.set_xlabel("environments (log)")
    legend_beside(figure)


def _reset(figure: Any, result: dict[str, Any]) -> None:
    panels = {name: measured["speed"] for name, measured in result["stepping"].items()}
    _bars(figure, panels, "environment steps/s")


def _overheads(figure: Any, result: dict[str, Any]) -> None:
    panels = {name: measured["ratios"] for name, measured in result["steps"].items()}
    _bars(figure, panels, "time of an update over that without", whole=1.0)


def _recurrent(figure: Any, result: dict[str, Any]) -> None:
    _bars(figure, {"": result["ratios"]}, "time of an update over that of an MLP", whole=1.0)


def _asynchronous(figure: Any, result: dict[str, Any]) -> None:
    _throughput(figure, result["training"])


def _hosts_measured(figure: Any, result: dict[str, Any]) -> None:
    _bars(figure, {"": result["speed"]}, "training steps/s")


def _hosts_predicted(figure: Any, result: dict[str, Any]) -> None:
    """Strong and weak scaling beside each other, a row for each mode."""
    figure.set_size_inches(9, 7)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    for line, (mode, rows) in zip(grid, result["predicted"].items(), strict=True):
        for axes, kind in zip(line, ("strong", "weak"), strict=True):
            _efficiency(axes, kind, rows)
            axes.set_title(f"{kind} scaling, {mode} mode")
            axes.label_outer()
    legend_beside(figure)
    figure.suptitle(f"Predicted, not measured: {result['case']['env']}")


def _efficiency(axes: Any, kind: str, rows: list[dict[str, Any]]) -> None:
    """A line for each network, those of one latency in one style."""
    networks = dict.fromkeys((row["latency_microseconds"], row["gigabits"]) for row in rows)
    latencies = list(dict.fromkeys(latency for latency, _ in networks))
    gigabits = list(dict.fromkeys(bandwidth for _, bandwidth in networks))
    for latency, bandwidth in networks:
        chosen = [
            row
            for row in rows
            if (row["latency_microseconds"], row["gigabits"]) == (latency, bandwidth)
        ]
        axes.plot(
            [row["hosts"] for row in chosen],
            [100 * row[kind] for row in chosen],
            color=COLOURS[gigabits.index(bandwidth) % len(COLOURS)],
            linestyle=("-", "--", ":", "-.")[latencies.index(latency) % 4],
            marker="o",
            label=f"{bandwidth:g} Gb/s, {latency:g} µs",
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks([row["hosts"] for row in chosen], [str(row["hosts"]) for row in chosen])
    axes.set_ylim(0, 105)
    axes.set_xlabel("hosts (log)")
    axes.set_ylabel("efficiency (%)")


def _row(figure: Any, number: int) -> list[Any]:
    return list(figure.subplots(1, number, squeeze=False)[0])


DRAWINGS: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "throughput": _throughput,
    "breakdown": _breakdown,
    "scaling": _scaling,
    "envs": _envs,
    "reset": _reset,
    "overheads": _overheads,
    "recurrent": _recurrent,
    "asynchronous": _asynchronous,
    "algorithms": _throughput,
    "hosts_measure": _hosts_measured,
    "hosts_predict": _hosts_predicted,
}
