"""Runs with actors: what they promise, how they end, and what is refused."""

import functools
import os
import signal
import threading
import time
from dataclasses import replace

import jax
import pytest

import jaxdrl
from counting_host import counting, make_counting
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.dqn import DQNConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.settings import with_settings
from jaxdrl.errors import ActorError, ConfigError
from jaxdrl.runs.stopping import RunInterruptedError
from small_runs import CARTPOLE, PPO, lines_of, resumed, run_quietly, stopped_after

HOST = Experiment(
    env="test/Counting", total_env_steps=128 * 6, num_eval_episodes=8, algorithm=PPO, devices=2
)
IN_JAX = with_settings(
    replace(CARTPOLE, total_env_steps=128 * 6, acting=ActingConfig(staleness=1)), reproducible=True
)
DQN = DQNConfig(
    num_envs=16,
    num_steps=8,
    buffer_size=512,
    batch_size=16,
    num_gradient_steps=2,
    learning_starts=256,
    n_step=2,
)
REPLAY = replace(HOST, algorithm=with_settings(DQN, hidden_sizes=(8,)), anneal_learning_rate=False)
PLAYED = {"host": (HOST, counting), "jax": (IN_JAX, lambda: None), "replay": (REPLAY, counting)}


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("actor-")] == []


@functools.cache
def digest_of(name, directory):
    experiment, env = PLAYED[name]
    run, _ = run_quietly(replace(experiment, run_dir=directory / f"whole-{name}"), env=env())
    return run.result["state_sha256"], run.result["evaluation"], run.run_dir


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("asynchronous")


@pytest.mark.parametrize("name", PLAYED)
def test_the_data_of_each_update_is_exactly_one_update_old(name, directory):
    lines = lines_of(digest_of(name, directory)[2])
    assert [line["staleness_max"] for line in lines] == [0, 1, 1, 1, 1, 1]
    assert all(line["num_restarts"] == 0 for line in lines)


@pytest.mark.parametrize("name", PLAYED)
def test_a_run_that_a_signal_stops_goes_on_to_the_same_bits(name, directory, tmp_path):
    experiment, env = PLAYED[name]
    stopped_after(3, replace(experiment, run_dir=tmp_path / "run"), env=env())
    assert len(lines_of(tmp_path / "run")) < 6
    given = {} if name == "jax" else {"env": env()}
    run = jaxdrl.resume(tmp_path / "run", devices=1 if name == "jax" else None, quiet=True, **given)
    assert (run.result["state_sha256"], run.result["evaluation"]) == digest_of(name, directory)[:2]


def test_several_actors_collect_for_one_learner(tmp_path):
    digests = set()
    for name in ("first", "again"):
        many = with_settings(HOST, actors=4, run_dir=tmp_path / name)
        run, _ = run_quietly(many, env=counting())
        digests.add(run.result["state_sha256"])
    assert len(digests) == 1


def in_evaluation():
    return threading.current_thread().name == "actor-evaluation"


def test_a_signal_ends_an_evaluation_too(tmp_path):
    evaluates = threading.Event()

    def make(num_envs):
        def interrupt():
            if in_evaluation() and not evaluates.is_set():
                evaluates.set()
                os.kill(os.getpid(), signal.SIGTERM)

        return make_counting(num_envs, interrupt)

    experiment = replace(HOST, run_dir=tmp_path / "run", evaluate_every=3)
    with pytest.raises(RunInterruptedError, match="stopped after update 3 of 6"):
        run_quietly(experiment, env=counting(make))
    run = jaxdrl.resume(tmp_path / "run", env=counting(), quiet=True)
    assert run.result["env_steps"] == 128 * 6


def fails():
    raise RuntimeError("the simulator is gone")


