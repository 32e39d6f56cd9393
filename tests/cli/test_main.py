"""The command line: bad input gets one message and exit code 2, and help comes at once."""

import ast
import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import jaxdrl
from jaxdrl import launch
from jaxdrl.cli import main
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.algorithms import ALGORITHMS
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.config.stored import to_json
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.errors import ConfigError
from jaxdrl.io.terminal import VERBS

ROOT = Path(__file__).parents[2]
COMMAND = ("-c", "from jaxdrl.cli.main import main; main()")
SCRIPT = (str(ROOT / "experiments" / "cartpole.py"),)


def run_python(*args, cwd=ROOT):
    """A finished Python process of its own, in the repository."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def refused(args):
    """What `jaxdrl ARGS` prints on its way out with exit code 2."""
    output, errors = io.StringIO(), io.StringIO()
    streams = contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors)
    with streams[0], streams[1], pytest.raises(SystemExit) as caught:
        main.main(args)
    assert caught.value.code == 2
    assert "Traceback" not in output.getvalue() + errors.getvalue()
    return output.getvalue(), errors.getvalue()


# Each row: flags, the same in Python, and the whole message.
COUNT = "must be an integer of at least 1"
BAD = [
    (
        "--num-envs 100",
        lambda: PPOConfig(num_envs=100),
        "num_envs = 100: must be a multiple of num_shards = 8; the nearest that work: 96 or 104",
    ),
    (
        "--num-minibatches 3",
        lambda: dataclasses.replace(jaxdrl.make_config("CartPole-v1"), num_minibatches=3),
        "num_minibatches = 3: must divide num_steps * num_envs / num_shards = 1024; "
        "the nearest that work: 2 or 4",
    ),
    ("--num-envs 0", lambda: PPOConfig(num_envs=0), f"num_envs = 0: {COUNT}"),
    ("--num-steps -1", lambda: PPOConfig(num_steps=-1), f"num_steps = -1: {COUNT}"),
    (
        "--learning-rate nan",
        lambda: PPOConfig(learning_rate=float("nan")),
        "learning_rate = nan: must be a finite number above 0",
    ),
    (
        "--learning-rate -0.1",
        lambda: PPOConfig(learning_rate=-0.1),
        "learning_rate = -0.1: must be a finite number above 0",
    ),
    (
        "--gamma inf",
        lambda: PPOConfig(gamma=float("inf")),
        "gamma = inf: must be a finite number at least 0 and at most 1",
    ),
    (
        "--max-grad-norm 0",
        lambda: PPOConfig(max_grad_norm=0.0),
        "max_grad_norm = 0.0: must be a finite number above 0, or None",
    ),
    (
        "--hidden-sizes 64 0",
        lambda: with_settings(PPOConfig(), hidden_sizes=(64, 0)),
        f"hidden_sizes = 0: {COUNT}",
    ),
    (
        "--total-env-steps 0",
        lambda: Experiment("CartPole-v1", total_env_steps=0),
        f"total_env_steps = 0: {COUNT}",
    ),
    (
        "--seed -1",
        lambda: Experiment("CartPole-v1", seed=-1),
        "seed = -1: must be an integer from 0 to 2**32 - 1",
    ),
    (
        "--devices 0",
        lambda: Experiment("CartPole-v1", devices=0),
        f"devices = 0: {COUNT}, or None",
    ),
    (
        "--devices 3",
        lambda: Experiment("CartPole-v1", devices=3),
        "devices = 3: must divide num_shards = 8; 1, 2, 4, 8 do, or change num_shards",
    ),
    (
        "--env-params max_steps_in_episode nan",
        lambda: Experiment("CartPole-v1", env_params={"max_steps_in_episode": float("nan")}),
        "env_params.max_steps_in_episode = nan: must be a finite number, or a string",
    ),
]


@pytest.mark.usefixtures("no_compile")
@pytest.mark.parametrize(("flags", "in_python", "message"), BAD, ids=[row[0] for row in BAD])
def test_bad_settings_get_the_same_message_in_the_shell_and_in_python(flags, in_python, message):
    output, errors = refused(["train", "CartPole-v1", *flags.split()])
    assert errors == f"error: {message}\n"
    assert output == ""
    with pytest.raises(ConfigError) as caught:
        in_python()
    assert str(caught.value) == message


# What only the run itself can know; `{tmp}` is an empty directory.
BAD_RUNS = [
    ("CartPole", [], r"env = 'CartPole': unknown; the nearest: CartPole-v1(, .*)?"),
    ("acrobot-v1", [], r"env = 'acrobot-v1': unknown; the nearest: Acrobot-v1(, .*)?"),
    ("xyzzy", [], r"env = 'xyzzy': unknown; known names: .*CartPole-v1.*"),
    (
        "MNISTBandit-bsuite",
        [],
        r"env = 'MNISTBandit-bsuite': needs the MNIST data set, which gymnax downloads, .*"
        r"SimpleBandit-bsuite",
    ),
    (
        "brux/ant",
        [],
        r"suite = 'brux': unknown; the nearest: brax.*; gymnax environments have no prefix, "
        r"such as CartPole-v1",
    ),
    (
        "CartPole-v1",
        ["--env-params", "gravty", "1"],
        r"env_params\.gravty = 1\.0: CartPole-v1 has no such parameter; the nearest: gravity",
    ),
    (
        "CartPole-v1",
        ["--env-params", "gravity", "low"],
        r"env_params\.gravity = 'low': must be a number",
    ),
    (
        "CartPole-v1",
        ["--env-params", "max_steps_in_episode", "-5"],
        r"env_params\.max_steps_in_episode = -5(\.0)?: must be an integer of at least 1",
    ),
    (
        "CartPole-v1",
        ["--torso", "cnn"],
        r"torso = 'cnn': observations of shape \(4,\) are not \[height, width, channels\]; "
        r"use torso = 'mlp'",
    ),
    (
        "CartPole-v1",
        ["--devices", "16", "--num-shards", "16"],
        r"(num_)?devices = 16: this process has 8 cpu device\(s\); ask for at most that many, or .*"
        r"jax\.config\.update\(\"jax_num_cpu_devices\", 16\)",
    ),
    (
        "CartPole-v1",
        ["--run-dir", "{tmp}/file/below"],
        r"run_dir = '{tmp}/file/below': cannot be written \(Not a directory\); "
        r"name a directory that can",
    ),
    (
        "CartPole-v1",
        ["--run-dir", "{tmp}/file"],
        r"run_dir = '{tmp}/file': cannot be written \(File exists\); name a directory that can",
    ),
    (
        "CartPole-v1",
        ["--run-dir", "{tmp}/occupied"],
        r"run_dir = '{tmp}/occupied': already holds a run \(config\.json\), which is not "
        r"overwritten; name another directory, or remove this one",
    ),
]


@pytest.mark.usefixtures("no_compile")
@pytest.mark.parametrize(("env", "flags", "message"), BAD_RUNS)
def test_a_run_that_cannot_work_is_refused_before_anything_is_compiled(
    tmp_path, monkeypatch, env, flags, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "config.json").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    started = time.process_time()
    _, errors = refused(["train", env, *(flag.replace("{tmp}", str(tmp_path)) for flag in flags)])
    # Most of it is the import of gymnax, once.
    assert time.process_time() - started < 15
    assert re.fullmatch(
        "error: " + message.replace("{tmp}", re.escape(str(tmp_path))) + "\n", errors
    ), errors
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("no_compile")
def test_a_larger_mesh_than_there_are_devices_is_refused():
    with pytest.raises(ConfigError) as caught:
        make_mesh(9)
    assert str(caught.value) == (
        "num_devices = 9: this process has 8 cpu device(s); ask for at most that many, or "
        'simulate more before JAX is first used: jax.config.update("jax_num_cpu_devices", 9)'
    )


@pytest.mark.usefixtures("no_compile")
@pytest.mark.parametrize(
    ("args", "fragments"),
    [
        (["train", "CartPole-v1", "--num-env", "8"], ["--num-env", "--num-envs"]),
        (["train", "CartPole-v1", "--device", "2"], ["--device", "--devices"]),
        (["train", "CartPole-v1", "--num-envs", "many"], ["--num-envs", "many", "int"]),
        (["train", "CartPole-v1", "--num-envs", "8.0"], ["--num-envs", "8.0", "int"]),
        (
            ["train", "CartPole-v1", "--torso", "rnn"],
            ["--torso", "rnn", "'auto', 'mlp', 'cnn'"],
        ),
        (
            ["train", "CartPole-v1", "--activation", "TANH"],
            ["TANH", "'tanh', 'relu', 'silu', 'gelu'"],
        ),
        (["train"], ["Name of the environment, such as CartPole-v1"]),
        (["trian", "CartPole-v1", "--seed", "1"], ["verb = 'trian'", "the nearest: train;"]),
        (["CartPole-v1"], ["verb = 'CartPole-v1': unknown; there are train, sweep, "]),
    ],
)
def test_a_mistyped_flag_or_value_is_refused_with_what_is_known(args, fragments):
    output, errors = refused(args)
    message = " ".join(re.sub(r"[^\x00-\x7f]", "", output + errors).split())
    for fragment in fragments:
        assert fragment in message, message


@pytest.mark.parametrize("program", [COMMAND, SCRIPT], ids=["command", "script"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--devices", "3"], "devices = 3: must divide num_shards = 8; "),
        (["--num-envs", "100"], "num_envs = 100: must be a multiple of "),
    ],
)
def test_the_exit_code_of_the_process_is_2_and_its_message_short(program, flags, message):
    arguments = [*(["train", "CartPole-v1"] if program == COMMAND else []), *flags]
    process = run_python(*program, *arguments)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith(f"error: {message}")
    assert process.stderr.count("\n") == 1


# Help and mistakes answer at once.

WITHOUT_JAX = """
import runpy, sys
try:
    {action}
