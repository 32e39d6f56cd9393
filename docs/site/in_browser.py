"""Looks at the built site in a browser: `python docs/site/in_browser.py [browser]`.

Every page is opened in a wide window, on a phone and in the dark; a page that is wider than the
window, a picture that does not load or an error of a script is printed, and gives exit status 1.
It needs `pip install playwright` and a Chromium, whose path is the argument.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

SITE = Path(__file__).resolve().parents[2] / "build/site"
WINDOWS = {
    "wide": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
}
BROKEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
IS_WIDE = "document.documentElement.scrollWidth > innerWidth + 1"


@contextmanager
def served() -> Iterator[str]:
    """The address of the site on this machine, since browsers restrict what a file may load."""
    handler = partial(QuietHandler, directory=SITE)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """Logs no requests."""

    def log_message(self, *args: object) -> None:
        """Says nothing."""


def look(page: Page, address: str) -> list[str]:
    """What is wrong with a page."""
    page.goto(address)
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_load_state("networkidle")
    wrong = [f"picture {source} does not load" for source in page.evaluate(BROKEN)]
    return wrong + (["is wider than the window"] if page.evaluate(IS_WIDE) else [])


def search(page: Page, site: str, words: str) -> int:
    """How many results the search has."""
    page.goto(f"{site}/search.html?q={words}")
    page.wait_for_selector("#search-results li", timeout=20_000)
    return page.locator("#search-results li").count()


def _note(errors: list[Any], error: Any) -> None:
    errors.append(error)


def main(browser: str | None) -> int:
    """Looks at every page in every window."""
    found: list[str] = []
    failed: list[Any] = []
    hidden = ("_modules", "_static")
    paths = sorted(path.relative_to(SITE) for path in SITE.rglob("*.html"))
    with served() as site, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, how in WINDOWS.items():
            page = chromium.new_context(**how).new_page()
            page.on("pageerror", partial(_note, failed))
            for path in (path for path in paths if path.parts[0] not in hidden):
                found += [f"{name}: {path}: {words}" for words in look(page, f"{site}/{path}")]
        num_results = search(page, site, "checkpoint")
    print(f"{num_results} results for checkpoint")
    found += [f"a script fails: {error}" for error in failed]
    print("\n".join(found) or "every page is as it should be")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
