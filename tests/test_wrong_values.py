"""Every field of every config with wrong values: one message, nothing written or compiled."""

import contextlib
import dataclasses
import functools
import io
import math
import shlex
import typing

import jax
import numpy as np
import pytest

import jaxdrl
from jaxdrl.analysis import evaluate_verb, render
from jaxdrl.analysis.evaluate_run import vary_run
from jaxdrl.cli import main
from jaxdrl.cli.doctor import diagnose
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.choices import Choices
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.search_space import Range, Sweep
from jaxdrl.config.sweep_flags import SweepFlags
from jaxdrl.envs import from_gymnax
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.parameter_grid import Variation
from jaxdrl.populations.pbt import Exchange
from jaxdrl.runs.profiling.breakdown import profile
from jaxdrl.serving.limits import Limits

COUNT = (0, -1, 2.5, "8", True, None, [8], np.float32(8), 10**400)
OPTIONAL_COUNT = (0, -1, 2.5, "8", True, [8])
POSITIVE = (0, -1.0, math.nan, math.inf, "0.1", True, None, [0.1], 10**400, np.ones(2))
OPTIONAL_POSITIVE = (0.0, -1, math.nan, "0.1", False, (0.1,))
NONNEGATIVE = (-1e-9, math.nan, -math.inf, "0", True, None)
SHARE = (-0.1, 1.01, math.nan, "0.5", True, None)
FLAG = ("no", "True", 0, 1, None, np.int32(1))
NAMES = ("world_state", None, ["a"], (3,), ("",), ("a", "a"))
SIZES = (64, "64", None, [64, 64], (0,), (64, -1), (64, 2.5), ("a",), ((64,),))
SEED = (-1, 2**32, 0.5, "1", True, None)
INDEX = (-1, 0.5, "0", True)
PATH = (3, "", "a\0b", ["x"], True, b"x", "~nobody-has-this-name/x")
CHOICE = ("", "nope", 3, True, ("a",))