except SystemExit as stop:
    print("exit code", stop.code)
heavy = {{"jax", "jaxlib", "flax", "optax", "chex", "gymnax", "numpy", "rich"}}
print("imported", sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["jaxdrl", "--help"], 0),
        (["jaxdrl", "train", "--help"], 0),
        (["jaxdrl", "train", "CartPole-v1", "--nope", "3"], 2),
        (["jaxdrl", "train", "CartPole-v1", "--num-envs", "100"], 2),
        ([SCRIPT[0], "--help"], 0),
        ([SCRIPT[0], "--nope"], 2),
    ],
)
def test_help_and_mistakes_import_nothing_heavy(args, code):
    action = "from jaxdrl.cli.main import main; main()"
    if args[0] == SCRIPT[0]:
        action = "runpy.run_path(sys.argv[0], run_name='__main__')"
    set_argv = f"import sys; sys.argv = {args!r}\n"
    process = run_python("-c", set_argv + WITHOUT_JAX.format(action=action))
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-2:] == [f"exit code {code}", "imported []"]


def test_the_import_changes_no_setting():
    code = """
    import os, sys
    import jaxdrl
    assert "jax" not in sys.modules
    import jax, flax.linen, optax, chex
    settings, environment = dict(jax.config.values), dict(os.environ)
    for name in jaxdrl.__all__:
        getattr(jaxdrl, name)
    assert "gymnax" not in sys.modules
    changed = {k for k, v in jax.config.values.items() if settings[k] != v}
    assert not changed, changed
    assert dict(os.environ) == environment
    jax.config.update("jax_num_cpu_devices", 3)  # refused where a backend was started
    print(jax.device_count())
    """
    process = run_python("-W", "error", "-c", textwrap.dedent(code))
    assert (process.returncode, process.stdout) == (0, "3\n"), process.stderr[-2000:]


