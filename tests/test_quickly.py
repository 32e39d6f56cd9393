"""Which files a session of pytest runs, and the flags that it gives to the compiler."""

import os

import jax
import pytest

import quickly


@pytest.fixture
def files(tmp_path):
    bits = "\nFULLY_OPTIMIZED = True\n"
    texts = {"plain": "x = 1\n", "bits": bits, "bits_too": bits}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {name: tmp_path / name for name in texts}


@pytest.mark.parametrize(
    ("names", "asked", "kind", "left_out"),
    [
        (["plain"], None, "quickly", []),
        (["bits"], None, "fully", []),
        (["bits", "bits_too"], None, "fully", []),
        (["plain", "bits", "bits_too"], None, "quickly", ["bits", "bits_too"]),
        (["plain", "bits"], "quickly", "quickly", ["bits"]),
        (["plain", "bits"], "fully", "fully", ["plain"]),
        (["bits"], "quickly", "quickly", ["bits"]),
        ([], None, "quickly", []),
    ],
)
def test_a_session_runs_the_files_of_one_kind(files, names, asked, kind, left_out):
    found = quickly.choose([files[name] for name in names], asked)
    assert found == (kind, [files[name] for name in left_out])


def test_this_session_compiles_quickly_and_a_test_can_have_the_users_flags(monkeypatch):
    assert jax.config.values["jax_disable_most_optimizations"]
    assert os.environ["XLA_FLAGS"].endswith(quickly.FLAGS)
    quickly.turn_off(monkeypatch)
    assert quickly.FLAGS not in os.environ["XLA_FLAGS"]
    assert "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ
