"""A policy in use takes the new checkpoints of a run, and nothing else."""

import errno
import gc
import shutil
import threading
import time
import weakref

import numpy as np
import pytest

import jaxdrl
from followed_runs import OBS, copy_of, make_run, publish
from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint, checkpoint_manager
from small_runs import PPO


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("follow") / "run").run_dir


@pytest.fixture
def run_dir(original, tmp_path):
    return copy_of(original, tmp_path / "run")


@pytest.fixture
def opened():
    """Follows a run, and looks only when it is told to."""
    policies = []

    def make(run_dir, **how):
        refusals = []
        given = {"seconds": 1000.0, "batch_sizes": (1, 8), "on_refusal": refusals.append}
        policies.append(jaxdrl.follow(run_dir, **(given | how)))
        return policies[-1], refusals

    yield make
    for policy in policies:
        policy.close()


def flip(path):
    file = path / "state.npz"
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(bytes(content))


def test_each_new_checkpoint_is_taken_and_answers_say_which(run_dir, opened):
    changes = []
    policy, refusals = opened(run_dir, on_change=changes.append)
    assert policy.update == 1 and [version.update for version in changes] == [1]
    for update in (2, 3, 7):
        publish(run_dir, update, evaluation={"mean_return": 2.0 * update})
        assert policy.look() and not policy.look()
        found = policy.decide(np.stack([OBS] * 11))
        assert found.action.tolist() == [update % 2] * 11
        assert found.version == policy.version == changes[-1] == policy.versions[-1]
        assert (found.version.update, found.version.mean_return) == (update, 2.0 * update)
        assert found.version.env_steps == update * 128
        assert policy(OBS).shape == () and policy(OBS) == update % 2
    assert refusals == []


def test_it_acts_as_the_run_does(run_dir, opened):
    policy, _ = opened(run_dir)
    _, agent, state = jaxdrl.restore(run_dir)
    obs = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)
    start, key = np.zeros(23, bool), state.learner.key
    expected, _ = agent.policy.act(state.learner, (), obs, start, key, greedy=True)
    np.testing.assert_array_equal(policy(obs), expected)


def put_damaged(run_dir, other):
    flip(publish(run_dir, 9))


def put_foreign(run_dir, other):
    publish(other, 9)
    shutil.copytree(other / "checkpoints/00000009", run_dir / "checkpoints/00000009")


def put_half(run_dir, other):
    (publish(run_dir, 9) / "SHA256SUMS").unlink()


def put_nan(run_dir, other):
    publish(run_dir, 9, lambda x: x["learner/params/policy/kernel"].fill(np.nan))


def put_other_shape(run_dir, other):
    def change(arrays):
        arrays["learner/params/policy/bias"] = np.zeros(3, np.float32)

    publish(run_dir, 9, change)


def put_other_number(run_dir, other):
    publish(run_dir, 8).rename(run_dir / "checkpoints/00000009")


REFUSED = {
    put_damaged: "is damaged",
    put_foreign: "is a checkpoint of another run",
    put_half: "SHA256SUMS: cannot be read",
    put_nan: "holds NaN or infinity",
    put_other_shape: "00000009",
    put_other_number: "is the checkpoint of update 8 under another number",
}


@pytest.mark.parametrize("put", REFUSED)
def test_a_bad_checkpoint_is_said_once_and_never_taken(put, run_dir, opened, tmp_path):
    policy, refusals = opened(run_dir)
    put(run_dir, make_run(tmp_path / "other").run_dir if put is put_foreign else None)
    assert not policy.look() and not policy.look()
    assert policy.update == 1
    (words,) = refusals
    assert REFUSED[put] in words and list(policy.refusals) == refusals
    publish(run_dir, 10)
    assert policy.look() and policy.update == 10 and len(refusals) == 1


def test_one_that_is_damaged_after_it_was_taken_stays_in_use(run_dir, opened):
    policy, refusals = opened(run_dir)
    path = publish(run_dir, 4)
    policy.look()
    flip(path)
    assert not policy.look() and not policy.look() and policy.update == 4
    assert len(refusals) == 1