PPO = {
    **dict.fromkeys(("num_envs", "num_steps", "num_epochs", "num_minibatches"), COUNT),
    **dict.fromkeys(("memory_size", "num_shards"), COUNT),
    **dict.fromkeys(("sequence_length", "num_accumulation_steps"), OPTIONAL_COUNT),
    **dict.fromkeys(("learning_rate", "adam_epsilon", "clip_epsilon"), POSITIVE),
    **dict.fromkeys(("rho_clip", "c_clip"), POSITIVE),
    **{"pool_size": (*INDEX, None), "pool_share": SHARE, "pool_every": COUNT},
    "correction": (*CHOICE, None),
    **dict.fromkeys(("anneal_env_steps", "value_clip_epsilon"), OPTIONAL_POSITIVE),
    **dict.fromkeys(("max_grad_norm", "observation_clip"), OPTIONAL_POSITIVE),
    **dict.fromkeys(("reward_clip", "target_kl"), OPTIONAL_POSITIVE),
    **dict.fromkeys(("final_learning_rate", "value_coef", "entropy_coef"), NONNEGATIVE),
    **dict.fromkeys(("gamma", "gae_lambda"), SHARE),
    **dict.fromkeys(("standardize_advantages", "normalize_observations"), FLAG),
    **dict.fromkeys(
        ("normalize_rewards", "shared_torso", "remat", "reproducible", "layer_norm"), FLAG
    ),
    **dict.fromkeys(("torso", "activation", "memory", "action_distribution"), (*CHOICE, None)),
    **dict.fromkeys(("network_dtype", "matmul_precision"), (*CHOICE, None, np.float32)),
    **dict.fromkeys(("hidden_sizes", "cnn_channels", "cnn_kernel_sizes", "cnn_strides"), SIZES),
    "initial_log_std": (-20.1, 5.1, math.nan, "0", None),
    "critic_only": NAMES,
}
IMPALA = PPO | {
    **dict.fromkeys(("optimizer_epsilon",), POSITIVE),
    **dict.fromkeys(("rmsprop_decay", "vtrace_lambda"), SHARE),
    "optimizer": (*CHOICE, None),
}
PQN = IMPALA | {
    **dict.fromkeys(("q_lambda", "initial_epsilon", "final_epsilon"), SHARE),
    "exploration_env_steps": OPTIONAL_POSITIVE,
    "reward_scale": POSITIVE,
}
REPLAY = PPO | {
    **dict.fromkeys(("num_gradient_steps", "buffer_size", "batch_size", "learning_starts"), COUNT),
    "n_step": COUNT,
    "reward_scale": POSITIVE,
}
DQN = REPLAY | {
    "target_update_every": COUNT,
    **dict.fromkeys(("target_update_rate", "initial_epsilon", "final_epsilon"), SHARE),
    "exploration_env_steps": OPTIONAL_POSITIVE,
    "epsilon_spread": NONNEGATIVE,
    **dict.fromkeys(("double_q", "dueling"), FLAG),
    "loss": (*CHOICE, None),
}
ACTOR_CRITICS = REPLAY | {
    **dict.fromkeys(("critic_learning_rate", "temperature_learning_rate"), POSITIVE),
    **dict.fromkeys(("initial_temperature", "min_exploration_noise"), POSITIVE),
    "max_exploration_noise": (*POSITIVE, 0.05),  # below the other's
    **dict.fromkeys(("target_noise", "target_noise_clip"), NONNEGATIVE),
    "target_update_rate": SHARE,
    **dict.fromkeys(("learn_temperature", "critic_layer_norm", "hold_noise"), FLAG),
    "policy_delay": COUNT,
    "num_atoms": (*OPTIONAL_COUNT, 1),
    "target_entropy": (math.nan, math.inf, "0", None, True),
    **dict.fromkeys(("v_min", "v_max"), (math.nan, -math.inf, "0", None, True)),
}
NETWORK, EXECUTION = (
    {name: PPO[name] for name in kind.__dataclass_fields__}
    for kind in (NetworkConfig, ExecutionConfig)
)
NESTED = {"network": ({}, 3, None, NetworkConfig), "execution": ({}, 3, None, NetworkConfig())}
OF_PPO = {name: PPO[name] for name in PPO if name not in NETWORK | EXECUTION} | NESTED
OF_IMPALA = {name: (IMPALA | NESTED)[name] for name in jaxdrl.IMPALAConfig.__dataclass_fields__}
OF_PQN = {name: (PQN | NESTED)[name] for name in jaxdrl.PQNConfig.__dataclass_fields__}
OF_DQN = {name: (DQN | NESTED)[name] for name in jaxdrl.DQNConfig.__dataclass_fields__}
OF_SAC, OF_TD3 = (
    {name: (ACTOR_CRITICS | NESTED)[name] for name in kind.__dataclass_fields__}
    for kind in (jaxdrl.SACConfig, jaxdrl.TD3Config)
)
EXPERIMENT = {
    **dict.fromkeys(("total_env_steps", "num_eval_episodes", "log_every"), COUNT),
    **dict.fromkeys(("keep_checkpoints", "max_skipped_updates"), COUNT),
    **dict.fromkeys(
        ("devices", "evaluate_every", "checkpoint_every", "export_every"), OPTIONAL_COUNT
    ),
    **dict.fromkeys(("anneal_learning_rate", "greedy_evaluation", "debug_nans", "profile"), FLAG),
    **dict.fromkeys(("run_dir", "from_run"), PATH),
    "env": (3, None, "", ["CartPole-v1"]),
    "env_params": (None, "length", [1], {"a": None}, {"a": [1]}, {"a": math.nan}, {"a": True}),
    "randomize": ("length=1:2", None, (1,), ["length=1:2"]),
    "seed": SEED,
    "track": ("tensorboard", None, (1,), ("tensorbord",)),
    "checkpoint_minutes": OPTIONAL_POSITIVE,
    "stuck_after": OPTIONAL_POSITIVE,
    "algorithm": ({}, {"num_envs": 8}, None, "ppo", PPOConfig),
    "acting": ({}, 1, None, ActingConfig),
    "sweep": ("x", {}, {"ranges": {}}, 3),
}
ACTING = {
    **dict.fromkeys(("staleness", "actor_devices"), INDEX),
    "max_staleness": OPTIONAL_COUNT,
    "actors": COUNT,
    "actor_timeout": POSITIVE,
    "actor_retries": (*INDEX, None),
}
SWEEP = {
    **dict.fromkeys(("members", "seeds", "pbt_every", "trials"), COUNT),
    "ranges": (None, {}, "gamma=0:1", {"gamma": (0, 1)}, {"gamma": None}),
    "draw": (*CHOICE, "gird", None),
    "pbt": FLAG,
    "pbt_fraction": (0, 0.6, math.nan, "0.2", None),
    "pbt_factor": (1.0, math.inf, "1.2", None),
    "pbt_resample": SHARE,
    "wave_size": OPTIONAL_COUNT,
    "wave": (*INDEX, 1),
    "shapes": (None, "num_steps=8,16", {"num_steps": (8, 16)}),
    "trial": (*INDEX, 0),
}
EXCHANGE = {
    "ranges": (None, "gamma", {"gamma": "0:1"}, {3: Range(0, 1)}),
    "every": COUNT,
    "fraction": (0, 0.6, "0.2", None),
    "factor": (1.0, "1.2", None),
    "resample": SHARE,
}
FILM = {
    "num_envs": (*COUNT, 37),
    "num_steps": OPTIONAL_COUNT,
    "max_frames": (*COUNT, 1),
    "fps": (*OPTIONAL_COUNT, 51),
    "greedy": FLAG,
    "checkpoint": (1.5, True, ["best"]),
    "seed": SEED,
    **dict.fromkeys(("member", "setting"), INDEX),
}
EVALUATION = {
    "vary": ("length=1:2:3", None, (1,)),
    "compare": PATH,
    "num_episodes": OPTIONAL_COUNT,
    "sampled": FLAG,
    "checkpoint": (1.5, True, ["best"]),
    "seed": SEED,
    "json": PATH,
    "out": PATH,
    **dict.fromkeys(("member", "setting"), INDEX),
    "against": (3, True, ["random"]),
    "round_robin": FLAG,
    "random_moves": (-1, 1.5, None),
}
SWEEP_FLAGS = {
    "ranges": (None, 3, "gamma", {"gamma": 3}),
    "members": OPTIONAL_COUNT,
    **dict.fromkeys(("seeds", "pbt_every", "trials"), COUNT),
    "draw": (*CHOICE, None),
    "pbt": FLAG,
    "pbt_fraction": (0, 0.6, "0.2", None),
    "wave_size": OPTIONAL_COUNT,
    "shape": ("num_steps=8,16", None, (1,)),
}
NUMBER = (math.nan, math.inf, "1", None, True, [1])


