"""The files of a run directory, and its config read back."""

import dataclasses
import json
import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import small_runs
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import with_settings
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import digest, write_sealed
from jaxdrl.runs.checkpoint_binding import value_at
from jaxdrl.runs.run_dir import PUT_BACK, make_new, make_run_dir, read_run, require_free


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "result.json"])
def test_an_occupied_directory_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError) as caught:
        require_free(tmp_path)
    assert str(caught.value) == (
        f"run_dir = {str(tmp_path)!r}: already holds a run ({name}), which is not overwritten; "
        "name another directory, or remove this one"
    )
    assert (tmp_path / name).read_text() == "mine"


def test_a_free_directory_may_exist_and_hold_other_files(tmp_path):
    require_free(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "notes.txt").write_text("mine")
    require_free(tmp_path)
    make_run_dir(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_directory_is_made_with_its_parents(tmp_path):
    make_run_dir(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for run_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        require_free(run_dir)
        with pytest.raises(ConfigError) as caught:
            make_run_dir(run_dir)
        start = f"run_dir = {str(run_dir)!r}: cannot be written ("
        assert str(caught.value).startswith(start)
        assert str(caught.value).endswith("); name a directory that can")
    assert (tmp_path / "file").read_text() == "mine"


def test_processes_that_begin_at_once_do_not_disturb_each_other(tmp_path):
    def begin(_):
        for _ in range(300):
            make_run_dir(tmp_path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin, range(4)))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_looked_into_is_refused(tmp_path):
    # Without leave to search the directory above, stat fails in the same way.
    with pytest.raises(ConfigError, match=r"^run_dir = .*: cannot be (read|written) \("):
        require_free(tmp_path / ("x" * 300))


# The config, read back


def experiment():
    """An experiment in which no field has its default."""
    return Experiment(
        env="Pendulum-v1",
        env_params={"g": 9.5, "max_steps_in_episode": 300},
        randomize=("g=9.0:11.0",),
        seed=2**32 - 1,
        total_env_steps=12_345,
        devices=2,
        run_dir=Path("runs") / "a b",
        anneal_learning_rate=True,
        evaluate_every=7,
        num_eval_episodes=5,
        greedy_evaluation=False,
        log_every=3,
        track=("wandb", "mlflow"),
        checkpoint_every=11,
        checkpoint_minutes=None,
        keep_checkpoints=1,
        export_every=2,
        from_run=Path("/runs/é"),
        max_skipped_updates=9,
        debug_nans=True,
        sweep=Sweep(
            ranges={"gamma": "0.9:0.99", "learning_rate": "log:0.0001:0.01"},
            members=6,
            draw="sobol",
            pbt=True,
            pbt_every=3,
            pbt_fraction=0.5,
            pbt_factor=1.5,
            pbt_resample=0.125,
            wave_size=6,
            wave=0,
            shapes={"num_steps": "5,10", "hidden_sizes": "32,64x64"},
            trials=4,
            trial=2,
        ),
        profile=True,
        stuck_after=30.0,
        acting=ActingConfig(
            staleness=2, actors=2, actor_devices=1, actor_timeout=1.5, actor_retries=0
        ),
        algorithm=with_settings(
            PPOConfig(),
            num_envs=48,
            num_steps=10,
            num_epochs=3,
            num_minibatches=5,
            learning_rate=0.1 + 0.2,
            anneal_env_steps=1e6,
            final_learning_rate=1e-5,
            adam_epsilon=1e-8,
            gamma=1.0,
            gae_lambda=0.0,
            correction="vtrace",
            rho_clip=0.9,
            c_clip=0.8,
            clip_epsilon=0.1,
            value_clip_epsilon=0.3,
            value_coef=1.0,
            entropy_coef=0.01,
            max_grad_norm=None,
            standardize_advantages=False,
            normalize_observations=True,
            observation_clip=None,
            normalize_rewards=True,
            reward_clip=5.0,
            target_kl=0.02,
            torso="mlp",
            hidden_sizes=(32,),
            cnn_channels=(),
            cnn_kernel_sizes=(5,),
            cnn_strides=(2,),
            activation="gelu",
            shared_torso=True,
            memory="lstm",
            memory_size=16,
            sequence_length=2,
            pool_size=3,
            pool_share=0.5,
            pool_every=4,
            action_distribution="tanh_normal",
            initial_log_std=-0.5,
            num_accumulation_steps=2,
            remat=True,
            network_dtype="bfloat16",
            matmul_precision="high",
            num_shards=4,
            reproducible=True,
        ),
    )


def config_of(experiment):
    """What a run writes of an experiment."""
    return small_runs.config_of(experiment) | {
        "env_params": {"g": 9.5, "max_speed": 8.0},
        "spaces": "observations Box(3), actions Box(1)",
        "overrides": ["network"],
        "versions": {"jax": "1.2.3"},
    }


def types_of(value):
    if dataclasses.is_dataclass(value):
        return {name: types_of(item) for name, item in vars(value).items()}
    return type(value)


@pytest.mark.parametrize("make", [experiment, lambda: Experiment("CartPole-v1")], ids=["all", "no"])
def test_an_experiment_comes_back_from_its_config(tmp_path, make):
    write_sealed(tmp_path / "config.json", config_of(make()))
    stored = read_run(tmp_path)
    assert stored.experiment == make()
    assert types_of(stored.experiment) == types_of(make())
    assert stored.env_params == {"g": 9.5, "max_speed": 8.0}
    assert stored.spaces == "observations Box(3), actions Box(1)"
    assert stored.overrides == ["network"]


def test_no_field_of_the_experiment_above_has_its_default():
    """The control of the test above, when a field is added."""
    given, default = experiment(), Experiment("CartPole-v1")
    for ours, theirs in ((given, default), (given.algorithm, default.algorithm)):
        assert [name for name, value in vars(ours).items() if vars(theirs)[name] == value] == []


def test_a_whole_number_is_taken_for_a_float(tmp_path):
    content = config_of(experiment())
    content["experiment"]["algorithm"]["learning_rate"] = 1
    content["experiment"]["checkpoint_minutes"] = 5
    write_sealed(tmp_path / "config.json", content)
    stored = read_run(tmp_path).experiment
    assert (stored.algorithm.learning_rate, stored.checkpoint_minutes) == (1.0, 5.0)
    assert {type(stored.algorithm.learning_rate), type(stored.checkpoint_minutes)} == {float}


def test_a_run_from_before_a_field_has_its_default(tmp_path):
    content = config_of(experiment())
    del content["experiment"]["randomize"], content["experiment"]["algorithm"]["network"]["memory"]
    content["experiment"]["algorithm"]["num_minibatches"] = 4
    write_sealed(tmp_path / "config.json", content)
    stored = read_run(tmp_path).experiment
    assert stored.randomize == ()
    assert stored.algorithm.network.memory == "none"


MISSING = object()

BAD_CONFIGS = [
    (
        "format_version",
        3,
        r"format_version = 3, .* reads only 2; use the newer jaxdrl that wrote it",
    ),
    (
        "format_version",
        1,
        r"format_version = 1, .* reads only 2; use the older jaxdrl that wrote it",
    ),
    ("format_version", "1", r"format_version = '1', .* reads only 2"),
    ("run_id", MISSING, r"run_id is missing, or not a str; put back .*"),
    ("has_checkpoints", 1, r"has_checkpoints is missing, or not a bool; put back .*"),
    ("experiment", MISSING, r"experiment is missing, or not a dict; put back .*"),
    ("experiment", [], r"experiment is missing, or not a dict; put back .*"),
    ("env_params", None, r"env_params is missing, or not a dict; put back .*"),
    ("overrides", MISSING, r"overrides is missing, or not a list; put back .*"),
    ("spaces", 3, r"spaces is missing, or not a str; put back .*"),
    ("experiment.total_env_step", 5, r"total_env_step = 5: unknown field; .*: total_env_steps"),
    (
        "experiment.algorithm.gama",
        0.9,
        r"algorithm\.gama = 0\.9: unknown field; the nearest: gamma",
    ),
    ("experiment.env", MISSING, r"env: is missing; put back what was there"),
    ("experiment.env", 3, r"env = 3: must be of type str"),
    ("experiment.env", None, r"env = None: must be of type str"),
    ("experiment.seed", 1.0, r"seed = 1\.0: must be of type int"),
    ("experiment.seed", True, r"seed = True: must be of type int"),
    ("experiment.seed", "1", r"seed = '1': must be of type int"),
    ("experiment.anneal_learning_rate", 1, r"anneal_learning_rate = 1: must be of type bool"),
    ("experiment.devices", "2", r"devices = '2': must be of type int"),
    ("experiment.checkpoint_minutes", "5", r"checkpoint_minutes = '5': must be of type float"),
    ("experiment.run_dir", 7, r"run_dir = 7: must be of type Path"),
    ("experiment.from_run", ["x"], r"from_run = \['x'\]: must be of type Path"),
    ("experiment.env_params", [1], r"env_params = \[1\]: must be of type dict"),
    ("experiment.env_params.g", [9], r"env_params\.g = \[9\]: must be of type float"),
    ("experiment.env_params.g", None, r"env_params\.g = None: must be of type float"),
    ("experiment.algorithm", 3, r"algorithm: has no kind; put back what was there"),
    ("experiment.algorithm.gamma", "x", r"algorithm\.gamma = 'x': must be of type float"),
    ("experiment.algorithm.gamma", False, r"algorithm\.gamma = False: must be of type float"),
    ("experiment.algorithm.gamma", None, r"algorithm\.gamma = None: must be of type float"),
    ("experiment.algorithm.target_kl", {}, r"algorithm\.target_kl = \{\}: must be of type float"),
    (
        "experiment.algorithm.network.hidden_sizes",
        64,
        r"algorithm\.network\.hidden_sizes = 64: must be of type tuple",
    ),
    (
        "experiment.algorithm.network.hidden_sizes",
        ["a"],
        r"algorithm\.network\.hidden_sizes = 'a': must be of type int",
    ),
]


def set_in(content, name, value):
    """Sets what a dotted name means in nested dictionaries."""
    *parents, last = name.split(".")
    for parent in parents:
        content = content[parent]
    if value is MISSING:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize("name, value, words", BAD_CONFIGS)
def test_a_config_that_does_not_say_what_it_must_is_refused_by_name(tmp_path, name, value, words):
    path = tmp_path / "config.json"
    content = config_of(experiment())
    set_in(content, name, value)
    write_sealed(path, content)
    with pytest.raises(ConfigError) as caught:
        read_run(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert re.fullmatch(words, message.removeprefix(f"{path}: "))


@pytest.mark.parametrize(
    "name, value, words",
    [
        (
            "experiment.keep_checkpoints",
            0,
            r"keep_checkpoints = 0: must be an integer of at least 1",
        ),
        (
            "experiment.algorithm.network.torso",
            "rnn",
            r"algorithm\.network\.torso = 'rnn': must be one of auto, mlp, cnn",
        ),
        (
            "experiment.algorithm.network.torso",
            ["mlp"],
            r"algorithm\.network\.torso = \['mlp'\]: must be one of auto",
        ),
        (
            "experiment.algorithm.gamma",
            math.nan,
            r": is not JSON \(it contains NaN, which is not a number in JSON\)",
        ),
        ("experiment.algorithm.num_envs", 7, r"algorithm\.num_envs = 7: must be a multiple of"),
        ("experiment.devices", 3, r"devices = 3: must divide num_shards = 4"),
    ],
)
def test_a_value_that_the_config_refuses_is_refused(tmp_path, name, value, words):
    content = config_of(experiment())
    set_in(content, name, value)
    seal = {"sha256": digest(content)}
    (tmp_path / "config.json").write_text(json.dumps(content | seal))
    with pytest.raises(ConfigError, match=words):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "name, why",
    [
        ("missing", "there is no such directory"),
        ("empty", "it has no config.json"),
        ("file", "it is not a directory"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, name, why):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError) as caught:
        read_run(tmp_path / name)
    assert str(caught.value) == (
        f"run_dir = {str(tmp_path / name)!r}: is not a run ({why}); "
        "name the directory of a run, as `jaxdrl train` makes them under runs/"
    )


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b'{"a": 1} x'])
def test_a_config_that_is_no_json_is_refused(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_run(tmp_path)
    assert str(caught.value).startswith(f"{path}: is not JSON (")
    assert str(caught.value).endswith(f"); {PUT_BACK}")


@pytest.mark.parametrize("content", ["3", "null", "[]", '"text"'])
def test_json_that_is_no_object_is_refused(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_run(tmp_path)
    assert str(caught.value) == f"{path}: is not a JSON object; {PUT_BACK}"


def test_json_of_another_program_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": {}}')
    with pytest.raises(ConfigError) as caught:
        read_run(tmp_path)
    assert "is not a run (its config.json is from another program)" in str(caught.value)


FIELDS = [
    "experiment.seed",
    "experiment.total_env_steps",
    "experiment.keep_checkpoints",
    "experiment.algorithm.learning_rate",
    "experiment.algorithm.num_epochs",
    "experiment.sweep.members",
    "env_params.g",
    "experiment.env_params.g",
]


@pytest.mark.parametrize("name", FIELDS)
def test_a_changed_digit_in_any_field_is_refused(tmp_path, name):
    path = tmp_path / "config.json"
    write_sealed(path, config_of(experiment()))
    read_run(tmp_path)
    content = json.loads(path.read_text())
    set_in(content, name, value_at(content, name) + 1)
    path.write_text(json.dumps(content, indent=2))
    with pytest.raises(ConfigError) as caught:
        read_run(tmp_path)
    assert str(caught.value).startswith(f"{path}: was changed after it was written")
    assert str(caught.value).endswith(f"; {PUT_BACK}")


# A new directory


def test_a_default_directory_is_taken_by_one_run_alone(tmp_path):
    wanted = tmp_path / "runs" / "CartPole-v1-seed0"
    barrier = threading.Barrier(8)

    def make(_):
        barrier.wait()
        return make_new(wanted)

    with ThreadPoolExecutor(8) as pool:
        found = sorted(pool.map(make, range(8)))
    names = ["CartPole-v1-seed0", *(f"CartPole-v1-seed0-{i}" for i in range(2, 9))]
    assert [path.name for path in found] == names
    assert sorted(path.name for path in wanted.parent.iterdir()) == names


def test_a_default_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(ConfigError, match=r"cannot be written \(.*\); name a directory that can"):
        make_new(tmp_path / "runs" / "CartPole-v1-seed0")
    with pytest.raises(ConfigError, match=r"cannot be written \(File name too long\)"):
        make_new(tmp_path / ("x" * 300))
