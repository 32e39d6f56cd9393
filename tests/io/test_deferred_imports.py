"""Imports that are put off until something of the module is used."""

import importlib
import subprocess
import sys

import pytest

from jaxdrl.io.deferred_imports import deferred

OF_GYMNAX = """
import sys
import jaxdrl
jaxdrl.make("CartPole-v1")
assert not {"seaborn", "pandas", "scipy.stats", "matplotlib.pyplot"} & set(sys.modules)
import gymnax
import jax
import matplotlib
matplotlib.use("agg")
env, params = gymnax.make("Catch-bsuite")
_, state = env.reset(jax.random.key(0), params)
figure, axes = env.render(state, params)
import matplotlib.pyplot as plt
assert isinstance(figure, plt.Figure) and axes.figure is figure
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """`drawing` with a submodule, and `user`, which imports it; both are fresh."""
    (tmp_path / "drawing").mkdir()
    (tmp_path / "drawing/__init__.py").write_text("line = [1, 2]\n")
    (tmp_path / "drawing/colours.py").write_text("red = 3\n")
    (tmp_path / "user.py").write_text("import drawing\n\ndef draw():\n    return drawing.line\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("drawing", "drawing.colours", "user"):
        sys.modules.pop(name, None)


def is_loaded():
    return hasattr(sys.modules.get("drawing"), "__file__")


def test_it_is_loaded_when_something_of_it_is_used(modules):
    with deferred("drawing"):
        user = importlib.import_module("user")
    assert "drawing" not in sys.modules
    line = user.draw()
    assert is_loaded() and sys.modules["drawing"].line is line == [1, 2]
    with pytest.raises(AttributeError, match="circle"):
        _ = user.drawing.circle


def test_what_is_used_within_the_block_is_loaded_there(modules):
    with deferred("drawing"):
        user = importlib.import_module("user")
        assert user.draw() == [1, 2]
        assert importlib.import_module("drawing.colours").red == 3
    assert is_loaded()


def test_others_import_it_as_ever(modules):
    with deferred("drawing"):
        user = importlib.import_module("user")
    whole = importlib.import_module("drawing")
    assert is_loaded() and user.draw() is whole.line
    with deferred("drawing"):  # is loaded already
        assert sys.modules["drawing"] is whole
    assert sys.modules["drawing"] is whole


def test_nothing_stays_behind_when_the_import_fails(modules, tmp_path):
    (tmp_path / "user.py").write_text("import drawing\nimport nothing_of_this_name\n")
    with pytest.raises(ImportError, match="nothing_of_this_name"), deferred("drawing"):
        importlib.import_module("user")
    assert "drawing" not in sys.modules


def test_an_environment_of_gymnax_is_made_without_what_draws_and_gymnax_can_still_draw():
    done = subprocess.run([sys.executable, "-c", OF_GYMNAX], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
