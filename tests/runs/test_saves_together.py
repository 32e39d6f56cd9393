"""States that two real processes save, read back in one."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import jax
import pytest

import jaxdrl
from jaxdrl.core.keys import make_key
from jaxdrl.distributed.layout import place
from jaxdrl.distributed.peers import PEER_FAILED
from jaxdrl.runs import checkpoint, finite_states
from jaxdrl.runs.metrics_log import sha256
from processes import free_port, run_together
from small_runs import CARTPOLE, PPO, config_of, run_quietly
from states import bits, finite_state, with_replay

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
from jaxdrl.runs.checkpoint_manager import Saver
from jaxdrl.runs.staging import copy
from jaxdrl.runs.metrics_log import sha256
hosts = Hosts(coordinator_store(distributed.global_state.client, "test"), index, ["a"] * num)
mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
directory, said = Path(sys.argv[5]), []
saver = Saver(directory, {}, every=1, minutes=None, keep=2, warn=said.append, hosts=hosts)
"""

SAVE = """
from jaxdrl.algorithms.sharded import STATE_SPECS
from jaxdrl.distributed import spread
from jaxdrl.runs import staging
from states import finite_state, with_replay
def save(update, state):
    state = place(state, mesh, STATE_SPECS)
    taken = saver.take(update, state)
    jax.block_until_ready(jax.jit(lambda x: x + np.uint8(1), donate_argnums=0)(state.actor.obs))
    saver.save(update, taken, {}, None)
with saver:
    save(7, finite_state())
    staging.STAGED_BYTES, spread.PIECE_BYTES = 1024, 256
    save(8, with_replay(finite_state()))
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


def test_states_of_two_processes_are_read_in_one(tmp_path):
    """One with every kind of array, and one with a replay buffer that is not copied."""
    assert last_lines(SAVER + SAVE, tmp_path) == [[[], 8]] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000007", "00000008"]
    for update, state in {7: finite_state(), 8: with_replay(finite_state())}.items():
        path, abstract = checkpoint.path_of(tmp_path, update), jax.eval_shape(lambda x: x, state)
        assert checkpoint.read_manifest(path)["num_processes"] == 2
        assert bits(checkpoint.load(path, abstract, "here")) == bits(state)


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


KILLED = """
import os, signal, sys
from jaxdrl.cli.main import main
from jaxdrl.runs import checkpoint, joint_save
owner, name, process = {"rows": (joint_save, "_write_rows", "1"),
                        "rename": (checkpoint, "digests_text", "0")}[sys.argv.pop(1)]
function, calls = getattr(owner, name), []
def kill(*args):
    result = function(*args)
    calls.append(args)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
if os.environ["JAX_PROCESS_ID"] == process:
    setattr(owner, name, kill)
main()
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The experiment, and the digest of its last state."""
    experiment = replace(
        CARTPOLE,
        total_env_steps=1000,  # 8 updates
        checkpoint_every=2,
        algorithm=jaxdrl.with_settings(PPO, reproducible=True),
        run_dir=tmp_path_factory.mktemp("undisturbed") / "run",
    )
    run, _ = run_quietly(experiment)
    return experiment, run.result["state_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize(("where", "killed"), [("rows", 1), ("rename", 0)])
def test_a_process_killed_in_a_save_leaves_whole_checkpoints_to_resume(
    tmp_path, undisturbed, where, killed
):
    """Process 1 once its second rows are written, and process 0 before it renames the second."""
    experiment, expected = undisturbed
    config, run_dir = tmp_path / "config.json", tmp_path / "run"
    config.write_text(json.dumps(config_of(replace(experiment, run_dir=None, devices=4))))
    command = [sys.executable, "-c", KILLED, where, "train", "--config", str(config)]
    common = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    processes = [
        subprocess.Popen(
            [*command, "--run-dir", str(run_dir)],
            env=os.environ | common | {"JAX_PROCESS_ID": str(index), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert processes[killed].returncode == -signal.SIGKILL, said
    assert processes[1 - killed].returncode == PEER_FAILED, said
    assert f"process {killed} on host" in said[1 - killed]
    (whole,) = checkpoint.updates_in(run_dir / "checkpoints")
    assert whole < 8
    path = checkpoint.path_of(run_dir / "checkpoints", whole)
    assert checkpoint.read_manifest(path)["num_processes"] == 2
    with contextlib.redirect_stdout(io.StringIO()):
        run = jaxdrl.resume(run_dir, devices=2)
    assert run.result["state_sha256"] == expected
    assert not list((run_dir / "checkpoints").glob(".writing*"))
