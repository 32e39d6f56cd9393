"""Commands and calls for messages. Importing this module imports only Python's standard library."""

from __future__ import annotations

import shlex
from pathlib import Path


def python_call(verb: str, run_dir: Path, overrides: list[str]) -> str:
    """The line of Python that passes a run the objects that are not stored in its files."""
    return (
        f"jaxdrl.{verb}({str(run_dir)!r}, {', '.join(f'{name}=my_{name}' for name in overrides)})"
    )


def resume_call(run_dir: Path, overrides: list[str]) -> str:
    """The command, or the line of Python, that resumes a run."""
    if overrides:
        return f"{python_call('resume', run_dir, overrides)} in Python"
    return f"jaxdrl resume {shlex.quote(str(run_dir))}"
