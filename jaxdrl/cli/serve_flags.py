"""`jaxdrl serve` on the command line."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxdrl.cli.exits import DONE, end_at_once
from jaxdrl.errors import ConfigError

NEEDED = ("starlette", "uvicorn", "httptools", "prometheus_client")


def serve(
    run_dir: tyro.conf.Positional[Path],
    *,
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1",
    port: int = 8000,
    checkpoint: int | Literal["best"] | None = None,
    member: int | None = None,
    setting: int | None = None,
    wait: float = 0.0,
    seconds: float = 1.0,
    max_body: int = 4_194_304,
    max_json: int = 1_048_576,
    max_rows: int = 4096,
    max_sessions: int = 10_000,
    session_seconds: float = 600.0,
    body_seconds: float = 10.0,
    max_connections: int = 1000,
    grace: float = 10.0,
) -> None:
    """Serve the policy of a run over HTTP, and load each new checkpoint while the run trains.

    The environment variable JAXDRL_TOKEN, of at least 16 characters, is the token that clients
    must send; it is required if --host is an address that other machines can reach.

    Args:
      run_dir: Directory of the run, which may still be running.
      host: Address to listen on.
      port: Port to listen on; 0 takes a free one.
      checkpoint: Which checkpoint, by its update, or best; None: always the last.
      member: Number of a member of a sweep; None: the best.
      setting: Number of a setting in the table of a sweep, instead of a member: its best seed.
      wait: Seconds to wait for the run and its first checkpoint.
      seconds: Seconds between checks for a new checkpoint.
      max_body: Maximum size of a request body in bytes.
      max_json: Maximum size of a JSON body in bytes; JSON takes long to parse.
      max_rows: Maximum number of observations in a request.
      max_sessions: Maximum number of sessions; a session for a batch counts once per observation.
      session_seconds: Seconds without a request after which a session is dropped.
      body_seconds: Seconds within which a whole request must arrive.
      max_connections: Maximum number of open connections.
      grace: Seconds to finish the requests being answered when the server is told to stop.
    """
    _require_extra()
    from jaxdrl.serving.limits import Limits
    from jaxdrl.serving.server import What, main

    sizes = max_body, max_json, max_rows, max_sessions
    limits = Limits(*sizes, session_seconds, body_seconds, max_connections, grace)
    main(What(run_dir, host, port, checkpoint, member, setting, wait, seconds, limits))
    for thread in threading.enumerate():
        if thread.name.startswith("jaxdrl-"):
            thread.join(1.0)
            if thread.is_alive():  # in the middle of a program
                end_at_once(DONE)


def _require_extra() -> None:
    """Refuses to serve where the extra is missing.

    Raises:
      ConfigError: with the command that installs it.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"{name} is not installed; install it with: pip install 'jaxdrl[serve]'"
            )