# Help explains every setting.


def help_of(args):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as caught:
        main.main(args)
    assert caught.value.code == 0
    return plain(output.getvalue())


def plain(text):
    """Text without the boxes around it and the line breaks in it."""
    return " ".join(re.sub(r"\x1b\[[\d;]*m|[^\x00-\x7f]", "", text).split())


def explanations(cls):
    """The string below each field of a dataclass."""
    (tree,) = ast.parse(inspect.getsource(cls)).body
    found = {}
    for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            found[statement.target.id] = following.value.value if is_text else None
    return found


@pytest.mark.parametrize("cls", [Experiment, ActingConfig, *ALGORITHMS.values()])
def test_help_explains_every_field(cls):
    names = {config: name for name, config in ALGORITHMS.items()}
    text = help_of(["train", "--algorithm", names.get(cls, "ppo"), "--help"])
    explained = explanations(cls)
    assert set(explained) == {field.name for field in dataclasses.fields(cls)}
    explained.pop("sweep", None)  # which has a verb of its own
    for name, explanation in explained.items():
        assert explanation, f"{name} has no explanation below it"
        assert plain(explanation).rstrip(".") in text, name
        if name not in ("env", "acting", "algorithm", "network", "execution"):
            flag = {"from_run": "from"}.get(name, name.replace("_", "-"))
            assert f"--{flag}" in text


