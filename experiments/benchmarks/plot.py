"""Pictures of the results; matplotlib is imported only here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdrl import ConfigError


def check() -> None:
    """Refuses where there is no matplotlib.

    Raises:
      ConfigError: with the command that installs it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError("plot: needs matplotlib: pip install matplotlib") from error


def draw(mode: str, result: dict[str, Any], path: Path) -> None:
    """Writes a picture of a mode's result."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    DRAWINGS[mode](figure, result)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=150)


def _bars(axes: Any, spreads: dict[str, dict[str, float]], label: str) -> None:
    """A bar a name, with the least and the greatest as its whiskers."""
    from matplotlib.ticker import EngFormatter

    medians = [spread["median"] for spread in spreads.values()]
    whiskers = [
        [spread["median"] - spread["min"] for spread in spreads.values()],
        [spread["max"] - spread["median"] for spread in spreads.values()],
    ]
    axes.bar(list(spreads), medians, yerr=whiskers, capsize=3)
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    for name in axes.get_xticklabels():
        name.set(rotation=30, ha="right", rotation_mode="anchor")


def _throughput(figure: Any, result: dict[str, Any]) -> None:
    for axes, (name, measured) in zip(_row(figure, len(result)), result.items(), strict=True):
        speeds = {trainer: figures["speed"] for trainer, figures in measured["trainers"].items()}
        _bars(axes, speeds, "training steps/s")
        axes.set_title(name)


def _breakdown(figure: Any, result: dict[str, Any]) -> None:
    (axes,) = _row(figure, 1)
    names = [*result["stages"], "remainder"]
    stages = result["stages"].values()
    seconds = [stage["seconds"]["median"] for stage in stages] + [result["remainder_seconds"]]
    axes.barh(names, [1e3 * value for value in seconds], label="measured")
    limits = [1e3 * stage["limit_seconds"] for stage in stages]
    axes.barh(list(result["stages"]), limits, height=0.3, label="limit")
    axes.invert_yaxis()
    axes.set_xlabel("ms of one update")
    axes.legend()


def _scaling(figure: Any, result: dict[str, Any]) -> None:
    for axes, (kind, measured) in zip(
        _row(figure, len(result["measured"])), result["measured"].items(), strict=True
    ):
        devices = [figures["devices"] for figures in measured]
        axes.plot(devices, [figures["speed_up"]["median"] for figures in measured], marker="o")
        axes.plot(devices, [d / devices[0] for d in devices], linestyle=":", color="gray")
        axes.set_xlabel("devices")
        axes.set_ylabel("speed over that of the first")
        axes.set_title(f"{kind} scaling")


def _envs(figure: Any, result: dict[str, Any]) -> None:
    left, right = _row(figure, 2)
    num_envs = [figures["num_envs"] for figures in result["sizes"]]
    left.loglog(num_envs, [f["speed"]["median"] for f in result["sizes"]], marker="o")
    left.set_ylabel("training steps/s")
    right.loglog(num_envs, [f["peak_bytes"] for f in result["sizes"]], marker="o", label="peak")
    needed = [sum(f["needed_bytes"].values()) for f in result["sizes"]]
    right.loglog(num_envs, needed, linestyle=":", label="formula")
    right.set_ylabel("bytes")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("environments")


def _reset(figure: Any, result: dict[str, Any]) -> None:
    stepping = result["stepping"]
    for axes, (name, measured) in zip(_row(figure, len(stepping)), stepping.items(), strict=True):
        _bars(axes, measured["speed"], "environment steps/s")
        axes.set_title(name)


def _overheads(figure: Any, result: dict[str, Any]) -> None:
    steps = result["steps"]
    for axes, (name, measured) in zip(_row(figure, len(steps)), steps.items(), strict=True):
        _bars(axes, measured["ratios"], "time of an update over that without")
        axes.axhline(1.0, linestyle=":", color="gray")
        axes.set_title(name)


def _recurrent(figure: Any, result: dict[str, Any]) -> None:
    (axes,) = _row(figure, 1)
    _bars(axes, result["ratios"], "time of an update over that of an MLP")
    axes.axhline(1.0, linestyle=":", color="gray")


def _asynchronous(figure: Any, result: dict[str, Any]) -> None:
    _throughput(figure, result["training"])


def _hosts_measured(figure: Any, result: dict[str, Any]) -> None:
    (axes,) = _row(figure, 1)
    _bars(axes, result["speed"], "training steps/s")


def _hosts_predicted(figure: Any, result: dict[str, Any]) -> None:
    """Strong and weak scaling beside each other, a row for each mode."""
    figure.set_size_inches(9, 7)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    for line, (mode, rows) in zip(grid, result["predicted"].items(), strict=True):
        for axes, kind in zip(line, ("strong", "weak"), strict=True):
            _efficiency(axes, kind, rows)
            axes.set_title(f"{kind} scaling, {mode} mode")
            axes.label_outer()
    grid[0][0].legend(fontsize="small")
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
            color=f"C{gigabits.index(bandwidth)}",
            linestyle=("-", "--", ":", "-.")[latencies.index(latency) % 4],
            marker="o",
            markersize=3,
            label=f"{bandwidth:g} Gb/s, {latency:g} µs",
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks([row["hosts"] for row in chosen], [str(row["hosts"]) for row in chosen])
    axes.set_ylim(0, 105)
    axes.set_xlabel("hosts")
    axes.set_ylabel("efficiency, %")


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
