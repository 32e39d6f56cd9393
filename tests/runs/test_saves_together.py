"""States that two real processes save, read back in one."""

import json

import jax
import pytest

import jaxdrl
from jaxdrl.core.keys import make_key
from jaxdrl.distributed.layout import place
from jaxdrl.runs import checkpoint, finite_states
from jaxdrl.runs.metrics_log import sha256
from processes import run_together
from states import abstract_state, bits, finite_state

FULLY_OPTIMIZED = True

SAVER = """
import json
from pathlib import Path
import jaxdrl
from jax._src import distributed
from jax.sharding import AxisType, Mesh
from jaxdrl.core.keys import make_key
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.distributed.layout import place
from jaxdrl.distributed.store import coordinator_store
from jaxdrl.runs import checkpoint
from jaxdrl.runs.checkpoint_manager import Saver, copy
from jaxdrl.runs.metrics_log import sha256
hosts = Hosts(coordinator_store(distributed.global_state.client, "test"), index, ["a"] * num)
mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
directory, said = Path(sys.argv[5]), []
saver = Saver(directory, {}, every=1, minutes=None, keep=2, warn=said.append, hosts=hosts)
"""

SAVE = """
from jaxdrl.algorithms.sharded import STATE_SPECS
from states import finite_state
with saver:
    saver.save(7, place(finite_state(), mesh, STATE_SPECS), {}, None)
print(json.dumps([said, saver.last_update]))
"""

AGENT = """
import jaxdrl
from small_runs import PPO
def agent_on(mesh):
    config = jaxdrl.with_settings(PPO, reproducible=True)
    return jaxdrl.ppo(jaxdrl.make("CartPole-v1"), config, mesh=mesh)
"""

TRAIN = """
agent = agent_on(mesh)
step, state = jax.jit(agent.train_step), jax.jit(agent.init)(make_key(3))
with saver:
    for update in (1, 2, 3):
        state, _ = step(state)
        saver.save(update, copy(state), {}, None)
saved = sha256(state)
hosts.first("written", list)
path = checkpoint.path_of(directory, 3)
checkpoint.read_manifest(path)
loaded = place(checkpoint.load(path, state, "here"), mesh, agent.state_specs)
print(json.dumps({
    "said": said,
    "last": saver.last_update,
    "saved": saved,
    "loaded": sha256(loaded),
    "trained further": [sha256(step(state)[0]) for state in (state, loaded)],
}))
"""


def last_lines(program, *args):
    outputs = run_together(program, 2, 2, *args)
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def test_a_state_with_every_kind_of_array_is_read_in_one_process(tmp_path):
    assert last_lines(SAVER + SAVE, tmp_path) == [[[], 7]] * 2
    path = checkpoint.path_of(tmp_path, 7)
    assert checkpoint.read_manifest(path)["num_processes"] == 2
    assert bits(checkpoint.load(path, abstract_state(), "here")) == bits(finite_state())


@pytest.mark.slow
def test_an_agent_goes_on_in_one_process_as_in_two(tmp_path):
    found = last_lines(SAVER + AGENT + TRAIN, tmp_path)
    assert found[0] == found[1]
    assert (found[0]["said"], found[0]["last"]) == ([], 3)
    assert found[0]["saved"] == found[0]["loaded"]
    assert len(set(found[0]["trained further"])) == 1
    assert checkpoint.updates_in(tmp_path) == [2, 3]
    names = {}
    exec(AGENT, names)
    agent, path = names["agent_on"](None), checkpoint.path_of(tmp_path, 3)
    abstract = jax.eval_shape(agent.init, make_key(0))
    assert checkpoint.read_manifest(path)["num_processes"] == 2
    state = finite_states.load(path, abstract, "this")
    assert sha256(state) == found[0]["saved"]
    mesh = jaxdrl.make_mesh(8)
    agent = names["agent_on"](mesh)
    state, _ = jax.jit(agent.train_step)(place(state, mesh, agent.state_specs))
    assert sha256(state) == found[0]["trained further"][0]
