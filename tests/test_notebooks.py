"""The notebooks run from top to bottom, and what is committed with them is what they put out."""

import copy
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

import quickly

ROOT = Path(__file__).parent.parent
tool = SimpleNamespace(**runpy.run_path(str(ROOT / "notebooks" / "execute.py")))
PATHS = tool.paths()
LIMIT = 300 * 1024
MACHINE = re.compile(r"/(root|home|Users|tmp|usr|opt|work|var)/|site-packages|[A-Z]:\\")


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(output):
    return output.get("text", "") + "".join(
        text for kind, text in output.get("data", {}).items() if kind.startswith("text/")
    )


def problems(notebook):
    """What is wrong with a notebook that is committed, in words."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = outputs(notebook)
    checks = {
        "is not executed in order": [cell.execution_count for cell in code]
        == list(range(1, len(code) + 1)),
        "has sources that are not those it was executed with": notebook.metadata.get(
            "sources_sha256"
        )
        == tool.digest(notebook),
        "has an error": all(output.output_type != "error" for output in found),
        "has a warning": all(output.get("name") != "stderr" for output in found),
        "has a path of the machine": not any(MACHINE.search(text_of(x)) for x in found),
        "has escape codes": not any("\x1b" in text_of(x) for x in found),
        "has metadata of an execution": not any(cell.metadata for cell in notebook.cells),
    }
    return [words for words, is_fine in checks.items() if not is_fine]


def test_there_are_notebooks():
    assert len(PATHS) == 7


SHORTER = {
    "01_quickstart": {"total_env_steps=300_000": "total_env_steps=120_000"},
    "02_explore_results": {
        "total_env_steps=100_000": "total_env_steps=10_000",
        "total_env_steps=300_000": "total_env_steps=10_000",
        "for seed in range(3)": "for seed in range(2)",
        "NUM_SEEDS = 32, 8, 16": "NUM_SEEDS = 8, 8, 2",
        "for num_envs in (8, 32, 128)": "for num_envs in (8,)",
    },
    "03_reuse_the_step": {
        "NUM_UPDATES = 45": "NUM_UPDATES = 3",
        "jax.random.split(jax.random.key(1), 8)": "jax.random.split(jax.random.key(1), 2)",
        # Other tests compare bits, with programs that cost less under the flags that promise them.
        "reproducible=True": "reproducible=False",
        "assert sha256(states[1]) == sha256(states[8])": "assert list(states) == [1, 8]",
    },
    "04_populations": {
        "num_updates=120": "num_updates=10",
        "total_env_steps=60_000": "total_env_steps=2_000",
    },
    "05_asynchronous": {
        "NUM_UPDATES = 40": "NUM_UPDATES = 6",
        "AGES = (0, 1, 2, 4, 8)": "AGES = (2,)",
        "NUM_SEEDS = 2": "NUM_SEEDS = 1",
    },
    "06_agents": {
        "total_env_steps=600_000": "total_env_steps=10_000",
        "NUM_UPDATES, EVERY = 180, 30": "NUM_UPDATES, EVERY = 4, 2",
        "num_games=1000": "num_games=100",
        "for turn in range(9)": "for turn in range(4)",
        "num_games=400": "num_games=40",
    },
    "07_continual": {
        "BEFORE, AFTER = 100_000, 300_000": "BEFORE, AFTER = 40_000, 40_000",
        "CARTS = 32": "CARTS = 8",
    },
}
"""What makes the same cells learn less, by notebook."""


def shorten(notebook, changes):
    """Every change happens once."""
    for before, after in changes.items():
        (cell,) = [cell for cell in notebook.cells if before in cell.source]
        cell.source = cell.source.replace(before, after)


@pytest.mark.parametrize("is_short", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_error_or_warning(path, is_short, tmp_path, monkeypatch):
    import matplotlib.font_manager  # noqa: F401  the kernel's first would say that it lists fonts

    notebook = tool.read(path)
    if is_short:
        shorten(notebook, SHORTER[path.stem])
    # Equal bits on any number of devices are promised for the default flags alone.
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    if not is_short or any("reproducible=True" in source for source in code):
        quickly.turn_off(monkeypatch)
    tool.execute(notebook, tmp_path)
    assert [text_of(x) for x in outputs(notebook) if x.get("name") == "stderr"] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_is_committed_is_what_comes_out_and_light(path):
    assert problems(tool.read(path)) == []
    assert path.stat().st_size < LIMIT


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_links_point_to_something(path):
    for cell in tool.read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^):\s]+)\)", cell.source):
                assert (path.parent / target).exists(), target


def test_what_is_wrong_would_be_seen():
    good = tool.read(PATHS[0])
    code = [i for i, cell in enumerate(good.cells) if cell.cell_type == "code"]

    def broken(change):
        notebook = copy.deepcopy(good)
        change(notebook.cells[code[1]])
        return problems(notebook)

    def says(name, text):
        return lambda cell: cell.outputs.append(
            nbformat.v4.new_output("stream", name=name, text=text)
        )

    assert broken(lambda cell: None) == []
    assert broken(lambda cell: cell.update(source="1 / 0")) == [
        "has sources that are not those it was executed with"
    ]
    assert broken(lambda cell: cell.update(execution_count=None)) == ["is not executed in order"]
    assert broken(says("stderr", "UserWarning: x")) == ["has a warning"]
    assert broken(says("stdout", "saved to /home/somebody/x")) == ["has a path of the machine"]
    assert broken(says("stdout", "\x1b[1m500\x1b[0m")) == ["has escape codes"]


def test_a_film_is_in_the_page_that_is_made_of_a_notebook():
    """Pages take HTML or PNG from an output, and leave out what is neither."""
    notebook = tool.read(PATHS[0])
    shown = nbformat.v4.new_output("display_data", data={"image/gif": "R0lG\nODlh\n"})
    notebook.cells[1].outputs = [shown]
    tool.strip(notebook)
    expected = '<img src="data:image/gif;base64,R0lGODlh" alt="film of episodes">'
    assert notebook.cells[1].outputs[0].data == {"text/html": expected}
    kinds = [set(output.get("data", ())) for path in PATHS for output in outputs(tool.read(path))]
    assert not any("image/gif" in found for found in kinds)
    assert sum("data:image/gif" in text_of(x) for path in PATHS for x in outputs(tool.read(path)))


def test_stripping_leaves_what_is_the_same_at_every_execution():
    notebook = tool.read(PATHS[0])
    notebook.metadata["widgets"] = {}
    notebook.cells[1].metadata["execution"] = {"started": "now"}
    notebook.cells[1].id = "1f2e3d"
    tool.strip(notebook)
    assert notebook.metadata == {**tool.METADATA, "sources_sha256": tool.digest(notebook)}
    assert notebook.cells[1].metadata == {}
    assert notebook.cells[1].id == "cell-02"