@pytest.mark.parametrize("verb", ["train", "sweep"])
@pytest.mark.parametrize("env", [[], ["Pendulum-v1"]])
def test_help_shows_the_environment_as_an_argument_and_the_file_as_an_option(verb, env):
    text = help_of([verb, *env, "--help"])
    assert "OPTIONS] ENV" in " ".join(text.split())
    assert "--config FILE" in text
    assert "--env " not in text


def test_help_names_the_command_and_what_it_does():
    text = help_of(["--help"])
    assert plain(inspect.getdoc(main.main)) in text
    assert "train Train on an environment, evaluate, and write a run directory." in text


# Flags reach the run.


def test_commands_of_all_verbs_stay_whole_in_messages():
    _, errors = refused(["xyzzy"])
    assert f"there are {', '.join(VERBS)}\n" in errors


def test_without_anything_the_command_explains_itself():
    assert help_of([]) == help_of(["--help"])
    assert "resume Resume a run" in help_of([])


def test_every_flag_reaches_the_experiment(monkeypatch, tmp_path):
    received = []
    monkeypatch.setattr(launch, "run", lambda experiment, **how: received.append(experiment))
    flags = (
        f"--env-params gravity 9 tau 0.5 --seed 3 --total-env-steps 7 --devices 2 "
        f"--run-dir {tmp_path} --anneal-learning-rate --evaluate-every 5 --num-eval-episodes 6 "
        "--log-every 4 --num-envs 16 --learning-rate 0.5 --max-grad-norm None "
        "--no-standardize-advantages --hidden-sizes 5 6 --activation relu"
    )
    main.main(["train", "CartPole-v1", *flags.split()])
    (given,) = received
    assert given == Experiment(
        env="CartPole-v1",
        env_params={"gravity": 9.0, "tau": 0.5},
        seed=3,
        total_env_steps=7,
        devices=2,
        run_dir=tmp_path,
        anneal_learning_rate=True,
        evaluate_every=5,
        num_eval_episodes=6,
        log_every=4,
        algorithm=with_settings(
            jaxdrl.make_config("CartPole-v1"),
            num_envs=16,
            learning_rate=0.5,
            max_grad_norm=None,
            standardize_advantages=False,
            hidden_sizes=(5, 6),
            activation="relu",
        ),
    )


@pytest.mark.parametrize("name", ["CartPole-v1", "MemoryChain-bsuite"])
def test_without_flags_the_settings_are_those_of_the_task(name, monkeypatch):
    received = []
    monkeypatch.setattr(launch, "run", lambda experiment, **how: received.append(experiment))
    main.main(["train", name])
    assert received == [jaxdrl.make_experiment(name)]
    assert received != [Experiment(name)]


@pytest.mark.parametrize(
    "flags",
    ["CartPole-v1 --algorithm impala --rho-clip 2 --seed 3", "--algorithm=impala --rho-clip 2 {}"],
)
def test_flags_are_those_of_the_algorithm_that_is_named(flags, monkeypatch):
    received = []
    monkeypatch.setattr(launch, "run", lambda experiment, **how: received.append(experiment))
    main.main(["train", *flags.format("--seed 3 CartPole-v1").split()])
    expected = jaxdrl.make_experiment("CartPole-v1", "impala", rho_clip=2.0, seed=3)
    assert isinstance(expected.algorithm, jaxdrl.IMPALAConfig)
    assert received == [expected]


