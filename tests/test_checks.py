"""What settings take: scalars of any kind become Python's, paths of any kind `Path`."""

import dataclasses
import json
import pathlib
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxdrl.annotations import fit, works
from jaxdrl.checks import Count, Positive, checked
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.search_space import Range, Sweep
from jaxdrl.config.settings import with_settings
from jaxdrl.config.stored import to_json
from jaxdrl.errors import ConfigError
from jaxdrl.populations.pbt import Exchange
from jaxdrl.runs.run_dir import read_experiment

INTEGERS = (np.int8, np.uint32, np.int64, np.asarray, jnp.asarray, jnp.int32, lambda x: x)
FLOATS = (
    *(np.float16, np.float32, np.float64, np.asarray, jnp.asarray, jnp.float32, Fraction),
    *(ml_dtypes.bfloat16, lambda x: jnp.asarray(x, jnp.bfloat16), lambda x: x),
)
BOOLS = (np.bool_, np.asarray, jnp.asarray, bool)


def written_and_read(experiment, tmp_path):
    """The experiment as a file gives it back."""
    path = tmp_path / "config.json"
    content = to_json(experiment) | {"run_dir": None, "from_run": None}
    path.write_text(json.dumps({"experiment": content}))
    return read_experiment(path)


def kinds(tree):
    """Types of everything in a config."""
    if isinstance(tree, dict):
        return {kind for item in tree.items() for part in item for kind in kinds(part)}
    if isinstance(tree, tuple):
        return {kind for item in tree for kind in kinds(item)}
    return {type(tree)}


@pytest.mark.parametrize("make", range(10))
def test_scalars_of_any_kind_become_pythons_and_can_be_written(make, tmp_path):
    integer, real = INTEGERS[make % len(INTEGERS)], FLOATS[make]
    truth = BOOLS[make % len(BOOLS)]
    ppo = with_settings(
        PPOConfig(),
        num_envs=integer(64),
        hidden_sizes=(integer(8), integer(16)),
        learning_rate=real(0.25),
        target_kl=real(0.5),
        sequence_length=integer(16),
        remat=truth(True),
        memory=np.str_("gru"),
    )
    sweep = Sweep(ranges={"gamma": "0.5:1"}, members=integer(2), pbt=truth(True))
    experiment = Experiment(
        env=np.str_("CartPole-v1"),
        seed=integer(7),
        evaluate_every=integer(2),
        checkpoint_minutes=real(0.5),
        env_params={"length": real(0.5), "max_steps_in_episode": integer(12)},
        algorithm=ppo,
        sweep=sweep,
    )
    plain = {str, int, float, bool, type(None)}
    assert kinds(dataclasses.asdict(experiment)) <= plain
    assert (ppo.num_envs, ppo.network.hidden_sizes, ppo.learning_rate) == (64, (8, 16), 0.25)
    assert (ppo.execution.remat, experiment.seed, experiment.env_params["length"]) == (True, 7, 0.5)
    assert written_and_read(experiment, tmp_path) == experiment
    exchange = Exchange({"gamma": Range(real(0.25), real(0.5), truth(False))}, every=integer(3))
    assert kinds(dataclasses.asdict(exchange)) <= plain


def test_a_float32_keeps_its_value_and_reaches_the_program_as_it_was():
    rate = np.float32(1e-3)
    config = PPOConfig(learning_rate=rate)
    assert type(config.learning_rate) is float
    assert config.learning_rate == float(rate) != 1e-3
    assert np.float32(config.learning_rate) == rate
    assert PPOConfig(learning_rate=1).learning_rate == 1.0


@pytest.mark.parametrize(
    "value",
    [8.0, np.float32(8), jnp.float32(8), np.ones(1, int), jnp.ones(2), np.bool_(1), 8j],
)
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(ConfigError, match=r"^num_envs = .*: must be an integer of at least 1$"):
        PPOConfig(num_envs=value)


def test_traced_floats_pass_and_traced_integers_do_not():
    def doubled(rate):
        return 2 * dataclasses.replace(PPOConfig(), learning_rate=rate).learning_rate

    np.testing.assert_array_equal(jax.vmap(doubled)(jnp.arange(3.0)), [0.0, 2.0, 4.0])
    with pytest.raises(ConfigError, match=r"^num_envs = "):
        jax.jit(lambda n: PPOConfig(num_envs=n).num_envs)(8)


@pytest.mark.parametrize("given", [str, Path, pathlib.PurePosixPath])
def test_paths_of_any_kind_are_paths_and_a_tilde_is_home(given, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    experiment = Experiment("CartPole-v1", run_dir=given("~/x"), from_run=given("runs/first"))
    assert experiment.run_dir == Path("/home/somebody/x")
    assert experiment.from_run == Path("runs/first")


def test_choices_come_before_divisions_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        with_settings(PPOConfig(), memory="gruu", num_minibatches=3)
    assert str(caught.value) == (
        "memory = 'gruu': must be one of none, gru, lstm; the nearest: gru"
    )


@pytest.mark.parametrize("digits", [40, 400, 10_000])
def test_a_number_of_many_digits_is_refused_in_few_words(digits):
    for field in ("num_envs", "learning_rate"):
        with pytest.raises(ConfigError) as caught:
            with_settings(
                PPOConfig(), **{field: 10**digits if field == "num_envs" else 10 ** (digits + 400)}
            )
        assert len(str(caught.value)) < 300


def test_arguments_are_checked_by_their_annotations():
    @checked
    def product(number: Count, *, factor: Positive | None = None) -> float:
        """A product."""
        return number * (1.0 if factor is None else factor)

    assert product(np.int64(3), factor=jnp.float32(0.5)) == 1.5
    assert type(product(np.int64(3))) is float
    assert (product.__name__, product.__doc__) == ("product", "A product.")
    with pytest.raises(ConfigError, match=r"^number = 0: must be an integer of at least 1"):
        product(0)
    with pytest.raises(
        ConfigError, match=r"^factor = -1: must be a finite number above 0, or None"
    ):
        product(3, factor=-1)
    with pytest.raises(TypeError, match="missing a required argument: 'number'"):
        product(factor=1.0)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Count | None, "an integer of at least 1, or None"),
        (tuple[Count, ...], "a tuple of integers, such as (64, 64)"),
        (Path | str, "a path"),
        (dict[str, float | str], "a dictionary of names, each with a finite number, or a string"),
    ],
)
def test_what_works_is_said_in_words(hint, words):
    assert works(hint) == words
    with pytest.raises(ConfigError, match=r"^field = <object"):
        fit("field", object(), hint)
