"""Searches over shapes as runs: trained, killed, resumed, looked at."""

import contextlib
import dataclasses
import io
import shutil

import pytest

import jaxdrl
from jaxdrl.cli import main
from jaxdrl.config.search_space import Sweep
from jaxdrl.errors import ConfigError
from small_sweeps import WAVES, content, quietly, without_times

pytestmark = pytest.mark.usefixtures("compile_cache")

SEARCH = dataclasses.replace(
    WAVES, sweep=Sweep({}, members=1, seeds=2, shapes={"hidden_sizes": "8,4x4"}, trials=2)
)


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """Two trials of two members that differ in their seeds alone."""
    run_dir = tmp_path_factory.mktemp("runs") / "search"
    return quietly(jaxdrl.run, dataclasses.replace(SEARCH, run_dir=run_dir))


def test_a_search_writes_what_a_sweep_does(search):
    names = {path.name for path in search.run_dir.iterdir()}
    pictures = {"response.png", "parallel.png"}
    assert names == {
        "best.json",
        "result.json",
        "config.json",
        "optuna.db",
        "trials",
    } | pictures | {".lock"}
    rows = search.result["settings"]
    assert sorted(row["trial"] for row in rows) == [0, 1]
    assert rows[0]["ci95_low"] >= rows[1]["ci95_low"]
    best = content(search.run_dir / "best.json")["experiment"]
    sizes = {"8": [8], "4x4": [4, 4]}[rows[0]["shape"]["hidden_sizes"]]
    assert (best["algorithm"]["network"]["hidden_sizes"], best["sweep"]) == (sizes, None)
    for trial in (0, 1):
        part = content(search.run_dir / "trials" / str(trial) / "result.json")
        assert part["settings"][0]["ci95_low"] == search.result["trials"][trial]["score"]
        assert part["env_steps"] == SEARCH.total_env_steps


def test_a_search_gives_back_its_best_member(search, tmp_path):
    best = search.result["evaluation"]
    assert search.evaluation.mean_return == best["mean_return"]
    assert best["member_returns"][best["best_member"]] == best["mean_return"]
    assert len(best["member_returns"]) == 4
    found = io.StringIO()
    with contextlib.redirect_stdout(found):
        main.main(f"evaluate {search.run_dir} --num-episodes 4".split())
        main.main(f"plot {search.run_dir} --out {tmp_path / 'curves.png'}".split())
        main.main(f"watch {search.run_dir} --once".split())
    assert "hidden_sizes=8 " in found.getvalue()
    assert "finished, trials/1: 512 of 512 steps" in found.getvalue()


def test_a_search_killed_in_its_last_trial_ends_the_same(search, tmp_path):
    run_dir = tmp_path / "search"
    shutil.copytree(search.run_dir, run_dir)
    for name in ("result.json", "best.json", "optuna.db", "trials/1/result.json"):
        (run_dir / name).unlink()
    shutil.rmtree(run_dir / "trials" / "1" / "checkpoints" / "00000004")
    resumed = quietly(jaxdrl.resume, run_dir)
    assert without_times(resumed.result) == without_times(search.result)
    assert content(run_dir / "best.json") == content(search.run_dir / "best.json")
    with pytest.raises(ConfigError, match="all its trials are done"):
        quietly(jaxdrl.resume, run_dir)
    with pytest.raises(ConfigError, match="total_env_steps = 9999: is the same for all trials"):
        quietly(jaxdrl.resume, run_dir, total_env_steps=9999)