class Config(typing.NamedTuple):
    """A config, the prefix of its fields in messages, what it needs, and its wrong values."""

    kind: type
    prefix: str
    needed: dict
    wrong: dict


CONFIGS = [
    Config(PPOConfig, "", {}, OF_PPO),
    Config(jaxdrl.IMPALAConfig, "", {}, OF_IMPALA),
    Config(jaxdrl.PQNConfig, "", {}, OF_PQN),
    Config(jaxdrl.DQNConfig, "", {}, OF_DQN),
    Config(jaxdrl.SACConfig, "", {}, OF_SAC),
    Config(jaxdrl.TD3Config, "", {}, OF_TD3),
    Config(NetworkConfig, "", {}, NETWORK),
    Config(ExecutionConfig, "", {}, EXECUTION),
    Config(Experiment, "", {"env": "CartPole-v1"}, EXPERIMENT),
    Config(ActingConfig, "", {}, ACTING),
    Config(Sweep, "sweep.", {"ranges": {"gamma": "0.9:1"}}, SWEEP),
    Config(SweepFlags, "sweep.", {}, SWEEP_FLAGS),
    Config(Exchange, "exchange.", {"ranges": {"gamma": Range(0, 1)}}, EXCHANGE),
    Config(Range, "range.", {"low": 0, "high": 1}, {"low": NUMBER, "high": NUMBER, "log": FLAG}),
    Config(Choices, "choices.", {}, {"texts": (None, "a", (1,), ["a"])}),
    Config(
        Variation,
        "vary.",
        {"name": "length", "low": 0, "high": 1, "num": 2},
        {"name": (3, None), "low": NUMBER, "high": NUMBER, "num": COUNT},
    ),
    Config(render.Request, "", {}, FILM),
    Config(
        Limits,
        "",
        {},
        {
            **dict.fromkeys(("max_body", "max_json", "max_rows", "max_sessions"), COUNT),
            "max_connections": COUNT,
            **dict.fromkeys(("session_seconds", "body_seconds"), POSITIVE),
            "grace": NONNEGATIVE,
        },
    ),
    Config(
        evaluate_verb.Request,
        "",
        {
            **dict.fromkeys(("compare", "num_episodes", "checkpoint", "json", "out")),
            **{"vary": (), "sampled": False, "seed": 0},
        },
        EVALUATION,
    ),
]
WRONG = [
    pytest.param(config, field, value, id=f"{config.kind.__module__}-{field}-{i}")
    for config in CONFIGS
    for field, values in config.wrong.items()
    for i, value in enumerate(values)
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind.__module__)
def test_every_field_has_wrong_values(config):
    assert set(config.wrong) == {field.name for field in dataclasses.fields(config.kind)}


