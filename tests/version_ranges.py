"""Some tests with the lowest or the newest versions that pyproject.toml allows, on each Python.

Every supported Python at hand gets an environment of its own, one after the other. Usage:
`make test-lowest` or `make test-newest`.
"""

import subprocess
import sys
import time
import tomllib

from packaging.specifiers import SpecifierSet

import other_pythons

RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
TESTS = ("tests/core", "tests/config", "tests/runs/test_train_run.py", "tests/test_package.py")
"""What depends on the versions most and takes a few minutes."""


def pythons(chosen):
    """`{version: path}` of one Python for each supported minor version, or of the chosen ones."""
    project = tomllib.loads((other_pythons.ROOT / "pyproject.toml").read_text())["project"]
    supported = SpecifierSet(project["requires-python"])
    found = other_pythons.others("", supported, [sys.executable, *other_pythons.places()])
    of_minor = {version.rpartition(".")[0]: version for version in found}
    wanted = chosen.split(",") if chosen else of_minor
    return {of_minor[minor]: found[of_minor[minor]] for minor in wanted if minor in of_minor}


def commands(uv, which, venv, python, extras, workers, tests):
    """What makes an environment, fills it and runs the tests, which is the last."""
    own = f"{venv}/bin/python"
    install = [uv, "pip", "install", "--quiet", "--python", own]
    install += ["--resolution", RESOLUTIONS[which], "--editable", f".[{','.join(extras)}]"]
    run = [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", workers]
    return [
        [uv, "venv", "--quiet", "--clear", "--python", python, venv],
        install,
        [*run, "--compile=quickly", *(tests or TESTS)],
    ]


def attempt(steps):
    """Runs commands until one fails: `(whether all passed, what they printed)`."""
    printed = ""
    for step in steps:
        done = subprocess.run(
            step,
            cwd=other_pythons.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        printed += done.stdout
        if done.returncode:
            return False, printed
    return True, printed


def main(which, uv, venv, workers, extras, chosen, *tests):
    """Tries every Python, says how each went, and counts those that failed."""
    found = pythons(chosen)
    failed = []
    for version, python in found.items():
        started, place = time.monotonic(), f"{venv}-{which}-{version}"
        names = ["test", *filter(None, extras.split(","))]
        passed, printed = attempt(commands(uv, which, place, python, names, workers, tests))
        seconds = time.monotonic() - started
        words = "passed" if passed else "FAILED"
        print(f"---- {which} versions on Python {version}: {words} in {seconds:.0f} s")
        print("".join(printed.splitlines(keepends=True)[-1 if passed else 0 :]), end="", flush=True)
        failed += [] if passed else [version]
    if not found:
        print("There is no supported Python to try.")
        return 1
    print(f"Tried the {which} versions on Python {', '.join(found)}", end="")
    print(f"; failed on {', '.join(failed)}" if failed else ": all passed")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
