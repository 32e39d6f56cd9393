"""Settings of PPO: what is refused, with which message, and what passes while it is traced."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.checks import largest_divisor, require_divisor, require_number
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import settings_of, value_of, with_settings
from jaxdrl.errors import ConfigError

COUNTS = (
    "num_envs",
    "num_steps",
    "num_epochs",
    "num_minibatches",
    "num_shards",
    "memory_size",
)
ABOVE_ZERO = ("learning_rate", "adam_epsilon", "clip_epsilon", "rho_clip", "c_clip")
AT_LEAST_ZERO = ("final_learning_rate", "value_coef", "entropy_coef")
FRACTIONS = ("gamma", "gae_lambda")
OPTIONAL = (
    "anneal_env_steps",
    "value_clip_epsilon",
    "max_grad_norm",
    "observation_clip",
    "reward_clip",
    "target_kl",
)
FLAGS = (
    "standardize_advantages",
    "normalize_observations",
    "normalize_rewards",
    "shared_torso",
    "layer_norm",
    "remat",
    "reproducible",
)
CHOICES = {
    "correction": ("none", "vtrace"),
    "torso": ("auto", "mlp", "cnn"),
    "activation": ("tanh", "relu", "silu", "gelu"),
    "memory": ("none", "gru", "lstm"),
    "action_distribution": ("normal", "tanh_normal"),
    "network_dtype": ("float32", "bfloat16"),
    "matmul_precision": ("default", "high", "highest"),
}
SIZES = ("hidden_sizes", "cnn_channels", "cnn_kernel_sizes", "cnn_strides")

NO_NUMBERS = (math.nan, math.inf, -math.inf, True, False, "0.1", [0.1])
IS_COUNT = "must be an integer of at least 1"
IS_ABOVE_ZERO = "must be a finite number above 0"
IS_AT_LEAST_ZERO = "must be a finite number at least 0"
IS_FRACTION = "must be a finite number at least 0 and at most 1"
IS_OPTIONAL = "must be a finite number above 0, or None"
IS_LOG_STD = "must be a finite number at least -20 and at most 5"
IS_TUPLE = "must be a tuple of integers, such as (64, 64)"

BAD = [
    *(("num_accumulation_steps", v, IS_COUNT) for v in (0, -8, 8.0, math.nan, True, "8")),
    *(("sequence_length", v, IS_COUNT) for v in (0, -8, 8.0, math.nan, True, "8")),
    *(("pool_every", v, IS_COUNT) for v in (0, -8, 8.0, math.nan, True, "8", None)),
    *(("pool_size", v, "must be an integer of at least 0") for v in (-1, 2.0, True, "8", None)),
    *(("pool_share", v, IS_FRACTION) for v in (-0.1, 1.000001, None, *NO_NUMBERS)),
    *((f, v, IS_COUNT) for f in COUNTS for v in (0, -8, 8.0, math.nan, True, "8", None)),
    *((f, v, IS_ABOVE_ZERO) for f in ABOVE_ZERO for v in (0, 0.0, -1e-3, None, *NO_NUMBERS)),
    *((f, v, IS_AT_LEAST_ZERO) for f in AT_LEAST_ZERO for v in (-1e-9, None, *NO_NUMBERS)),
    *((f, v, IS_FRACTION) for f in FRACTIONS for v in (-0.1, 1.000001, 99, None, *NO_NUMBERS)),
    *((f, v, IS_OPTIONAL) for f in OPTIONAL for v in (0, -0.5, *NO_NUMBERS)),
    *(("initial_log_std", v, IS_LOG_STD) for v in (-20.1, 5.1, None, *NO_NUMBERS)),
    *((f, v, "must be True or False") for f in FLAGS for v in (0, 1, "True", None)),
    *((f, v, IS_TUPLE) for f in SIZES for v in ([64, 64], 64, "64", None)),
    *(("critic_only", v, "must be a tuple of strings") for v in ("state", ["state"], None)),
    *(("critic_only", v, "must be different names of entries") for v in (("a", "a"), ("",))),
    *((f, v, f"= {v[-1]!r}: {IS_COUNT}") for f in SIZES for v in ((0,), (64, -1), (64, 1.5))),
    *(
        (field, value, "must be one of " + ", ".join(allowed))
        for field, allowed in CHOICES.items()
        for value in ("nope", allowed[0].upper(), "", None, 3)
    ),
    *(
        (
            "num_envs",
            value,
            f"multiple of num_shards = 8; the nearest that work: {nearest}",
        )
        for value, nearest in ((100, "96 or 104"), (513, "512 or 520"), (7, "8"), (1, "8"))
    ),
]


@pytest.mark.parametrize(("field", "value", "works"), BAD)
def test_bad_value_is_refused_naming_field_value_and_what_works(field, value, works):
    with pytest.raises(ConfigError) as caught:
        with_settings(PPOConfig(), **{field: value})
    message = str(caught.value)
    assert message.startswith(f"{field} = ")
    shown = value[-1] if isinstance(value, tuple) else value
    assert repr(shown) in message
    assert works in message


def test_every_field_has_a_row_of_bad_values():
    assert {field for field, _, _ in BAD} == set(settings_of(PPOConfig()))


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [
        ("num_envs", 100, [96, 104]),
        ("num_envs", 3, [8]),
        ("num_envs", 1001, [1000, 1008]),
        ("num_minibatches", 3, [2, 4]),  # 64 * 512 / 8 = 4096
        ("num_minibatches", 33, [32, 64]),
        ("num_minibatches", 4095, [2048, 4096]),
        ("num_minibatches", 5000, [4096]),
        ("num_accumulation_steps", 3, [2, 4]),  # 4096 / 4 minibatches = 1024
        ("num_accumulation_steps", 2000, [1024]),
    ],
)
def test_the_nearest_values_named_work(field, value, nearest):
    with pytest.raises(ConfigError) as caught:
        with_settings(PPOConfig(), **{field: value})
    named = re.search(r"the nearest that work: (.*)$", str(caught.value)).group(1)
    assert [int(number) for number in named.split(" or ")] == nearest
    for number in nearest:
        assert value_of(with_settings(PPOConfig(), **{field: number}), field) == number


@pytest.mark.parametrize(
    ("shapes", "nearest"),
    [
        ({"num_envs": 12, "num_steps": 1}, [32]),
        ({"num_envs": 100, "num_steps": 6}, [96, 112]),
        ({"num_envs": 100, "num_steps": 6, "num_minibatches": 12}, [96, 112]),
        ({"num_envs": 100, "num_steps": 7, "num_minibatches": 12}, [96, 192]),
    ],
)
def test_the_nearest_num_envs_fit_the_minibatches_too(shapes, nearest):
    with pytest.raises(ConfigError) as caught:
        with_settings(PPOConfig(), **shapes)
    named = str(caught.value).split("the nearest that work: ")[1].split(" or ")
    assert [int(number) for number in named] == nearest
    for number in nearest:
        with_settings(PPOConfig(), **shapes | {"num_envs": number})


@pytest.mark.parametrize("num_minibatches", range(1, 40))
def test_minibatches_split_each_shard_or_the_nearest_counts_are_named(num_minibatches):
    shapes = {"num_envs": 12, "num_steps": 6, "num_shards": 4}  # 18 samples in a shard
    if 18 % num_minibatches == 0:
        config = with_settings(PPOConfig(), **shapes, num_minibatches=num_minibatches)
        assert config.env_steps_per_update == 72
        return
    with pytest.raises(ConfigError, match=r"num_envs / num_shards = 18;") as caught:
        with_settings(PPOConfig(), **shapes, num_minibatches=num_minibatches)
    named = str(caught.value).split("the nearest that work: ")[1].split(" or ")
    divisors = [1, 2, 3, 6, 9, 18]
    below = max(d for d in divisors if d < num_minibatches)
    above = [d for d in divisors if d > num_minibatches][:1]
    assert [int(number) for number in named] == [below, *above]
    for number in named:
        with_settings(PPOConfig(), **shapes, num_minibatches=int(number))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, None) for field in OPTIONAL),
        *((field, 0) for field in AT_LEAST_ZERO),
        *((field, bound) for field in FRACTIONS for bound in (0, 1)),
        ("initial_log_std", -20),
        ("initial_log_std", 5),
        ("hidden_sizes", ()),
        ("cnn_channels", (8, 16)),
        ("cnn_kernel_sizes", (8,)),
        ("cnn_strides", (2,)),
    ],
)
def test_good_values_pass(field, value):
    assert value_of(with_settings(PPOConfig(), **{field: value}), field) == value


@pytest.mark.parametrize("field", [*ABOVE_ZERO, *AT_LEAST_ZERO, *FRACTIONS, *OPTIONAL])
def test_floats_may_be_traced(field):
    def config_value(x):
        return value_of(with_settings(PPOConfig(), **{field: x}), field) * 2.0

    population = jnp.array([0.25, 0.5, 7.0])  # 7 is refused as gamma, but has no value here
    np.testing.assert_array_equal(jax.vmap(config_value)(population), [0.5, 1.0, 14.0])
    assert jax.jit(config_value)(0.5) == 1.0


def test_initial_log_std_may_be_traced():
    config = jax.jit(
        lambda x: with_settings(PPOConfig(), initial_log_std=x).network.initial_log_std
    )
    assert config(-1.0) == -1.0


def test_a_config_cannot_be_changed_and_is_equal_by_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PPOConfig().num_envs = 8
    assert PPOConfig(num_envs=8) == PPOConfig(num_envs=8) != PPOConfig(num_envs=16)
    assert len({PPOConfig(), PPOConfig()}) == 1


def test_replace_is_validated_too():
    with pytest.raises(ConfigError, match=r"learning_rate = -1"):
        dataclasses.replace(PPOConfig(), learning_rate=-1)


@pytest.mark.parametrize("num_devices", [1, 2, 3, 4, 5, 6, 7, 12, 24])
def test_devices_divide_the_shards(num_devices):
    if num_devices in (1, 2, 3, 4, 6, 12):
        require_divisor("devices", num_devices, 12)
        return
    with pytest.raises(ConfigError) as caught:
        require_divisor("devices", num_devices, 12)
    assert str(caught.value) == (
        f"devices = {num_devices}: must divide num_shards = 12; 1, 2, 3, 4, 6, 12 do, or "
        "change num_shards"
    )


@pytest.mark.parametrize(
    "value",
    [np.ones(2), np.True_, jnp.ones(2), 1j, 10**400, b"x", np.str_("x"), object()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_scalar_is_refused(value):
    with pytest.raises(ConfigError, match=r"^rate = "):
        require_number("rate", value, low=0)


@pytest.mark.parametrize(
    ("total", "at_most", "largest"),
    [(8, 1, 1), (8, 3, 2), (8, 7, 4), (8, 64, 8), (6, 4, 3), (7, 6, 1), (8, 0, 1)],
)
def test_the_largest_divisor(total, at_most, largest):
    assert largest_divisor(total, at_most) == largest


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_envs": 10**12}, "num_envs = 1000000000000: must be at most 33554424 with n"),
        ({"num_steps": 2**31}, "num_steps = 2147483648: must be at most 4194303 with num_"),
        ({"num_steps": 10**18, "sequence_length": 7}, "must be at most 4194303 with"),
        ({"num_envs": 1, "num_shards": 1, "num_steps": 10**12}, "must be at most 2147483647"),
        (
            {"memory_size": 10**12},
            "memory_size = 1000000000000: must be at most 2147483647",
        ),
        (
            {"hidden_sizes": (8, 10**12)},
            "hidden_sizes = 1000000000000: must be at most 2147",
        ),
        ({"num_envs": 2**25 - 8, "num_minibatches": 10**9}, "num_minibatches = 1000000000: "),
        ({"num_envs": 2**25 - 8, "num_shards": 2**25 - 8, "num_minibatches": 7}, "work: 4 or 8"),
    ],
)
def test_counts_beyond_all_measure_are_refused_at_once(changes, says):
    with pytest.raises(ConfigError) as caught:
        with_settings(PPOConfig(), **changes)
    assert says in str(caught.value)


@pytest.mark.parametrize("field", ["cnn_kernel_sizes", "cnn_strides"])
@pytest.mark.parametrize("value", [(), (4, 2)])
def test_convolutions_have_one_size_for_all_or_each_its_own(field, value):
    works = r"must have one number, or 3 as cnn_channels = \(8, 8, 8\) has"
    with pytest.raises(ConfigError, match=f"{field} = {re.escape(str(value))}: {works}"):
        with_settings(PPOConfig(), cnn_channels=(8, 8, 8), **{field: value})
    network = with_settings(PPOConfig(), cnn_channels=(8, 8), **{field: (4, 2)}).network
    kernels, strides = ((4, 2), (1, 1)) if field == "cnn_kernel_sizes" else ((3, 3), (4, 2))
    assert network.convolutions == tuple(zip((8, 8), kernels, strides, strict=True))