@pytest.mark.parametrize(("config", "field", "value"), WRONG)
def test_a_wrong_value_gets_one_message_that_names_its_field(config, field, value):
    with pytest.raises(ConfigError) as caught:
        config.kind(**config.needed | {field: value})
    message = str(caught.value)
    assert message.startswith((f"{config.prefix}{field} = ", f"{config.prefix}{field}."))
    assert "\n" not in message
    assert len(message) < 400


@functools.cache
def made():
    return jaxdrl.make(ENV)


@pytest.fixture
def nothing_is_done(tmp_path, monkeypatch):
    """In the block nothing is compiled or written."""
    made()
    monkeypatch.chdir(tmp_path)
    compiled = []

    def listen(name, seconds, **_):
        if "backend_compile" in name:
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield
    jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []
    assert list(tmp_path.iterdir()) == []


ENV, CONFIG, EXPERIMENT_OF = "CartPole-v1", PPOConfig(), jaxdrl.make_experiment("CartPole-v1")
CALLS = {
    "ppo env": lambda: jaxdrl.ppo(ENV, CONFIG),
    "ppo config": lambda: jaxdrl.ppo(made(), {}),
    "ppo network": lambda: jaxdrl.ppo(made(), CONFIG, network="mlp"),
    "ppo optimizer": lambda: jaxdrl.ppo(made(), CONFIG, optimizer="adam"),
    "ppo mesh": lambda: jaxdrl.ppo(made(), CONFIG, mesh=2),
    "impala env": lambda: jaxdrl.impala(ENV, jaxdrl.IMPALAConfig()),
    "impala config": lambda: jaxdrl.impala(made(), CONFIG),
    "pqn env": lambda: jaxdrl.pqn(ENV, jaxdrl.PQNConfig()),
    "pqn config": lambda: jaxdrl.pqn(made(), CONFIG),
    "dqn env": lambda: jaxdrl.dqn(ENV, jaxdrl.DQNConfig()),
    "dqn config": lambda: jaxdrl.dqn(made(), CONFIG),
    "dqn network": lambda: jaxdrl.dqn(made(), jaxdrl.DQNConfig(), network="mlp"),
    "sac env": lambda: jaxdrl.sac(ENV, jaxdrl.SACConfig()),
    "sac config": lambda: jaxdrl.sac(made(), CONFIG),
    "sac network": lambda: jaxdrl.sac(made(), jaxdrl.SACConfig(), network="mlp"),
    "td3 env": lambda: jaxdrl.td3(ENV, jaxdrl.TD3Config()),
    "td3 config": lambda: jaxdrl.td3(made(), jaxdrl.SACConfig()),
    "td3 optimizer": lambda: jaxdrl.td3(made(), jaxdrl.TD3Config(), optimizer="adam"),
    "evaluate env": lambda: jaxdrl.evaluate(ENV, None, None, None, num_episodes=1),
    "play env": lambda: jaxdrl.play(ENV, [], [], None, num_games=2),
    "play policies": lambda: jaxdrl.play(made(), [3], [None], None, num_games=2),
    "round_robin env": lambda: jaxdrl.round_robin(ENV, None, [], None, []),
    "population make_member": lambda: jaxdrl.population(ENV),
    "check_environment env": lambda: jaxdrl.check_environment(ENV),
    "check_environment num_envs": lambda: jaxdrl.check_environment(made(), num_envs=0),
    "time_limit env": lambda: jaxdrl.time_limit(ENV, 3),
    "time_limit max_episode_steps": lambda: jaxdrl.time_limit(made(), 0),
    "randomize env": lambda: jaxdrl.randomize(ENV, {"length": (1.0, 2.0)}),
    "randomize ranges.length": lambda: jaxdrl.randomize(made(), {"length": (1.0,)}),
    "from_gymnax env": lambda: from_gymnax(ENV),
    "make env": lambda: jaxdrl.make(3),
    "make env_params.length": lambda: jaxdrl.make(ENV, length=[1]),
    "make_config env": lambda: jaxdrl.make_config(3),
    "make_experiment env": lambda: jaxdrl.make_experiment(None),
    "run experiment": lambda: jaxdrl.run(ENV),
    "run env": lambda: jaxdrl.run(EXPERIMENT_OF, env=ENV),
    "run network": lambda: jaxdrl.run(EXPERIMENT_OF, network="mlp"),
    "run optimizer": lambda: jaxdrl.run(EXPERIMENT_OF, optimizer="adam"),
    "run trackers": lambda: jaxdrl.run(EXPERIMENT_OF, trackers="tensorboard"),
    "resume run_dir": lambda: jaxdrl.resume(3),
    "resume devices": lambda: jaxdrl.resume("nosuch", devices=0),
    "resume total_env_steps": lambda: jaxdrl.resume("nosuch", total_env_steps=1.5),
    "restore checkpoint": lambda: jaxdrl.restore("nosuch", checkpoint=1.5),
    "restore member": lambda: jaxdrl.restore("nosuch", member="best"),
    "evaluate_run num_episodes": lambda: jaxdrl.evaluate_run("nosuch", num_episodes=0),
    "evaluate_run greedy": lambda: jaxdrl.evaluate_run("nosuch", greedy="no"),
    "evaluate_run seed": lambda: jaxdrl.evaluate_run("nosuch", seed=-1),
    "vary_run variations": lambda: vary_run("nosuch", "length=1:2:3"),
    "render_run run_dir": lambda: jaxdrl.render_run(None),
    "export_policy out": lambda: jaxdrl.export_policy("nosuch", 3),
    "load_policy path": lambda: jaxdrl.load_policy(3),
    "plot_runs run_dirs": lambda: jaxdrl.plot_runs("nosuch"),
    "plot_runs against": lambda: jaxdrl.plot_runs(["nosuch"], against="steps"),
    "diagnose seconds": lambda: diagnose(seconds=0),
    "profile num_updates": lambda: profile(lambda state: state, (), num_updates=0),
    "train algorithm": lambda: jaxdrl.train(ENV, None, num_updates=1),
    "jit_step algorithm": lambda: jaxdrl.jit_step(ENV),
    "make_mesh num_devices": lambda: jaxdrl.make_mesh("all"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.usefixtures("nothing_is_done")
def test_a_wrong_argument_gets_one_message_that_names_it(name):
    with pytest.raises(ConfigError) as caught:
        CALLS[name]()
    message = str(caught.value)
    assert message.startswith(f"{name.split()[1]} = ")
    assert "\n" not in message
    assert len(message) < 500


TRAIN = {
    **dict.fromkeys(("--total-env-steps", "--num-eval-episodes", "--log-every"), ("0", "x")),
    **dict.fromkeys(
        ("--keep-checkpoints", "--max-skipped-updates", "--evaluate-every"), ("0", "1.5")
    ),
    "--seed": ("-1", "x"),
    "--devices": ("0", "3"),
    "--checkpoint-every": ("0",),
    "--export-every": ("0",),
    "--checkpoint-minutes": ("0", "nan"),
    "--stuck-after": ("0", "nan"),
    **dict.fromkeys(("--staleness", "--actor-retries"), ("-1", "x")),
    **dict.fromkeys(("--max-staleness", "--actors", "--actor-timeout"), ("0", "x")),
    "--actor-devices": ("-1", "1"),
    "--learner-devices": ("0", "3"),
    "--env-params": ("length nan", "length", "lenght 1"),
    "--randomize": ("length", "lenght=1:2", "length=2:1"),
    "--run-dir": ("~nobody-has-this-name/x",),
    "--from": ("nosuch",),
    "--track": ("tensorbord",),
    **dict.fromkeys(("--anneal-learning-rate", "--greedy-evaluation"), ("no",)),
    **dict.fromkeys(("--debug-nans", "--profile"), ("no",)),
    "--config": ("nosuch",),
    "--hidden-sizes": ("0", "64 a"),
    **dict.fromkeys(("--cnn-channels", "--cnn-kernel-sizes", "--cnn-strides"), ("-1",)),
    "--num-envs": ("0", "100", "x"),
    **{
        f"--{name.replace('_', '-')}": ("nope", "-100")
        for name in PPO
        if name not in ("num_envs", "hidden_sizes") and not name.startswith("cnn_")
    },
}
SWEEPS = {
    "--learning-rate": ("1", "2:1", "log:0:1"),
    **dict.fromkeys(("--members", "--seeds", "--pbt-every", "--trials", "--wave-size"), ("0",)),
    "--draw": ("gird",),
    "--pbt": ("no",),
    "--pbt-fraction": ("0.6",),
    "--shape": ("num_steps", "nosuch=1,2", "num_steps=1"),
}
OTHERS = [
    *("resume nosuch --devices 0", "resume nosuch --total-env-steps 0", "resume nosuch"),
    *("evaluate nosuch --num-episodes 0", "evaluate nosuch --seed -1", "evaluate nosuch"),
    *("evaluate nosuch --against nosuch", "evaluate nosuch --round-robin"),
    *("evaluate nosuch --random-moves -1", "evaluate nosuch --random-moves 1"),
    *("evaluate nosuch --member -1", "evaluate nosuch --checkpoint x", "evaluate nosuch --vary a"),
    *("render nosuch --num-envs 0", "render nosuch --num-steps 0", "render nosuch --max-frames 1"),
    *("render nosuch --fps 51", "render nosuch --seed -1", "render nosuch --out x.avi"),
    *("export nosuch --member -1", "export nosuch --out x.pt"),
    *("plot nosuch", "plot nosuch --against x", "watch nosuch"),
    *("serve nosuch --port -1", "serve nosuch --max-rows 0", "serve nosuch --port 0"),
    *("serve nosuch --port 0 --wait -1", "serve nosuch --port 0 --checkpoint x"),
    *("watch nosuch --seconds 0", "doctor --seconds 0", "doctor nosuch", "envs nosuch"),
    *("check CartPole-v1 --num-envs 0", "check nosuch", "check CartPole-v1 --env-params a 1"),
]
LINES = [
    *(f"train CartPole-v1 {flag} {value}" for flag, values in TRAIN.items() for value in values),
    *(f"sweep CartPole-v1 {flag} {value}" for flag, values in SWEEPS.items() for value in values),
    *OTHERS,
]


def test_every_flag_has_wrong_values():
    names = {"from_run": "from"}
    flags = {f"--{names.get(name, name)}".replace("_", "-") for name in EXPERIMENT}
    flags |= {f"--{name}".replace("_", "-") for name in {**PPO, **ACTING}}
    assert flags - {"--env", "--algorithm", "--sweep", "--acting"} <= set(TRAIN)
    flags = {f"--{name}".replace("_", "-") for name in SWEEP_FLAGS}
    assert flags - {"--ranges"} <= set(SWEEPS)
    assert len(LINES) >= 60


@pytest.mark.parametrize("line", LINES)
@pytest.mark.usefixtures("nothing_is_done")
def test_a_wrong_flag_gets_one_message(line):
    output, errors = io.StringIO(), io.StringIO()
    streams = contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors)
    with streams[0], streams[1], pytest.raises(SystemExit) as caught:
        main.main(shlex.split(line))
    said = errors.getvalue()
    assert caught.value.code == 2
    assert "Traceback" not in said + output.getvalue()
    if said.startswith("error: "):
        assert said.count("\n") == 1
    else:  # the parser's own, in one box
        assert said.count("For full helptext") == 1


def test_a_name_of_ones_own_without_its_environment_is_answered_with_how_it_is_given():
    with pytest.raises(
        ConfigError, match=r"pass an environment of your own as jaxdrl\.run\(.*, env=my_env\)"
    ):
        jaxdrl.make("zzz")
    with pytest.raises(ConfigError, match=r"unknown; the nearest: CartPole-v1, [^;]*$"):
        jaxdrl.make("Cartpole")
