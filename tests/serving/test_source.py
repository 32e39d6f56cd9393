"""What is loaded is what was verified, of the run that was opened."""

import jax
import numpy as np
import pytest

import jaxdrl
from followed_runs import OBS, make_run, publish
from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint
from jaxdrl.runs.overrides import Overrides
from jaxdrl.serving import source
from jaxdrl.serving.source import Choice, identity, load, open_source, require_same_spaces

CHOICE = Choice(Overrides(), None, None, None, (1,))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("source") / "run").run_dir


@pytest.fixture(scope="module")
def opened(run_dir):
    """`(a source, its first version)`."""
    found = open_source(run_dir, CHOICE, "follow")
    candidate, _ = found.watch.look()
    return found, load(found, candidate, None)


def test_the_programs_of_a_run_are_used_again(opened, run_dir):
    found, first = opened
    publish(run_dir, 2)
    candidate, _ = found.watch.look()
    second = load(found, candidate, first)
    assert second.policy is first.policy and second.version.update == 2
    assert (first.version.run_id, first.version.env_steps) == (found.stored.origin.run_id, 128)
    action, _ = second.policy.act(second.part, OBS[None], (), np.ones(1, bool))
    assert action.tolist() == [0]


def test_files_that_change_while_they_are_loaded_are_not_taken(opened, run_dir, monkeypatch):
    found, first = opened
    publish(run_dir, 3)
    candidate, _ = found.watch.look()
    original = source.load_learner

    def replaced_meanwhile(*args):
        learner = original(*args)
        publish(run_dir, 3)
        return learner

    monkeypatch.setattr(source, "load_learner", replaced_meanwhile)
    assert load(found, candidate, first) is None
    monkeypatch.undo()
    candidate, _ = found.watch.look()
    assert load(found, candidate, first).version.update == 3


def test_a_version_that_cannot_act_is_not_taken(opened, run_dir, monkeypatch):
    found, first = opened
    publish(run_dir, 4)
    candidate, _ = found.watch.look()
    original = source.load_learner

    def of_another_shape(*args):
        return jax.tree.map(lambda x: x[..., None], original(*args))

    monkeypatch.setattr(source, "load_learner", of_another_shape)
    with pytest.raises(TypeError):
        load(found, candidate, first)
    checkpoint.remove(run_dir / "checkpoints", 4)


def test_spaces_are_compared():
    env = jaxdrl.make("CartPole-v1")
    require_same_spaces(env, jaxdrl.make("CartPole-v1", length=1.0), "x")
    other = env._replace(action_space=jaxdrl.spaces.Discrete(3))
    with pytest.raises(ConfigError, match=r"its action_space is Discrete\(n=3"):
        require_same_spaces(env, other, "x")


def test_a_link_is_what_it_points_to(tmp_path):
    assert identity(tmp_path / "nothing") is None
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert identity(tmp_path / "link") is None
    (tmp_path / "there").mkdir()
    assert identity(tmp_path / "link") == identity(tmp_path / "there")
