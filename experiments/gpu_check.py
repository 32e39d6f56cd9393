"""What jaxdrl reaches on a GPU, in one call of a few minutes: the most valuable parts come first.

Each part is printed and written as soon as it is done, so that nothing is lost if the call is cut.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from benchmarks.report import machine, size, with_spread, write_json
from benchmarks.serving import versions
from on_gpu import solving, speed
from on_gpu.common import TINY, Part, Sizes

PARTS: dict[str, Part] = {
    "beside the textbook": speed.beside_textbook,
    "limit of the card": speed.limit,
    "the same bits twice": solving.same_bits,
    "Breakout with a CNN": speed.pixels,
    "seconds to solve": solving.seconds_to_solve,
    "by number of environments": speed.by_num_envs,
    "other work": speed.other_work,
    "memory": speed.memory,
}


STARTED = time.perf_counter()
"""After the imports."""


@dataclass(frozen=True)
class Settings:
    """What to do."""

    minutes: float = 8.0
    """Length of the whole call; what does not fit is left out, and named."""
    parts: tuple[str, ...] = tuple(PARTS)
    """Names of the parts."""
    out: Path = Path("gpu_check.json")
    """File for all figures."""
    tiny: bool = False
    """Tiny sizes: shows on a CPU that everything works, and measures nothing."""


def main(settings: Settings) -> None:
    """Does one part after the other, and says what was left out."""
    if unknown := [name for name in settings.parts if name not in PARTS]:
        sys.exit(f"gpu_check.py: parts: there is no {unknown[0]!r}; there are {', '.join(PARTS)}")
    # Parts of different sizes follow each other in one process.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device = jax.local_devices()[0]
    content: dict[str, Any] = {
        "device": device.device_kind,
        "platform": device.platform,
        "machine": machine(),
        "versions": versions(),
        "start_seconds": time.perf_counter() - STARTED,
        "tiny": settings.tiny,
        "parts": {},
        "left_out": list(settings.parts),
    }
    print(f"{device.device_kind}; JAX started in {content['start_seconds']:.1f} s", flush=True)
    deadline = STARTED + 60 * settings.minutes
    threading.Thread(target=_cut, args=(deadline, content, settings.out), daemon=True).start()
    for name in settings.parts:
        _do(name, PARTS[name], TINY if settings.tiny else Sizes(), content)
        write_json(settings.out, content)
    print(f"figures: {settings.out}")
    sys.exit(any("error" in part for part in content["parts"].values()))


def _do(name: str, part: Part, sizes: Sizes, content: dict[str, Any]) -> None:
    """Does a part; one that fails leaves the others alone."""
    started = time.perf_counter()
    try:
        found = part(sizes)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - started
    content["parts"][name] = {**found, "seconds": seconds}
    content["left_out"].remove(name)
    print(f"\n{name} ({seconds:.0f} s)")
    for line in lines(found):
        print(f"  {line}")
    sys.stdout.flush()


def _cut(deadline: float, content: dict[str, Any], out: Path) -> None:
    """Ends the process when the time is over, whatever it waits for."""
    time.sleep(max(0.0, deadline - time.perf_counter()))
    write_json(out, content)
    print(f"\nthe time is over; left out: {', '.join(content['left_out'])}\nfigures: {out}")
    sys.stdout.flush()
    os._exit(0)


def lines(found: dict[str, Any]) -> list[str]:
    """What a part found, a line for each thing."""
    if "error" in found:
        return [f"failed: {found['error'].splitlines()[0][:200]}"]
    for key, words in WORDS.items():
        if key in found or any(isinstance(x, dict) and key in x for x in found.values()):
            return words(found)
    return [f"{name}: {json.dumps(x)}" for name, x in found.items()]


def _beside(found: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {with_spread(case['jaxdrl']['steps_per_second'])} steps/s, "
        f"{case['ratio']['median']:.2f} times the textbook "
        f"({case['ratio']['min']:.2f} to {case['ratio']['max']:.2f})"
        for name, case in found.items()
    ]


def _alone(found: dict[str, Any]) -> list[str]:
    return [
        f"{name}: left out; {case['left_out']}"
        if "left_out" in case
        else f"{name}: {with_spread(case['steps_per_second'])} steps/s, compiled in "
        f"{case['compile_seconds']:.0f} s"
        for name, case in found.items()
    ]


def _limit(found: dict[str, Any]) -> list[str]:
    rates = (
        f"a large product {found['peak_flops_per_second'] / 1e12:.2f} TFLOP/s, "
        f"a copy {found['copy_bytes_per_second'] / 1e9:.0f} GB/s"
    )
    whole = (
        f"CartPole 2,048: an update takes {1e3 * found['whole_seconds']:.2f} ms; the card needs at "
        f"least {found['fraction_of_limit']:.1%} of that"
    )
    stages = [
        f"{name}: {stage['share']:.0%} of the time, {stage['reached']:.0%} of its limit"
        for name, stage in found["stages"].items()
    ]
    return [rates, whole, *stages]


def _bits(found: dict[str, Any]) -> list[str]:
    words = {True: "the same bits", False: "OTHER bits"}
    return [f"{name} mode: {words[mode['equal']]}" for name, mode in found.items()]


def _solved(found: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {task['mean_return']:.1f} of {task['target']:g} after {task['env_steps']:,} "
        f"steps in {task['train_seconds']:.1f} s, and {task['compile_seconds']:.1f} s to compile"
        for name, task in found.items()
    ]


def _memory(found: dict[str, Any]) -> list[str]:
    most, limit = (size(found[name]) for name in ("peak_bytes_in_use", "bytes_limit"))
    return [f"at the most {most} of {limit}"]


WORDS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "ratio": _beside,
    "fraction_of_limit": _limit,
    "equal": _bits,
    "is_solved": _solved,
    "peak_bytes_in_use": _memory,
    "compile_seconds": _alone,
}
"""What prints the results of a part, by a figure that it has."""


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
