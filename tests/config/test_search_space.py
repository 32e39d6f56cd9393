"""Ranges of hyperparameters."""

import dataclasses

import numpy as np
import pytest

from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.search_space import Range, Sweep, check_names, draw, parse_range
from jaxdrl.config.settings import hyperparameter, hyperparameters
from jaxdrl.errors import ConfigError


def test_an_even_range_is_a_line():
    np.testing.assert_allclose(Range(0.0, 0.02).at(np.array([0.0, 0.25, 1.0])), [0.0, 0.005, 0.02])


def test_a_logarithmic_range_multiplies():
    values = Range(1e-4, 1e-2, log=True).at(np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(values, [1e-4, 1e-3, 1e-2])


def test_ranges_are_written_as_they_are_read():
    for text in ("log:0.0001:0.01", "0:0.02", "-1:1"):
        assert str(parse_range("x", text)) == text
    assert parse_range("x", "log:1e-4:1e-2") == Range(1e-4, 1e-2, log=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1", "must be LOW:HIGH or log:LOW:HIGH"),
        ("1:2:3", "must be LOW:HIGH or log:LOW:HIGH"),
        ("a:b", "must be LOW:HIGH or log:LOW:HIGH"),
        ("1:1", "LOW below HIGH"),
        ("2:1", "LOW below HIGH"),
        ("0:inf", "must be a finite number"),
        ("log:0:1", "must begin above 0"),
        ("log:-1:1", "must begin above 0"),
    ],
)
def test_ranges_that_are_none_are_refused(text, says):
    with pytest.raises(ConfigError, match=says) as error:
        parse_range("learning_rate", text)
    assert str(error.value).startswith("learning_rate")


def test_float_settings_of_the_algorithm_may_vary():
    names = hyperparameters(PPOConfig())
    assert {"learning_rate", "gamma", "entropy_coef", "clip_epsilon", "target_kl"} <= set(names)
    assert not {"num_envs", "hidden_sizes", "reproducible", "torso"} & set(names)
    check_names(PPOConfig(), names)


def test_other_names_are_refused_with_the_reason_or_the_nearest():
    with pytest.raises(ConfigError, match=r"hyperparams.num_envs: shapes the program"):
        check_names(PPOConfig(), ["learning_rate", "num_envs"])
    with pytest.raises(
        ConfigError, match=r"hyperparams.learning_rat: .* did you mean learning_rate"
    ):
        check_names(PPOConfig(), ["learning_rat"])


@dataclasses.dataclass(frozen=True)
class OwnConfig:
    """Of an algorithm of one's own, with one float that is not declared to vary."""

    declared: float = hyperparameter(0.5)
    forgotten: float = 0.5


def test_a_float_that_is_not_declared_is_refused_with_how_to_declare_it():
    check_names(OwnConfig(), ["declared"])
    with pytest.raises(ConfigError, match=r"forgotten: is a float that cannot vary; it can if"):
        check_names(OwnConfig(), ["forgotten"])


RANGES = {"learning_rate": Range(1e-4, 1e-2, log=True), "entropy_coef": Range(0.0, 0.02)}


@pytest.mark.parametrize("how", ["random", "sobol"])
def test_draws_fill_their_ranges_and_follow_from_the_seed(how):
    values = draw(RANGES, 256, how, seed=3)
    shares = [np.log10(values["learning_rate"] / 1e-4) / 2, values["entropy_coef"] / 0.02]
    counts, *_ = np.histogram2d(*shares, bins=4, range=[[0, 1], [0, 1]])
    assert counts.sum() == 256
    assert counts.min() >= (16 if how == "sobol" else 5)
    again, other = draw(RANGES, 256, how, seed=3), draw(RANGES, 256, how, seed=4)
    np.testing.assert_array_equal(values["entropy_coef"], again["entropy_coef"])
    assert (values["entropy_coef"] != other["entropy_coef"]).any()


def test_a_grid_has_every_combination():
    values = draw(RANGES, 9, "grid", seed=0)
    pairs = {
        (round(a, 3), round(b, 6)) for a, b in zip(*map(values.get, sorted(values)), strict=True)
    }
    assert pairs == {(a, b) for a in (0.0, 0.01, 0.02) for b in (1e-4, 1e-3, 1e-2)}


@pytest.mark.parametrize("num", [1, 5, 8])
def test_a_grid_of_another_number_is_refused_with_those_that_work(num):
    with pytest.raises(ConfigError, match=rf"members = {num}: a grid over 2 range\(s\) has 4"):
        draw(RANGES, num, "grid", seed=0)


def test_waves_are_the_members_of_the_sweep_in_order():
    whole = Sweep({"gamma": "0.9:0.99"}, members=4, seeds=2, wave_size=3)
    waves = whole.waves
    assert [list(wave.numbers) for wave in waves] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [wave.num_members for wave in waves] == [3, 3, 2]
    assert whole.num_members == 8
    values = whole.values(seed=3)["gamma"]
    assert values[0] == values[1] != values[2]
    parts = [wave.values(seed=3)["gamma"] for wave in waves]
    np.testing.assert_array_equal(np.concatenate(parts), values)
    assert waves[1].waves == []
    assert Sweep({"gamma": "0.9:0.99"}, members=4, wave_size=4).waves == []


@pytest.mark.parametrize("how", ["random", "sobol", "grid"])
def test_ranges_in_another_order_give_the_same_draws(how):
    ranges = {"gamma": Range(0.9, 0.99), "learning_rate": Range(1e-4, 1e-2, log=True)}
    found, other = (
        draw(dict(items), 16, how, 3) for items in (ranges.items(), [*ranges.items()][::-1])
    )
    for name in ranges:
        np.testing.assert_array_equal(found[name], other[name])


@pytest.mark.parametrize("how", ["random", "sobol", "grid"])
@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({"members": 10**9}, "sweep.members = 1000000000: must be at most 100000"),
        ({"seeds": 10**9}, "sweep.seeds = 1000000000: must be at most 100000"),
        ({"members": 51, "seeds": 2000}, "sweep.members = 51: must be at most 50 of 2000 seeds"),
        ({"members": 10**12, "wave_size": 1}, "sweep.members = 1000000000000: must be at most"),
    ],
)
def test_more_members_than_can_be_drawn_are_refused(how, counts, says):
    with pytest.raises(ConfigError, match=says):
        Sweep({"gamma": "0.9:0.99"}, draw=how, **counts)


def test_the_number_of_waves_is_that_of_the_waves():
    ranges = {"gamma": "0.9:0.99"}
    for members, size in ((24, 5), (24, 24), (24, None), (24, 1), (4, 9)):
        sweep = Sweep(ranges, members=members, wave_size=size)
        assert sweep.num_waves == len(sweep.waves)
    assert Sweep(ranges, members=100_000, wave_size=1).num_waves == 100_000
