"""Actors and learner of a run, as `jaxdrl watch` shows them: who waits, and how old the data is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from jaxdrl.analysis.metrics_history import History
from jaxdrl.config.experiment import Experiment
from jaxdrl.io.numerals import short

PARTS = ("environment", "inference", "transfer")
"""Where the time of actors goes."""

TOO_OLD = {"clip_fraction": 0.3, "approx_kl": 0.03}
"""Medians above which data of earlier updates is too old.

On CartPole the clip fraction is above 0.3 where data eight updates old costs most of the return; a
run of HalfCheetah that learns well with data one update old has about 0.25.
"""

CLEAR = 0.1
"""By how much more of its time one side is idle if the other one is the bottleneck."""

FASTER_ACTORS = {
    "environment": "more --actors step them at once where the package leaves Python's lock, as "
    "envpool and processes do",
    "inference": "with more --num-envs each decision is for more of them",
    "transfer": "larger batches are moved at less cost: more --num-envs or --num-steps",
}
"""What helps actors that spend most of their time in a part."""

IN_WORDS = {
    "environment": "stepping environments",
    "inference": "computing actions",
    "transfer": "moving data",
}
"""What actors do in a part."""


@dataclass(frozen=True)
class ShownActors:
    """What actors and learner do, by medians over the last lines of the metrics.

    Attributes:
      staleness: mean age of the data in updates.
      oldest: the greatest age of the data in updates in those lines.
      queue_depth: trajectories that wait to be learned from.
      seconds: of one update, by part; those of actors are `PARTS`, that of the learner "learning".
      actor_idle: share of their time in which actors wait for the learner.
      learner_idle: share of its time in which the learner waits for actors.
      counts: restarts, discarded steps and episodes that were cut off, in the whole run.
      bottleneck: who is waited for and what helps, in words; None where too little is known.
      warnings: what is wrong, in words.
    """

    staleness: float
    oldest: float
    queue_depth: float
    seconds: dict[str, float]
    actor_idle: float
    learner_idle: float
    counts: tuple[int, int, int]
    bottleneck: str | None
    warnings: tuple[str, ...]


def take_actors(history: History, experiment: Experiment) -> ShownActors | None:
    """What is known of actors and learner; None for a run whose program acts by itself."""
    if history.median("staleness_mean") is None:
        return None
    seconds = {name: _median(history, f"seconds_{name}") for name in (*PARTS, "learning")}
    latest = history.recent[-1]
    names = ("num_restarts", "discarded_steps", "cut_episodes")
    restarts, discarded, cut = (math.ceil(latest.get(name) or 0) for name in names)
    idle = _median(history, "actor_idle_share"), _median(history, "learner_idle_share")
    warnings = old_data(history, experiment)
    if restarts:
        times = "once" if restarts == 1 else f"{restarts:,} times"
        warnings.append(
            f"environments failed and were made anew {times}, and {discarded:,} steps were "
            "discarded; the output of the run says why"
        )
    return ShownActors(
        staleness=_median(history, "staleness_mean"),
        oldest=_oldest(history),
        queue_depth=_median(history, "queue_depth"),
        seconds=seconds,
        actor_idle=idle[0],
        learner_idle=idle[1],
        counts=(restarts, discarded, cut),
        bottleneck=find_bottleneck(experiment, seconds, *idle),
        warnings=tuple(warnings),
    )


def find_bottleneck(
    experiment: Experiment, seconds: dict[str, float], actor_idle: float, learner_idle: float
) -> str | None:
    """Who is waited for, and what helps."""
    acting = experiment.acting
    times = {part: seconds[part] for part in PARTS}
    both = sum(times.values()), seconds["learning"]
    if not all(map(math.isfinite, (*both, actor_idle, learner_idle))) or sum(both) == 0:
        return None
    if acting.bound == 0:
        return (
            f"acting and learning take turns; with --staleness 1 they would overlap, at best in "
            f"{milliseconds(max(both))} an update and not {milliseconds(sum(both))}"
        )
    if learner_idle > actor_idle + CLEAR:
        part = max(times, key=lambda part: times[part])
        return (
            f"the actors are the bottleneck, {times[part] / both[0]:.0%} of their time in "
            f"{IN_WORDS[part]}: {FASTER_ACTORS[part]}"
        )
    if actor_idle > learner_idle + CLEAR:
        fewer = ", and fewer --actors would do" if acting.actors > 1 else ""
        return (
            "the learner is the bottleneck: more --learner-devices or larger minibatches shorten "
            f"its updates{fewer}"
        )
    return "acting and learning take about equally long"


def old_data(history: History, experiment: Experiment) -> list[str]:
    """A warning where the policy has moved too far on from the one that collected the data."""
    oldest = _oldest(history)
    values = {name: _median(history, name) for name in TOO_OLD}
    above = [f"{name} is {short(x)}" for name, x in values.items() if x > TOO_OLD[name]]
    if oldest == 0 or not above:
        return []
    acting = experiment.acting
    remedy = f"lower --{'max-' if acting.is_free else ''}staleness (now {acting.bound})"
    if acting.is_free and acting.bound == 1:
        remedy = "take --staleness 0 in place of --max-staleness"
    if getattr(experiment.algorithm, "correction", None) == "none":
        remedy += ", or correct for it by --correction vtrace"
    age = f"{short(oldest)} update{'' if oldest == 1 else 's'} old"
    what = f"{' and '.join(above)} with data up to {age}"
    return [f"{what}: the policy has moved on too far from it; {remedy}"]


def render_actors(shown: ShownActors) -> Sequence[Text]:
    """The lines of the dashboard."""
    seconds = [f"{name} {milliseconds(shown.seconds[name])}" for name in (*PARTS, "learning")]
    _, _, cut = shown.counts
    cut_off = f"; {cut:,} episodes were cut off and began anew" if cut else ""
    lines = [
        f"age of the data in updates: mean {short(shown.staleness)}, at most "
        f"{short(shown.oldest)}; trajectories waiting: {short(shown.queue_depth)}{cut_off}",
        f"an update: {', '.join(seconds[:-1])}; {seconds[-1]}; "
        f"idle: actors {share(shown.actor_idle)}, learner {share(shown.learner_idle)}",
    ]
    if shown.bottleneck is not None:
        lines.append(shown.bottleneck)
    return [Text(line) for line in lines]


def milliseconds(seconds: float) -> str:
    """A short time in words.

    >>> milliseconds(0.0123), milliseconds(2.5), milliseconds(float("nan"))
    ('12.3 ms', '2,500 ms', 'unknown')
    """
    return f"{short(1e3 * seconds)} ms" if math.isfinite(seconds) else "unknown"


def share(value: float) -> str:
    """A share of the time in words."""
    return f"{value:.0%}" if math.isfinite(value) else "unknown"


def _oldest(history: History) -> float:
    return max(record.get("staleness_max") or 0.0 for record in history.recent)


def _median(history: History, name: str) -> float:
    found = history.median(name)
    return math.nan if found is None else found
