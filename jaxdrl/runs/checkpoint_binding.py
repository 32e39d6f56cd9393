"""What a checkpoint belongs to: its run, its place, its config, and the logs before it.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxdrl.errors import ConfigError
from jaxdrl.io import log_files
from jaxdrl.io.json_files import read_bytes, read_object
from jaxdrl.runs.run_dir import CHECKPOINTS, CONFIG_FILE, PUT_BACK

MAY_CHANGE = (
    *("experiment.devices", "experiment.total_env_steps", "experiment.run_dir"),
    "experiment.stuck_after",
    *(f"experiment.acting.actor_{name}" for name in ("devices", "timeout", "retries")),
    *("experiment.algorithm.anneal_env_steps", "spaces", "versions", "devices"),
    *("has_checkpoints", "sha256"),
)
"""Fields of a config that `resume`, another machine or a moved directory may change."""


def require_of_run(config: dict[str, Any], path: Path, manifest: dict[str, Any]) -> None:
    """Refuses a checkpoint of another run, or of another config than the present one.

    Args:
      config: content of `config.json`.
      path: of the checkpoint.
      manifest: of the checkpoint.

    Raises:
      ConfigError: saying what differs.
    """
    there = manifest["config"]
    if there.get("run_id") != config["run_id"]:
        raise ConfigError(
            f"{path}: is a checkpoint of another run ({there.get('run_id')}, while this one is "
            f"{config['run_id']}); move it back, or elsewhere"
        )
    for name in differences(config, there):
        raise ConfigError(
            f"{path}: was saved with {name} = {value_at(there, name)!r}, and config.json has "
            f"{value_at(config, name)!r}; put back what was there"
        )


def differences(here: dict[str, Any], there: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the fields in both that differ and must not."""
    found = []
    for field in here:
        name = f"{prefix}{field}"
        if name in MAY_CHANGE or field not in there or here[field] == there[field]:
            continue
        if isinstance(here[field], dict) and isinstance(there[field], dict):
            inside = differences(here[field], there[field], f"{name}.")
            found += inside or ([name] if here[field].keys() != there[field].keys() else [])
        else:
            found.append(name)
    return found


def value_at(content: Any, name: str) -> Any:
    """The value under a dotted name."""
    for field in name.split("."):
        content = content[field]
    return content


def require_logs(run_dir: Path, path: Path, manifest: dict[str, Any]) -> None:
    """Refuses logs that do not start with what was written before a checkpoint.

    Args:
      run_dir: with the logs.
      path: of the checkpoint.
      manifest: of the checkpoint.

    Raises:
      ConfigError: naming the file and how it differs.
    """
    for name, snapshot in manifest["progress"]["log"]["files"].items():
        whose = f"what was written before the checkpoint of update {manifest['update']}"
        log_files.require(run_dir / name, snapshot, whose)


def doubt_about(run_dir: Path, name: str) -> str | None:
    """How a log or the config differs from what the last checkpoint belongs to.

    None where nothing is known: without a checkpoint, or if all are damaged, which is reported by
    the verbs that read one.
    """
    config, others = run_dir / CONFIG_FILE, set()
    for manifest in _valid_manifests(run_dir):
        run_id = manifest["config"]["run_id"]
        if run_id != read_object(config, PUT_BACK).get("run_id"):
            others.add(run_id)
            continue
        whose = f"what was written before the checkpoint of update {manifest['update']}"
        try:
            log_files.require(run_dir / name, manifest["progress"]["log"]["files"][name], whose)
        except ConfigError as error:
            return str(error).removesuffix(f"; {log_files.WORKS}")
        return None
    there = f"the run of all checkpoints beside it, {' and '.join(sorted(others))}"
    return f"{config}: does not belong to {there}; {PUT_BACK}" if others else None


def _valid_manifests(run_dir: Path) -> Iterator[dict[str, Any]]:
    """The manifests with a valid digest, that of the last checkpoint first."""
    for path in sorted(run_dir.glob(f"{CHECKPOINTS}/[0-9]*/manifest.json"), reverse=True):
        try:
            digest = hashlib.sha256(read_bytes(path, "")).hexdigest()
            is_whole = digest.encode() in read_bytes(path.with_name("SHA256SUMS"), "")
            manifest = read_object(path, "")
        except ConfigError:
            continue
        if is_whole:
            yield manifest
