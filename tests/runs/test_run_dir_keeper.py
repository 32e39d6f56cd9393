"""What a run keeps true of its directory while it trains."""

import json
import os
import shutil

import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import read_sealed
from jaxdrl.runs.locking import claim, writer_of
from jaxdrl.runs.run_dir import read_run
from jaxdrl.runs.run_dir_keeper import Keeper
from small_runs import CARTPOLE, config_of

CONFIG = config_of(CARTPOLE)


def progress_of(*names):
    return {"log": {"files": dict.fromkeys(names)}}


@pytest.fixture
def keeper(tmp_path):
    warnings = []
    with claim(tmp_path / "run") as claimed:
        keeper = Keeper(tmp_path / "run", CONFIG, claimed, warnings.append)
        keeper.warnings = warnings
        yield keeper


def test_a_directory_that_was_removed_is_made_anew_with_its_config(keeper):
    keeper.before(progress_of())
    keeper.warnings.clear()
    shutil.rmtree(keeper.run_dir)
    keeper.before(progress_of("metrics.jsonl"))
    assert read_run(keeper.run_dir).experiment == CARTPOLE
    assert writer_of(keeper.run_dir).startswith(f"process {os.getpid()} on ")
    (warning,) = keeper.warnings
    assert warning.startswith(f"{keeper.run_dir} was removed while the run trained")
    keeper.before(progress_of())
    assert len(keeper.warnings) == 1


def test_the_first_checkpoint_is_noted_in_the_config(keeper):
    keeper.before(progress_of())
    assert not read_run(keeper.run_dir).origin.has_checkpoints
    keeper.after()
    assert read_run(keeper.run_dir).origin.has_checkpoints
    content = read_sealed(keeper.run_dir / "config.json", "")
    before = os.stat(keeper.run_dir / "config.json").st_ino
    keeper.after()
    assert os.stat(keeper.run_dir / "config.json").st_ino == before
    assert {**content, "has_checkpoints": False, "sha256": 0} == json.loads(
        json.dumps({**CONFIG, "sha256": 0})
    )


def test_the_first_checkpoint_of_a_resumed_run_brings_the_memory_that_was_counted(keeper):
    keeper.before(progress_of())
    keeper.after()
    counted = {"num": 2, "needed_bytes": 9, "is_counted": True}
    config = read_sealed(keeper.run_dir / "config.json", "") | {"devices": counted}
    resumed = Keeper(keeper.run_dir, config, keeper.claim, keeper.warn)
    resumed.before(progress_of())
    assert read_run(keeper.run_dir).devices == {}
    resumed.after()
    assert read_run(keeper.run_dir).devices == counted


def test_logs_are_on_the_disk_before_the_checkpoint_that_is_bound_to_them(keeper, monkeypatch):
    keeper.before(progress_of())
    synced, fsync = set(), os.fsync

    def note(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    names = ("metrics.jsonl", "lineage.jsonl")
    for name in names:
        (keeper.run_dir / name).write_text("{}\n")
    keeper.before(progress_of(*names))
    assert {os.stat(keeper.run_dir / name).st_ino for name in names} <= synced


def test_a_directory_that_another_process_took_is_left_to_it(keeper, monkeypatch):
    keeper.before(progress_of())
    shutil.rmtree(keeper.run_dir)
    with claim(keeper.run_dir), pytest.raises(ConfigError, match="is writing to it"):
        keeper.before(progress_of())
    assert not (keeper.run_dir / "config.json").exists()