def test_a_run_that_is_taken_back_takes_the_policy_with_it(run_dir, opened):
    policy, _ = opened(run_dir)
    publish(run_dir, 2)
    publish(run_dir, 5)
    policy.look()
    checkpoint.remove(run_dir / "checkpoints", 5)
    assert not policy.look()  # it may be just about to be written anew
    assert policy.look() and policy.update == 2
    before = policy.version
    publish(run_dir, 2, lambda x: x["learner/params/policy/bias"].fill(0))
    assert policy.look() and policy.version != before  # the same update, of another training


def test_a_directory_that_disappears_leaves_the_policy_in_use(run_dir, opened):
    policy, refusals = opened(run_dir)
    publish(run_dir, 3)
    run_dir.rename(run_dir.with_name("away"))
    assert not policy.look() and not policy.look()
    assert policy.update == 1 and policy(OBS) in (0, 1)
    (words,) = refusals
    assert "there is no such directory" in words and "update 1 stays in use" in words
    run_dir.with_name("away").rename(run_dir)
    assert policy.look() and policy.update == 3
    assert refusals[1].endswith("can be read again")


def test_the_best_by_evaluation(run_dir, opened):
    publish(run_dir, 2, evaluation={"mean_return": 900.0})
    policy, _ = opened(run_dir, checkpoint="best")
    assert policy.update == 2
    publish(run_dir, 3, evaluation={"mean_return": 800.0})
    publish(run_dir, 4, evaluation=None)
    assert not policy.look()
    publish(run_dir, 5, evaluation={"mean_return": 901.0})
    assert policy.look() and policy.update == 5
    fixed, _ = opened(run_dir, checkpoint=3)
    assert not fixed.look() and fixed.update == 3


def test_another_run_of_the_same_spaces_is_followed_by_switch_or_by_a_link(
    run_dir, original, opened, tmp_path
):
    publish(run_dir, 4)
    (tmp_path / "live").symlink_to(original)
    policy, refusals = opened(tmp_path / "live")
    linked = policy.version
    (tmp_path / "new").symlink_to(run_dir)
    (tmp_path / "new").replace(tmp_path / "live")
    assert policy.look()
    assert policy.update == 4 and policy.version.run_dir == run_dir.resolve() != linked.run_dir
    policy.switch(original)
    assert policy.update == 1 and policy.version.run_dir == original
    with pytest.raises(ConfigError, match="is not a run"):
        policy.switch(tmp_path)
    other = make_run(tmp_path / "other", env="MountainCar-v0", env_params={}).run_dir
    with pytest.raises(ConfigError, match="its observation_space is Box"):
        policy.switch(other)
    publish(original, 6)
    assert policy.look() and policy.update == 6 and refusals == []
    checkpoint.remove(original / "checkpoints", 6)
    policy.switch(tmp_path / "live")
    (tmp_path / "new").symlink_to(other)
    (tmp_path / "new").replace(tmp_path / "live")
    assert not policy.look() and not policy.look() and policy.update == 4
    assert len(refusals) == 1 and "observation_space" in refusals[0]


def test_a_link_may_point_at_a_run_before_it_begins(run_dir, original, opened, tmp_path):
    link, later = tmp_path / "live", tmp_path / "later"
    link.symlink_to(original)
    policy, refusals = opened(link)
    link.unlink()
    link.symlink_to(later)
    parts = ["config.json", "checkpoints"]  # in the order in which a run writes them
    assert not policy.look()
    later.mkdir()
    for name in parts:
        assert not policy.look()
        shutil.move(run_dir / name, later / name)
    assert policy.version.run_dir == original.resolve() and refusals == []
    assert policy.look() and policy.version.run_dir == later.resolve()
    shutil.rmtree(later / "checkpoints")
    assert not policy.look()
    assert len(refusals) == 1 and "stays in use" in refusals[0]


def test_another_network_is_followed_too(original, opened, tmp_path):
    policy, _ = opened(original)
    algorithm = jaxdrl.with_settings(PPO, activation="relu")
    other = make_run(tmp_path / "relu", algorithm=algorithm).run_dir
    obs = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    policy.switch(other)
    fresh, _ = opened(other)
    np.testing.assert_array_equal(policy(obs), fresh(obs))


