"""Builds the documentation site: `python docs/site/build.py [folder]`. A warning is an error."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import generated
import pages
from sphinx.cmd.build import build_main

SITE = Path(__file__).parent
OUT = pages.ROOT / "build/site"


def main(out: Path) -> int:
    """Writes the site to `out`; the exit status of Sphinx."""
    written = generated.api_pages(pages.public_names(), pages.submodule_names())
    written["docs/command-line.md"] = generated.command_page()
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "pages")
        pages.stage(source, written)
        status = build(source, out)
    if status == 0:
        print(f"site: {out / 'index.html'}")
    return status


def build(source: Path, out: Path) -> int:
    """Builds the pages in a folder; a broken link or reference gives a status above 0."""
    with tempfile.TemporaryDirectory() as doctrees:
        strict = ["-W", "--keep-going", "-q", "-b", "html", "-c", str(SITE), "-d", doctrees]
        return build_main([*strict, str(source), str(out)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT))