def test_help_without_an_environment_shows_the_flags_of_the_algorithm():
    text = help_of(["train", "--algorithm", "impala", "--help"])
    assert "ENV Name of the environment, such as CartPole-v1. (required)" in text
    assert "--clip-epsilon" not in text


def test_a_file_says_which_algorithm_it_is_for(tmp_path, monkeypatch, capsys):
    experiment = jaxdrl.make_experiment("CartPole-v1", "impala", seed=4)
    path, received = tmp_path / "config.json", []
    path.write_text(json.dumps({"experiment": to_json(experiment)}))
    monkeypatch.setattr(launch, "run", lambda experiment, **how: received.append(experiment))
    main.main(["sweep", "--config", str(path), "--vtrace-lambda", "0.9:1", "--rho-clip", "2"])
    assert received[0].sweep.ranges == {"vtrace_lambda": "0.9:1"}
    assert received[0].algorithm == with_settings(experiment.algorithm, rho_clip=2.0)
    with pytest.raises(SystemExit):
        main.main(["train", "--config", str(path), "--algorithm", "ppo"])
    said = "algorithm = 'ppo': --config has settings of impala; leave one of them out"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        "Pendulum-v1 --seed 3 --hidden-sizes 5 6 --reproducible",
        "--seed 3 --hidden-sizes 5 6 --reproducible Pendulum-v1",
        "--hidden_sizes 5 6 --seed=3 Pendulum-v1 --reproducible",
    ],
)
def test_the_name_of_the_task_may_stand_anywhere(flags, monkeypatch):
    received = []
    monkeypatch.setattr(launch, "run", lambda experiment, **how: received.append(experiment))
    main.main(["train", *flags.split()])
    (given,) = received
    ppo = with_settings(jaxdrl.make_config("Pendulum-v1"), hidden_sizes=(5, 6), reproducible=True)
    assert given == dataclasses.replace(
        jaxdrl.make_experiment("Pendulum-v1"), seed=3, algorithm=ppo
    )


def test_help_after_a_name_shows_the_settings_of_the_task(capsys):
    with pytest.raises(SystemExit):
        main.main(["train", "Pendulum-v1", "--help"])
    printed = capsys.readouterr().out
    assert "(default: Pendulum-v1)" in printed
    assert "(default: 0.0003)" in printed  # the learning rate


def test_whole_numbers_of_an_environment_arrive_as_such():
    # The command line reads every parameter as a float.
    assert jaxdrl.make("DeepSea-bsuite", size=4.0).observation_space.shape == (4, 4)
    params = jaxdrl.make("CartPole-v1", max_steps_in_episode=20.0).default_params
    assert type(params.max_steps_in_episode) is int
    assert type(jaxdrl.make("CartPole-v1", gravity=9.0).default_params.gravity) is float


def test_other_errors_keep_their_traceback(monkeypatch):
    def fail(_, **how):
        raise ValueError("a defect")

    monkeypatch.setattr(launch, "run", fail)
    with pytest.raises(ValueError, match="a defect"):
        main.main(["train", "CartPole-v1"])


def test_a_script_trains_on_simulated_devices_in_a_process_of_its_own(tmp_path):
    flags = (
        "--devices 4 --total-env-steps 256 --num-envs 16 --num-steps 8 --num-epochs 1 "
        "--hidden-sizes 4 --num-eval-episodes 8 --env-params max_steps_in_episode 9 "
        "--run-dir out"
    )
    process = run_python("-W", "error", *SCRIPT, *flags.split(), cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stderr == ""
    assert re.search(r"\ncompiling\ncompiled in .* s\n", process.stdout)  # not silent meanwhile
    assert "\nresults: out\nnext: jaxdrl plot out\n" in process.stdout
    described = json.loads((tmp_path / "out" / "config.json").read_text())
    assert described["devices"]["num"] == 4
    assert described["experiment"]["env_params"]["max_steps_in_episode"] == 9
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["devices"], result["env_steps"]) == (4, 256)
    assert 1 <= result["evaluation"]["mean_return"] <= 9
