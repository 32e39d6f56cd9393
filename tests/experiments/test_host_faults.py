"""Processes of a run that are lost, in the short form of `experiments/host_faults.py`."""

import importlib
import io
import random
from collections import Counter
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        import host_faults
        from disturbances import cases, disturbed, random_kills

        yield SimpleNamespace(
            script=host_faults, cases=cases, disturbed=disturbed, kills=random_kills
        )


def test_each_process_is_lost_in_each_phase_in_each_way(made):
    found = made.cases.all_cases()
    assert len({(case.process, case.phase, case.action) for case in found}) == 80
    assert {case.phase for case in found} <= made.disturbed.PLACES.keys()
    assert {case.action for case in found} <= made.disturbed.ACTIONS.keys()
    assert Counter(case.count_after for case in found).keys() == {1, 2, 4}


def test_every_place_that_is_disturbed_is_there(made):
    for place, _, _ in made.disturbed.PLACES.values():
        module, _, path = place.partition(":")
        assert callable(attrgetter(path)(importlib.import_module(module))), place


def test_the_table_says_how_many_hold(made):
    first, *_, last = made.cases.all_cases()
    found = [made.cases.Found(first, 1.0, ()), made.cases.Found(last, 3.0, ("gone after 3.0 s",))]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(made.script.table(found))
    rows = [line.split() for line in console.export_text().splitlines() if "│ " in line]
    words = [" ".join(word for word in row if word != "│") for row in rows]
    assert words == [
        "compiling SIGKILL 1 1 1.0 s, at most 1.0 s",
        "ending os._exit 0 1 3.0 s, at most 3.0 s",
    ]


@pytest.mark.slow
def test_lost_processes_end_the_others_and_runs_go_on(made, tmp_path):
    settings = made.script.Settings(every=17)
    found = list(made.script.try_all(settings, tmp_path))
    assert [(one.case.name, one.trouble) for one in found if one.trouble] == []
    assert len(found) == 5


@pytest.mark.slow
def test_processes_killed_at_random_moments_lose_nothing(made, tmp_path):
    killed = made.kills.check(3, random.Random(0), tmp_path)
    assert (killed.times, killed.runs, killed.same, killed.trouble) == (3, 1, 1, ())
