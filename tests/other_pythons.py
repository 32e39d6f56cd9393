"""Some tests on every other supported Python that is at hand, each in an environment of its own.

At hand is what is on the PATH, and what pyenv and uv have installed. An environment takes 1 GB of
disk: one that was made here is removed when its tests have passed. Usage: `make test-pythons`.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
MAX_SECONDS = 1200.0
"""For one Python, of which the download takes most."""

VERSION = """
import ensurepip, platform, sys, sysconfig, venv
usual = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
print(platform.python_version() if usual else "")
"""


def places():
    """Files that may be a Python."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    uv = Path.home() / ".local/share/uv/python"
    folders += [folder / "bin" for root in (pyenv, uv) for folder in sorted(root.glob("*"))]
    return [
        path for folder in folders for path in sorted(folder.glob("python3*")) if is_named(path)
    ]


def is_named(path):
    """Whether it is called `python3` or `python3.12`."""
    minor = path.name.removeprefix("python3")
    return not minor or (minor[0] == "." and minor[1:].isdigit())


def version_of(python):
    """Its version, such as "3.12.1"; "" where it does not run or can make no environment."""
    try:
        found = subprocess.run([python, "-c", VERSION], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def others(own, supported, paths):
    """`{version: path}` of the supported ones of `paths`, one of each version but `own`."""
    found = {}
    for path in paths:
        version = version_of(path)
        if version and version != own and version in supported:
            found.setdefault(version, path)
    return dict(sorted(found.items()))


def attempt(make, venv, version, python):
    """Installs and tests; `(version, whether it passed, what it printed, seconds)`."""
    started = time.monotonic()
    environment = ROOT / f"{venv}-{version}"
    is_new = not environment.exists()
    command = [make, "--no-print-directory", "test-here", f"PYTHON={python}"]
    command += [f"VENV={venv}-{version}", "EXTRAS=test"]
    environ = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environ | {"PIP_QUIET": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAX_SECONDS,
        )
        passed, printed = done.returncode == 0, done.stdout
    except subprocess.TimeoutExpired as error:
        passed, printed = False, f"{error.output}\nnot done after {MAX_SECONDS:.0f} s\n"
    if passed and is_new:
        shutil.rmtree(environment, ignore_errors=True)
    return version, passed, printed, time.monotonic() - started


def main(make, venv, workers, paths=None):
    """Tries them all, says which those were, and counts those that failed."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    own = platform.python_version()
    found = others(own, SpecifierSet(wanted), places() if paths is None else paths)
    if not found:
        print(f"No Python {wanted} but {own} is at hand: nothing else to try.")
        return 0
    print("Trying Python", ", ".join(f"{version} ({path})" for version, path in found.items()))
    with ThreadPoolExecutor(int(workers)) as pool:
        done = list(pool.map(lambda item: attempt(make, venv, *item), found.items()))
    for version, passed, printed, seconds in done:
        print(f"---- Python {version}: {'passed' if passed else 'FAILED'} in {seconds:.0f} s")
        print("".join(printed.splitlines(keepends=True)[-1 if passed else 0 :]), end="")
    failed = [version for version, passed, *_ in done if not passed]
    print("Tried on Python", ", ".join(found), "besides", own, end="")
    print(f"; failed on {', '.join(failed)}" if failed else ": all passed")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
