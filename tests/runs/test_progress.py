"""What a run shows of itself while it trains: whole numbers on a narrow terminal, evaluations."""

import io

import pytest
from rich.console import Console

from jaxdrl.runs.progress import ProgressReport

RECORD = {"env_steps": 512, "steps_per_second": 23_456.7, "episode_return": 138_970.3}
FIGURES = {"mean_return": 489.71, "ci95_low": 480.0, "ci95_high": 500.0, "num_episodes": 128}


def shown(width, is_terminal, total, *actions):
    """What `actions` on a report print."""
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=is_terminal, color_system=None)
    with ProgressReport(console, total) as report:
        for action in actions:
            action(report)
    return output.getvalue()


@pytest.mark.parametrize("total", [1024, 10_000_000, 10_000_000_000])
@pytest.mark.parametrize("width", [80, 200])
def test_no_number_of_the_bar_is_cut_on_80_columns(width, total):
    record = RECORD | {"env_steps": total // 2, "steps_per_second": 32_345_678.0}
    last = shown(width, True, total, lambda report: report.show(record)).split("\x1b[2K")[-1]
    assert f"50% of {total:,} steps 32,345,678 steps/s, return 138,970" in last
    assert "…" not in last
    assert len(last.splitlines()[0]) <= width


def test_an_episode_return_stays_until_the_next():
    last = shown(
        80,
        True,
        1024,
        lambda report: report.show(RECORD),
        lambda report: report.show(RECORD | {"episode_return": None}),
    )
    assert "23,457 steps/s, return 138,970" in last.split("\x1b[2K")[-1]
    first = shown(80, True, 1024, lambda report: report.show(RECORD | {"episode_return": None}))
    assert "return" not in first
    assert "23,457 steps/s " in first


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_evaluation_on_the_way_gets_a_line_and_many_do_not_flood(is_terminal):
    text = shown(
        80,
        is_terminal,
        1024,
        lambda report: report.show_evaluation(256, FIGURES),
        lambda report: report.show_evaluation(512, FIGURES | {"mean_return": 1.0}),
    )
    line = "  evaluated after 256 steps: mean return 489.7 (95% interval 480 to 500)\n"
    assert line in text
    assert text.count("evaluated after") == 1


def test_of_members_it_is_the_best_and_the_last_evaluation_is_the_result():
    text = shown(80, False, 1024, lambda r: r.show_evaluation(256, FIGURES | {"best_member": 3}))
    assert "best mean return 489.7" in text
    assert shown(80, False, 1024, lambda r: r.show_evaluation(1024, FIGURES)) == ""


def test_the_last_plain_line_has_the_whole_of_it():
    line = shown(80, False, 512, lambda report: report.show(RECORD))
    assert line == "  512 of 512 steps, 23,457 steps/s, episode return 138,970, 0 s left\n"


def test_an_evaluation_is_announced_on_the_bar_until_it_is_over():
    reports = [
        lambda report: report.show(RECORD),
        lambda report: report.begin_evaluation(512),
        lambda report: report.show_evaluation(512, FIGURES),
    ]
    during, after = (shown(80, True, 1024, *reports[:count]) for count in (2, 3))
    assert "of 1,024 steps evaluating" in during.split("\x1b[2K")[-1]
    assert "23,457 steps/s, return 138,970" in after.split("\x1b[2K")[-1]


@pytest.mark.parametrize(("env_steps", "lines"), [(512, []), (1024, ["  evaluating"])])
def test_without_a_bar_the_last_evaluation_alone_is_announced(env_steps, lines):
    text = shown(80, False, 1024, lambda report: report.begin_evaluation(env_steps))
    assert text.splitlines() == lines