@pytest.mark.parametrize(
    ("act", "words"),
    [(fails, "failed in an evaluation"), (lambda: time.sleep(1.5), "hangs in an evaluation")],
)
def test_environments_that_fail_or_hang_in_an_evaluation_end_the_run(act, words, tmp_path):
    def make(num_envs):
        return make_counting(num_envs, lambda: act() if in_evaluation() else None)

    experiment = replace(HOST, run_dir=tmp_path / "run", evaluate_every=3)
    experiment = with_settings(experiment, actor_timeout=0.5)
    with pytest.raises(ActorError, match=f"test/Counting: {words}.*resume"):
        run_quietly(experiment, env=counting(make))
    assert (tmp_path / "run/checkpoints/00000003").is_dir()


def failing(after):
    """Environments whose simulator is gone after some steps, for ever."""
    steps: list[bool] = []

    def make(num_envs):
        def fail():
            steps.append(True)
            if len(steps) > after:
                raise RuntimeError("the simulator is gone")

        return make_counting(num_envs, fail)

    return counting(make)


def test_environments_that_fail_again_and_again_end_the_run_with_a_checkpoint(tmp_path):
    experiment = replace(HOST, run_dir=tmp_path / "run", acting=ActingConfig(actor_retries=1))
    with pytest.raises(
        ActorError, match=r"test/Counting: .*the simulator is gone.*2 times"
    ) as caught:
        jaxdrl.run(experiment, env=failing(3 * 8 + 4), quiet=True)
    assert "resume" in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    run = jaxdrl.resume(tmp_path / "run", env=counting(), quiet=True)
    assert run.result["env_steps"] == 128 * 6


def test_without_episodes_that_can_be_replayed_they_begin_anew(tmp_path):
    env = counting(replays=False)
    stopped_after(3, replace(HOST, run_dir=tmp_path / "run"), env=env)
    run, output = resumed(tmp_path / "run", env=env)
    assert run.result["env_steps"] == 128 * 6
    assert "resumes its learner exactly, and its episodes begin anew" in output
    assert "16 episodes were cut off and began anew" in output
    assert lines_of(tmp_path / "run")[-1]["cut_episodes"] == 16


REFUSED = {
    "actors": (with_settings(CARTPOLE, actors=2), None),
    "actors = 3": (with_settings(HOST, actors=3), counting),
    "must be 1 for an environment in JAX": (with_settings(IN_JAX, actors=2), None),
    "pool_size = 2: is renewed between updates, and actors are ahead": (
        with_settings(IN_JAX, pool_size=2),
        None,
    ),
    "debug_nans = True": (with_settings(HOST, debug_nans=True), counting),
    "actor_devices = 40": (with_settings(HOST, actor_devices=40), counting),
    "randomize = ('length=1:2',): is for environments in JAX": (
        with_settings(HOST, randomize=("length=1:2",)),
        counting,
    ),
    "compare them with jaxdrl plot": (
        replace(HOST, sweep=jaxdrl.Sweep({"gamma": "0.9:1"}, members=2)),
        counting,
    ),
    "one after the other with jaxdrl train": (
        replace(HOST, sweep=jaxdrl.Sweep({}, members=1, shapes={"num_epochs": "1,2"})),
        counting,
    ),
    "a sweep trains its members in one program": (
        replace(HOST, sweep=jaxdrl.Sweep({"gamma": "0.9:1"}, members=4, pbt=True)),
        counting,
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_actors_cannot_do_is_refused(words, tmp_path):
    experiment, env = REFUSED[words]
    given = {} if env is None else {"env": env()}
    with pytest.raises(ConfigError) as caught:
        jaxdrl.run(replace(experiment, run_dir=tmp_path / "run"), quiet=True, **given)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_nothing_is_compiled_while_a_run_trains(tmp_path):
    """Else the first update would seem slow: the program of each part is compiled before it."""
    jax.clear_caches()
    compiled, at_step, at_end = [], [], []

    def note(event, seconds, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(fun_name)

    env = counting(
        functools.partial(make_counting, before_step=lambda: at_step.append(len(compiled)))
    )
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        run_quietly(
            replace(HOST, run_dir=tmp_path / "run"),
            env=env,
            on_update=lambda update, metrics: at_end.append(len(compiled)),
        )
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert compiled[at_step[0] : at_end[-1]] == []
    assert {"jit(_decide)", "jit(_look)", "jit(_finish)"} <= set(compiled[: at_step[0]])