def test_threads_get_answers_of_one_version_each_while_others_are_taken(run_dir, opened):
    policy, refusals = opened(run_dir, seconds=0.005)
    publish(run_dir, 2)
    while policy.update != 2:
        time.sleep(0.01)
    stop, wrong, updates = threading.Event(), [], set()

    def ask():
        rng = np.random.default_rng(0)
        while not stop.is_set():
            found = policy.decide(rng.normal(size=(int(rng.integers(1, 20)), 4)))
            updates.add(found.version.update)
            if set(found.action.tolist()) != {found.version.update % 2}:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for update in range(3, 23):
        path = publish(run_dir, update)
        if update % 3 == 0:
            flip(path)
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(updates) > 5
    assert len(refusals) == len(set(refusals)) <= 7


def test_its_thread_ends_with_it(run_dir, opened):
    policy = jaxdrl.follow(run_dir, seconds=0.01, batch_sizes=(1,))
    named = [t for t in threading.enumerate() if t.name == "jaxdrl-follow" and t.is_alive()]
    gone = weakref.ref(policy)
    del policy
    deadline = time.monotonic() + 10
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert gone() is None
    for thread in named:
        thread.join(timeout=0.2)
    assert sum(thread.is_alive() for thread in named) < len(named)


def test_what_a_callback_raises_is_reported_and_the_policy_stays(run_dir, opened):
    def fail(version):
        if version.update > 1:
            raise ValueError("mine")

    policy, refusals = opened(run_dir, seconds=0.01, on_change=fail)
    publish(run_dir, 2)
    publish(run_dir, 3)
    deadline = time.monotonic() + 10
    while policy.update != 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert policy.update == 3 and "mine" in refusals[0]


def test_the_first_checkpoint_is_waited_for(run_dir, tmp_path):
    with pytest.raises(ConfigError, match="is not a run"):
        jaxdrl.follow(tmp_path / "later")
    later = threading.Timer(0.3, lambda: copy_of(run_dir, tmp_path / "later"))
    later.start()
    with jaxdrl.follow(tmp_path / "later", wait=20, batch_sizes=(1,)) as policy:
        assert policy.update == 1
    flip(run_dir / "checkpoints/00000001")
    with pytest.raises(ConfigError, match="every checkpoint in it is damaged"):
        jaxdrl.follow(run_dir, on_refusal=lambda words: None)


def test_one_that_is_written_between_two_looks_is_taken(run_dir, monkeypatch):
    """It is no longer missing when the reason is looked for."""
    choose, hidden = checkpoint_manager.choose, run_dir / "hidden"
    (run_dir / "checkpoints").rename(hidden)

    def written_before(directory, *given):
        if hidden.exists():
            hidden.rename(directory)
        return choose(directory, *given)

    monkeypatch.setattr(checkpoint_manager, "choose", written_before)
    with jaxdrl.follow(run_dir, batch_sizes=(1,)) as policy:
        assert policy.update == 1


@pytest.mark.parametrize("wait", [0.0, 0.2])
def test_what_cannot_be_read_is_named(run_dir, monkeypatch, wait):
    def refuse(directory):
        raise PermissionError(errno.EACCES, "Permission denied", str(directory))

    with pytest.raises(ConfigError, match=r"run_dir = 'x+': cannot be read \(File name too long\)"):
        jaxdrl.follow("x" * 300, wait=wait)
    monkeypatch.setattr(checkpoint, "updates_in", refuse)
    with pytest.raises(ConfigError, match=r"run/checkpoints: cannot be read \(Permission denied\)"):
        jaxdrl.follow(run_dir, wait=wait)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_sizes": ()}, "batch_sizes = (): must have at least one size"),
        ({"batch_sizes": (0,)}, "batch_sizes"),
        ({"seconds": 0.0}, "seconds = 0"),
        ({"wait": -1.0}, "wait = -1"),
        ({"checkpoint": "last"}, "checkpoint = 'last': must be the update"),
        ({"checkpoint": 7}, "checkpoint = 7: not in"),
        ({"member": 1}, "has one agent, not members"),
    ],
)
def test_bad_arguments_are_refused(arguments, words, run_dir):
    with pytest.raises(ConfigError) as caught:
        jaxdrl.follow(run_dir, **arguments)
    assert words in str(caught.value)
