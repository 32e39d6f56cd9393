"""No algorithm is another's file with small changes; `pytest -rP` shows how much each two share.

What is compared are the algorithms' own files: `NAME.py` and `NAME_*.py`, or those of the folder
`NAME`. What counts is a line of code as it stands, without its indentation. Blank lines, imports,
docstrings, comments and lines of punctuation do not count. The lines that two algorithms share are
those that difflib finds in the same order in both, as a share of the lines of both: 0 where they
have none in common, 1 where they are the same.
"""

import ast
import itertools
import re
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from jaxdrl.config.algorithms import ALGORITHMS

PAIRS = list(itertools.combinations(ALGORITHMS, 2))
FOLDER = Path(__file__).parents[2] / "jaxdrl" / "algorithms"
MOST_EQUAL, MOST_LINES = 0.25, 250


def files_of(name):
    found = sorted({*FOLDER.glob(f"{name}.py"), *FOLDER.glob(f"{name}_*.py")})
    return found or sorted((FOLDER / name).glob("*.py"))


def code_of(text):
    """The lines that count."""
    ignored = set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            ignored |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return [x for i, x in lines if i not in ignored and x[:1] != "#" and re.search(r"\w", x)]


def share(one, other):
    """Equal lines as a share of the lines of both."""
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def all_code(name):
    return [line for path in files_of(name) for line in code_of(path.read_text())]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_fits_its_own_files(name):
    assert files_of(name)
    for path in files_of(name):
        assert len(path.read_text().splitlines()) <= MOST_LINES, path.name


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_two_algorithms_share_few_lines(pair):
    one, other = map(all_code, pair)
    found = share(one, other)
    print(f"{pair[0]} ({len(one)} lines) and {pair[1]} ({len(other)}): {found:.0%} equal")
    assert found <= MOST_EQUAL


def test_a_copy_would_be_seen():
    (path,) = files_of("impala")
    text = path.read_text()
    assert len(code_of(text)) > 50
    copied = re.sub(r"\bVTrace\b", "Other", text).replace("    ", "\t")
    assert MOST_EQUAL < share(code_of(text), code_of(copied)) < 1
    assert code_of('"""Words."""\nimport re\n# Words.\n\nx = (\n  1\n)\n') == ["x = (", "1"]
    assert share(["a", "b", "c", "d"], ["x", "b", "d"]) == pytest.approx(4 / 7)
