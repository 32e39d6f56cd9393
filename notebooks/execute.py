"""Executes the notebooks from top to bottom, and writes them back with what they put out.

    python notebooks/execute.py
    python notebooks/execute.py notebooks/01_quickstart.ipynb

What a cell leaves behind, such as `runs/`, goes to a directory that is removed. What would change
at each execution is stripped; a digest of the sources stays, by which a test sees outputs that are
not those of the cells above them.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SECONDS = 600
"""How long a cell may take."""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def paths() -> list[Path]:
    """The notebooks, in their order."""
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> Any:
    """A notebook from a file."""
    import nbformat

    return nbformat.read(path, as_version=4)


def write(notebook: Any, path: Path) -> None:
    """A notebook to a file."""
    import nbformat

    nbformat.write(notebook, path)


def execute(notebook: Any, directory: Path) -> None:
    """Runs every cell with this Python in `directory`; every warning is shown.

    Raises:
      nbclient.exceptions.CellExecutionError: at the first cell that fails.
    """
    from jupyter_client import AsyncKernelManager
    from nbclient import NotebookClient

    # Sockets are files, through which no other user of this machine can reach the kernel.
    with tempfile.TemporaryDirectory() as sockets:
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        client = NotebookClient(
            notebook,
            km=kernel,
            timeout=SECONDS,
            startup_timeout=SECONDS,
            record_timing=False,
            resources={"metadata": {"path": str(directory)}},
        )
        env = {**os.environ, "PYTHONWARNINGS": "default"}
        if not any("reproducible=True" in cell.source for cell in notebook.cells):
            # What runs for seconds need not be compiled with all care, which halves the time; equal
            # bits on any number of devices are promised for the default flags alone.
            flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"
            env["XLA_FLAGS"] = flags.strip()
        client.execute(env=env, cleanup_kc=True)


def strip(notebook: Any) -> None:
    """Takes out what differs between two executions of the same cells, or two machines."""
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02}"
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if "text/plain" in output.get("data", {}) and len(output.data) > 1:
                output.data.pop("text/plain")  # that there is a figure, which can be seen
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = lighten(output.data["image/png"])
            if "image/gif" in output.get("data", {}):
                output.data["text/html"] = film_in_html(output.data.pop("image/gif"))
    notebook.metadata = {**METADATA, "sources_sha256": digest(notebook)}


def lighten(png: str) -> str:
    """A picture in base64 with 256 colours, which is half the size."""
    from PIL import Image

    with io.BytesIO() as file:
        picture = Image.open(io.BytesIO(base64.b64decode(png)))
        picture.convert("RGB").quantize(256).save(file, "png", optimize=True)
        return base64.b64encode(file.getvalue()).decode()


def film_in_html(gif: str) -> str:
    """A film in base64 as HTML, since tools that turn notebooks into pages leave GIF files out."""
    data = "".join(gif.split())
    return f'<img src="data:image/gif;base64,{data}" alt="film of episodes">'


def digest(notebook: Any) -> str:
    """Hex digest of the kinds and sources of all cells."""
    sources = [f"{cell.cell_type}\n{cell.source}\n" for cell in notebook.cells]
    return hashlib.sha256("".join(sources).encode()).hexdigest()


def main() -> None:
    """Executes those that are named, or all."""
    parser = argparse.ArgumentParser(description="Execute the notebooks in place.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="files; none: all of them")
    for path in parser.parse_args().notebooks or paths():
        notebook = read(path)
        with tempfile.TemporaryDirectory() as directory:
            execute(notebook, Path(directory))
        strip(notebook)
        write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
