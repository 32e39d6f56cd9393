"""Keeps a run directory in order while the run trains: it exists, is claimed, and has a config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdrl.io.json_files import sealed, write_sealed
from jaxdrl.io.safe_files import sync
from jaxdrl.runs.locking import Claim
from jaxdrl.runs.run_dir import CONFIG_FILE


class Keeper:
    """Looks after a run directory before and after each checkpoint.

    Args:
      run_dir: the directory.
      config: content of its `config.json`.
      claim: by which this process is its only writer.
      warn: takes warnings.
    """

    def __init__(
        self, run_dir: Path, config: dict[str, Any], claim: Claim, warn: Callable[[str], Any]
    ) -> None:
        self.run_dir, self.config, self.claim, self.warn = run_dir, config, claim, warn
        self.is_noted = False

    def before(self, progress: dict[str, Any]) -> None:
        """Recreates a directory that was removed, and flushes the logs to the disk.

        Raises:
          OSError: if it cannot be written.
          ConfigError: if another process is now its writer.
        """
        self.recreate()
        for name in progress["log"]["files"]:
            if (self.run_dir / name).exists():
                sync(self.run_dir / name)

    def recreate(self) -> None:
        """Recreates a directory that was removed.

        Raises:
          OSError: if it cannot be written.
          ConfigError: if another process is now its writer.
        """
        was_removed = not self.run_dir.exists()
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.claim.check()
        if not (self.run_dir / CONFIG_FILE).exists():
            write_sealed(self.run_dir / CONFIG_FILE, self.config)
            what = self.run_dir if was_removed else self.run_dir / CONFIG_FILE
            self.warn(
                f"{what} was removed while the run trained; it is created again, with what is "
                "written from here on"
            )

    def after(self) -> None:
        """Notes in the config that there are checkpoints, so that their loss would be noticed.

        The memory that the compiler has counted comes with it, once in a process.

        Raises:
          OSError: if it cannot be written.
        """
        if not self.is_noted:
            self.config = with_checkpoints(self.config)
            write_sealed(self.run_dir / CONFIG_FILE, self.config)
            self.is_noted = True


def with_checkpoints(config: dict[str, Any]) -> dict[str, Any]:
    """The content of `config.json` once there are checkpoints; their manifests hold it too."""
    return sealed(config | {"has_checkpoints": True})
