"""Commands and calls that messages name. Importing this module imports nothing but Python's own."""

from __future__ import annotations

import shlex
from pathlib import Path


def python_call(verb: str, run_dir: Path, overrides: list[str]) -> str:
    """The line of Python that hands a run the objects that no file holds."""
    return (
        f"jaxdrl.{verb}({str(run_dir)!r}, {', '.join(f'{name}=my_{name}' for name in overrides)})"
    )


def resume_call(run_dir: Path, overrides: list[str]) -> str:
    """The command, or the line of Python, that goes on with a run."""
    if overrides:
        return f"{python_call('resume', run_dir, overrides)} in Python"
    return f"jaxdrl resume {shlex.quote(str(run_dir))}"
