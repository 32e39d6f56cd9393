"""The code blocks of the pages, which tests run as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(path, language):
    """`(line, text)` of the fenced blocks of a language; `line` is that of the first line."""
    text = path.read_text()
    found = [match for match in FENCE.finditer(text) if match.group(2) == language]
    return [(text.count("\n", 0, match.start(3)) + 1, match.group(3)) for match in found]


def run_blocks(path, directory):
    """Runs the python blocks of a page in one process, which fails on a warning."""
    script = ""
    for line, text in blocks(path, "python"):
        script += "\n" * (line - 1 - script.count("\n")) + text  # the lines of the file
    (directory / f"page_{path.stem}.py").write_text(script)
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    process = subprocess.run(
        [sys.executable, "-W", "error", f"page_{path.stem}.py"],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout
