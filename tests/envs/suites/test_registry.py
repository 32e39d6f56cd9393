"""Suites by name: ours, whether they are installed, and those of other packages."""

import re
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdrl
from jaxdrl import ConfigError
from jaxdrl.config import presets
from jaxdrl.envs.domain_randomization import parse_ranges
from jaxdrl.envs.suites import registry

PACKAGE = """
import jax.numpy as jnp
from jaxdrl import Environment, spaces
from jaxdrl.envs.suites.registry import Suite, fit_params, require_task


def make_ours(task, **params):
    require_task("ours", task, ["Still"])
    size = fit_params(f"ours/{task}", params, {"size": 2})["size"]

    def reset(key, params):
        return jnp.zeros((size,)), jnp.zeros((), jnp.int32)

    def step(key, env_state, action, params):
        no = jnp.zeros((), bool)
        return jnp.zeros((size,)), env_state + 1, jnp.ones(()), no, no, {}

    observed = spaces.Box(0.0, 1.0, (size,))
    return Environment(f"ours/{task}", reset, step, observed, spaces.Discrete(2))


SUITE = Suite(make=make_ours, list_tasks=lambda: ["Still"])
"""


@pytest.fixture
def our_package(tmp_path, monkeypatch):
    """A package of somebody else, as an installer leaves it."""
    (tmp_path / "their_suite.py").write_text(PACKAGE)
    info = tmp_path / "their_suite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-suite\nVersion: 1.0\n")
    lines = "ours = their_suite:SUITE\nbroken = their_suite:nothing\nwrong = their_suite:PACKAGE\n"
    (info / "entry_points.txt").write_text(f"[jaxdrl.suites]\n{lines}")
    (tmp_path / "their_suite.py").write_text(PACKAGE + "\nPACKAGE = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("their_suite", None)


def test_another_package_adds_a_suite_without_touching_ours(our_package):
    env = jaxdrl.make("ours/Still", size=3.0)
    obs, _ = env.reset(jax.random.key(0), env.default_params)
    assert env.name == "ours/Still" and obs.shape == (3,)
    assert "ours" in registry.names() and registry.missing("ours") is None
    run = jaxdrl.make_config("ours/Still")
    assert run == jaxdrl.PPOConfig(entropy_coef=0.01)
    agent = jaxdrl.ppo(env, jaxdrl.PPOConfig(num_envs=8, num_steps=2, num_minibatches=1))
    assert agent.init(jax.random.key(0)).actor.obs.shape == (8, 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ours/Stil", ["env = 'ours/Stil'", "the nearest: Still"]),
        ("broken/Still", ["suite = 'broken'", "nothing"]),
        ("wrong/Still", ["suite = 'wrong'", "their_suite:PACKAGE is a int", "Suite"]),
    ],
)
def test_what_another_package_has_wrong_is_named(our_package, name, words):
    with pytest.raises(ConfigError) as caught:
        jaxdrl.make(name)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_suite_that_is_not_installed_says_what_installs_it(monkeypatch):
    absent = registry.BuiltIn("jaxdrl.envs.nobodys", "nobodys_package", " (on Tuesdays)")
    monkeypatch.setitem(registry.BUILT_IN, "nobodys", absent)
    assert registry.missing("nobodys") == "pip install 'jaxdrl[nobodys]' (on Tuesdays)"
    works = "suite = 'nobodys': is not installed; install it with: pip install 'jaxdrl[nobodys]'"
    with pytest.raises(ConfigError, match=re.escape(works)):
        jaxdrl.make("nobodys/Task")


def test_a_suite_that_cannot_be_imported_says_why(monkeypatch):
    broken = registry.BuiltIn("jaxdrl.envs.nobodys", "jax")
    monkeypatch.setitem(registry.BUILT_IN, "nobodys", broken)
    with pytest.raises(ConfigError, match=r"suite = 'nobodys': cannot be imported: .*nobodys"):
        jaxdrl.make("nobodys/Task")


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(ConfigError, match=r"suite = 'jumanij': unknown; the nearest: jumanji"):
        jaxdrl.make("jumanij/Snake-v1")


def test_every_suite_of_ours_is_an_extra():
    from importlib.metadata import metadata

    extras = set(metadata("jaxdrl").get_all("Provides-Extra"))
    assert set(registry.BUILT_IN) | {"suites"} <= extras


def test_the_cost_of_a_reset_can_be_overridden():
    assert jaxdrl.make("CartPole-v1", costly_reset=1.0).costly_reset is True
    assert jaxdrl.make("CartPole-v1").costly_reset is False
    with pytest.raises(ConfigError, match=r"env_params\.costly_reset = 'no': must be 0 or 1"):
        jaxdrl.make("CartPole-v1", costly_reset="no")


@pytest.mark.parametrize(
    ("default", "value", "found"),
    [
        (3, 5.0, 5),
        (True, 0.0, False),
        (0.5, 2, 2.0),
        (None, 7.0, 7),
        (None, 7.5, 7.5),
        ("spring", "mjx", "mjx"),
        ((1, 2), (3, 4), (3, 4)),
    ],
)
def test_parameters_take_the_kind_of_their_default(default, value, found):
    fitted = registry.fit_params("x/y", {"a": value}, {"a": default, "b": 1})
    assert fitted == {"a": found, "b": 1} and type(fitted["a"]) is type(found)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"sise": 1}, "env_params.sise = 1: x/y has no such parameter; the nearest: size"),
        ({"size": 1.5}, "env_params.size = 1.5: must be a whole number"),
        ({"flag": 2}, "env_params.flag = 2: must be 0 or 1"),
        ({"rate": "a"}, "env_params.rate = 'a': must be a number"),
        ({"word": 1.0}, "env_params.word = 1.0: must be a string, such as 'spring'"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(params, words):
    defaults = {"size": 1, "flag": False, "rate": 0.5, "word": "spring"}
    with pytest.raises(ConfigError, match=re.escape(words)):
        registry.fit_params("x/y", params, defaults)


@given(st.text(alphabet="ab-v1", min_size=1), st.text(alphabet="ab-v1/", min_size=1))
def test_the_first_slash_splits_a_name(suite, task):
    assert registry.split(f"{suite}/{task}") == (suite, task)
    assert registry.split(suite) == (None, suite)


@pytest.mark.parametrize(
    ("given", "found"), [("default", 40), (None, None), (7, 7), (7.0, 7), (np.int32(7), 7)]
)
def test_the_limit_that_is_meant(given, found):
    limit = registry.episode_limit(given, 40)
    assert limit == found and type(limit) is type(found)


@pytest.mark.parametrize("given", [0, -1, 2.5, "none", True])
def test_what_is_no_limit_is_refused(given):
    with pytest.raises(ConfigError, match=re.escape(f"max_episode_steps = {given!r}: must be")):
        registry.episode_limit(given, 40)


@pytest.mark.parametrize("name", presets.SUITE_TASKS)
def test_the_settings_of_a_task_of_a_suite_fit_it(name):
    if registry.missing(name.split("/")[0]):
        pytest.skip("is not installed")
    experiment = jaxdrl.make_experiment(name)
    assert experiment.env == name and experiment.num_eval_episodes <= 128
    try:
        env = jaxdrl.make(name)
    except ConfigError as error:
        pytest.skip(str(error)) if "is not installed" in str(error) else pytest.fail(str(error))
    if experiment.randomize:
        env = jaxdrl.randomize(env, parse_ranges(experiment.randomize))
    agent = jaxdrl.ppo(env, jaxdrl.make_config(name))
    state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    after, _ = jax.eval_shape(agent.train_step, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_every_suite_of_ours_has_a_task_with_settings():
    assert {name.split("/")[0] for name in presets.SUITE_TASKS} == set(registry.BUILT_IN)


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_a_suite_of_the_host_is_known_as_one_before_it_is_imported(name):
    is_on_host = registry.is_on_host(f"{name}/anything")
    assert is_on_host == registry.BUILT_IN[name].module.startswith("jaxdrl.envs.host.")
    if registry.missing(name) is None:
        assert registry.load(name).on_host == is_on_host
