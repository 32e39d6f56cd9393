"""What a server says about the policy in use."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

import numpy as np

from jaxdrl import __version__
from jaxdrl.core.spaces import Box, Dict, ObservationSpace
from jaxdrl.serving.access import VARIABLE
from jaxdrl.serving.refusals import json_bytes
from jaxdrl.serving.service import NEW
from jaxdrl.serving.source import Loaded

SHORT = 200
"""Most characters of an example that is a part of a command."""


def describe(loaded: Loaded) -> dict[str, Any]:
    """The version of a policy, and what it is for."""
    version, env = loaded.version, loaded.source.env
    return {
        "update": version.update,
        "env_steps": version.env_steps,
        "run_id": version.run_id,
        "member": version.member,
        "mean_return": version.mean_return,
        "taken_at": datetime.fromtimestamp(version.taken_at, UTC).isoformat(timespec="seconds"),
        "env": loaded.source.stored.experiment.env,
        "observation_space": str(loaded.space),
        "action_space": str(env.action_space),
        "has_memory": loaded.policy.function.has_memory,
        "jaxdrl": __version__,
    }


def example(loaded: Loaded) -> dict[str, Any]:
    """A body that `POST /act` takes."""
    obs = {"obs": _zeros(loaded.space)}
    return obs | {"session": NEW} if loaded.policy.function.has_memory else obs


def command(loaded: Loaded, url: str, needs_token: bool) -> str:
    """A line for a shell that asks a server for an action."""
    token = f' -H "Authorization: Bearer ${VARIABLE}"' if needs_token else ""
    ask = f"curl{token} -H 'Content-Type: application/json'"
    body = json_bytes(example(loaded)).decode().strip()
    if len(body) <= SHORT:
        return f"{ask} -d {shlex.quote(body)} {url}/act"
    return f"curl -s{token} {url}/example | {ask} -d @- {url}/act"


def _zeros(space: ObservationSpace) -> Any:
    """An observation as near to zero as its bounds allow."""
    if isinstance(space, Dict):
        return {name: _zeros(part) for name, part in space.items}
    zeros = np.zeros(space.shape, space.dtype)
    return (np.clip(zeros, space.low, space.high) if isinstance(space, Box) else zeros).tolist()
