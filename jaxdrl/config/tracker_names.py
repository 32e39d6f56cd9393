"""The trackers that a config may name. Importing this module imports nothing but Python's own."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from jaxdrl.errors import ConfigError

PACKAGES = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
"""Trackers that `Experiment.track` may name, with what they import; each is an extra as well."""


def require_known(names: Sequence[str]) -> None:
    """Raises `ConfigError` for an unknown tracker, naming the nearest."""
    for name in names:
        if name not in PACKAGES:
            (close,) = difflib.get_close_matches(str(name).lower(), PACKAGES, n=1, cutoff=0)
            have = f"there are {', '.join(PACKAGES)}"
            raise ConfigError(f"track = {name!r}: unknown tracker; the nearest: {close}; {have}")
