"""The description of the package for its index: README.md, whose links lead into the repository.

hatchling calls it when it builds the wheel or the archive of the sources.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?:|#)([^)]+)\)")
"""A link or picture whose target is a path."""


def absolute(text: str, repository: str, tag: str) -> str:
    """Text in Markdown whose links to files of the repository are those of one version of it."""

    def link(found: re.Match[str]) -> str:
        mark, words, path = found.groups()
        return f"{mark}[{words}]({repository}/{'raw' if mark else 'blob'}/{tag}/{path})"

    return LINK.sub(link, text)


class Description(MetadataHookInterface):
    """What pyproject.toml calls dynamic, besides the version."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Adds the description."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = absolute(text, metadata["urls"]["Repository"], f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
