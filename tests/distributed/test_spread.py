"""Arrays in several processes: what comes back is what was placed, and its digest the same."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxdrl.distributed import spread
from jaxdrl.distributed.layout import place
from jaxdrl.distributed.mesh import make_mesh, spans_processes
from jaxdrl.distributed.spread import fetch, is_spread, pieces
from jaxdrl.runs.metrics_log import sha256
from processes import run_together

STATE = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
def make_state():
    return {
        "x": np.arange(24, dtype=np.int16).reshape(8, 3),
        "half": jnp.arange(8, dtype=jnp.bfloat16),
        "keys": jax.random.split(jax.random.key(3, impl="rbg"), 8),
        "none": np.zeros((8, 0), np.float32),
        "params": np.linspace(0, 1, 7, dtype=np.float32),
        "key": jax.random.key(5),
    }
SPECS = {name: P("data") for name in ("x", "half", "keys", "none")} | {"params": P(), "key": P()}
"""

TOGETHER = (
    STATE
    + """
import json
from jax.sharding import AxisType, Mesh
from jaxdrl.distributed.layout import place
from jaxdrl.distributed.mesh import spans_processes
from jaxdrl.distributed.spread import fetch, is_spread
from jaxdrl.runs.metrics_log import sha256
mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
placed = place(make_state(), mesh, SPECS)
before = fetch(placed["x"])
again = place(placed, mesh, SPECS)
whole = place(placed, mesh, {name: P() for name in SPECS})
jax.block_until_ready(jax.jit(lambda x: jax.tree.map(jnp.copy, x), donate_argnums=0)(placed))
print(json.dumps({
    "spans": spans_processes(mesh),
    "digests": [sha256(state) for state in (again, whole)],
    "spread": sorted(name for name in SPECS if is_spread(again[name])),
    "still spread": sorted(name for name in SPECS if is_spread(whole[name])),
    "rows here": [shard.data.tolist() for shard in again["x"].addressable_shards],
    "x": before.tolist(),
    "kind": str(again["keys"].dtype),
    "alone": place(make_state()["x"], None, P()).device.process_index,
}))
"""
)


@pytest.fixture(scope="module")
def state():
    names = {}
    exec(STATE, names)
    return names["make_state"](), names["SPECS"]


def test_arrays_of_two_processes_are_those_of_one(state):
    state, _ = state
    outputs = [json.loads(text.splitlines()[-1]) for text in run_together(TOGETHER, 2, 2)]
    for index, found in enumerate(outputs):
        assert found["spans"]
        assert found["digests"] == [sha256(state)] * 2
        assert found["spread"] == ["half", "keys", "none", "x"]
        assert found["still spread"] == []
        assert found["x"] == state["x"].tolist()
        assert found["kind"] == "key<rbg>"
        assert found["alone"] == index
        first = 4 * index
        rows = [state["x"][i : i + 2].tolist() for i in (first, first + 2)]
        assert found["rows here"] == rows


def test_nothing_is_spread_in_one_process(state):
    state, specs = state
    mesh = make_mesh()
    placed = place(state, mesh, specs)
    assert not spans_processes(mesh)
    assert not any(is_spread(leaf) for leaf in (*placed.values(), np.zeros(3), 1.0))
    for name, spec in specs.items():
        target = NamedSharding(mesh, spec)
        assert placed[name].sharding.is_equivalent_to(target, state[name].ndim), name
        data = jax.random.key_data(state[name]) if "key" in name else state[name]
        np.testing.assert_array_equal(fetch(placed[name]), np.asarray(data))
    assert sha256(placed) == sha256(place(placed, mesh, PartitionSpec())) == sha256(state)


# Pieces


@pytest.mark.parametrize("specs", [None, (), ("data",), (None, "data"), ("population", "data")])
@pytest.mark.parametrize("limit", [2, 6, 13, 24, 96, 10_000])
def test_pieces_are_an_array_in_its_order(monkeypatch, limit, specs):
    monkeypatch.setattr(spread, "PIECE_BYTES", limit)
    array = np.arange(4 * 8 * 3 * 2, dtype=np.int16).reshape(4, 8, 3, 2)
    placed = array
    if specs is not None:
        mesh = make_mesh(8, population=2 if "population" in specs else None)
        mesh = make_mesh(4) if "data" in specs[:1] else mesh
        placed = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*specs)), may_alias=False)
    found = list(pieces(placed))
    assert b"".join(piece.tobytes() for piece in found) == array.tobytes()
    assert all(piece.nbytes <= limit for piece in found)
    if specs is not None and array.nbytes > limit:  # nothing keeps it from being donated
        jax.block_until_ready(jax.jit(jnp.copy, donate_argnums=0)(placed))
        assert placed.is_deleted()


@pytest.mark.parametrize("shape", [(), (0, 3), (5,)])
def test_pieces_of_small_arrays(monkeypatch, shape):
    monkeypatch.setattr(spread, "PIECE_BYTES", 4)
    for array in (jnp.ones(shape, jnp.bfloat16), np.ones(shape, np.int8)):
        whole = b"".join(piece.tobytes() for piece in pieces(array))
        assert whole == np.asarray(array).tobytes()


def test_pieces_of_keys_are_their_data():
    keys = jax.random.split(jax.random.key(1), 3)
    np.testing.assert_array_equal(np.concatenate(list(pieces(keys))), jax.random.key_data(keys))
