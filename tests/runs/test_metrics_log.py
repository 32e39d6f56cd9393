"""Lines of metrics.jsonl, digests of states, and the files of a run directory."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.runs import stopwatch
from jaxdrl.runs.metrics_log import MetricsLog, sha256
from jaxdrl.runs.stopwatch import Stopwatch


class Clock:
    """Stands in for the module `time`; each update takes as long as the test says."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


@pytest.fixture
def running():
    """A stopwatch that runs."""
    watch = Stopwatch()
    with watch.running():
        yield watch


@pytest.fixture
def log_of(tmp_path, running):
    def make(log_every=1, env_steps_per_update=10):
        path, counts = tmp_path / "metrics.jsonl", {"env_steps_per_update": env_steps_per_update}
        return MetricsLog(path, running, log_every=log_every, **counts)

    return make


def update_metrics(returns=(), length=1, loss=0.5):
    """Metrics of an update in which episodes with these returns ended."""
    sums = {
        "episode_return_sum": sum(returns),
        "episode_length_sum": length * len(returns),
        "num_episodes": len(returns),
        "policy_loss": loss,
    }
    return {name: np.float32(value) for name, value in sums.items()}


def test_returns_against_past_selves_are_means_of_their_own_games(log_of):
    """Over all updates since the line before, and null where no such game ended."""
    log = log_of(log_every=2)
    games = [(3.0, 2.0), (-1.0, 2.0), (0.0, 0.0), (0.0, 0.0)]
    for update, (total, num) in enumerate(games, start=1):
        of_pool = {"pool_return_sum": np.float32(total), "num_pool_episodes": np.float32(num)}
        log.add(update, update_metrics([7.0]) | of_pool)
    log.flush()
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [line["pool_return"] for line in lines] == [0.5, None]
    assert [line["num_pool_episodes"] for line in lines] == [4, 0]
    assert [line["episode_return"] for line in lines] == [7.0, 7.0]
    assert "pool_return_sum" not in lines[0]


def lines(log):
    if not log.path.exists():
        return []
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def test_time_that_no_update_needed_and_memory(tmp_path, running, clock):
    readings = iter([7, 9])
    log = MetricsLog(
        tmp_path / "metrics.jsonl",
        running,
        env_steps_per_update=10,
        log_every=1,
        memory=lambda: next(readings),
    )
    for update in (1, 2):
        clock.now += 2.0
        with running.paused():
            clock.now += 3.0
        log.add(update, update_metrics())
    log.flush()
    assert [line["steps_per_second"] for line in lines(log)] == [5.0, 5.0]
    assert [line["memory_bytes"] for line in lines(log)] == [7, 9]


def test_one_line_an_update(log_of, clock):
    log = log_of()
    for update, returns in enumerate([(3.0, 5.0), (7.0,)], start=1):
        clock.now += 0.25
        log.add(update, update_metrics(returns, length=4, loss=update / 4))
    log.flush()
    assert lines(log) == [
        {
            "update": 1,
            "env_steps": 10,
            "episode_return": 4.0,
            "episode_length": 4.0,
            "num_episodes": 2,
            "policy_loss": 0.25,
            "steps_per_second": 40.0,
        },
        {
            "update": 2,
            "env_steps": 20,
            "episode_return": 7.0,
            "episode_length": 4.0,
            "num_episodes": 1,
            "policy_loss": 0.5,
            "steps_per_second": 40.0,
        },
    ]


def test_episode_figures_are_means_over_all_episodes_since_the_line_before(log_of):
    log = log_of(log_every=3)
    episodes = [(10.0,), (), (1.0, 1.0, 4.0), (8.0,), (), ()]
    for update, returns in enumerate(episodes, start=1):
        log.add(update, update_metrics(returns, length=update))
    log.flush()
    first, second = lines(log)
    assert (first["update"], first["env_steps"], second["env_steps"]) == (3, 30, 60)
    assert first["num_episodes"] == 4
    assert first["episode_return"] == 4.0  # 16 / 4, not a mean of means
    assert first["episode_length"] == (1 * 1 + 3 * 3) / 4
    assert (second["num_episodes"], second["episode_return"]) == (1, 8.0)


def test_without_an_episode_the_figures_are_null(log_of):
    log = log_of()
    log.add(1, update_metrics())
    log.flush()
    (line,) = lines(log)
    assert line["episode_return"] is None
    assert line["episode_length"] is None
    assert line["num_episodes"] == 0


def test_a_line_waits_for_the_next_one(log_of):
    log = log_of()
    log.add(1, update_metrics())
    assert lines(log) == []
    assert log.latest["update"] == 1
    log.add(2, update_metrics())
    assert [line["update"] for line in lines(log)] == [1]
    log.flush()
    log.flush()
    assert [line["update"] for line in lines(log)] == [1, 2]


def test_an_evaluation_joins_the_waiting_line(log_of):
    log = log_of()
    log.add(1, update_metrics())
    log.add(2, update_metrics())
    log.annotate({"evaluation_mean_return": 9.5})
    log.flush()
    log.add(3, update_metrics())
    log.flush()
    assert [line.get("evaluation_mean_return") for line in lines(log)] == [None, 9.5, None]
    assert "evaluation_mean_return" not in lines(log)[2]


@pytest.mark.parametrize("num_updates", [1, 3])
def test_an_evaluation_between_two_lines_gets_a_line_of_its_own(log_of, num_updates):
    log = log_of(log_every=2)
    for update in range(1, num_updates + 1):
        log.add(update, update_metrics((float(update),)))
    log.annotate({"evaluation_mean_return": 9.5})
    log.flush()
    last = lines(log)[-1]
    assert (last["update"], last["evaluation_mean_return"]) == (num_updates, 9.5)
    assert (last["num_episodes"], last["episode_return"]) == (1, num_updates)
    assert [line["update"] for line in lines(log)] == ([1] if num_updates == 1 else [2, 3])
    assert [line for line in lines(log)[:-1] if "evaluation_mean_return" in line] == []


def test_speed_counts_every_update_since_the_line_before(log_of, clock):
    log = log_of(log_every=4)
    for update in range(1, 9):
        clock.now += 0.5
        log.add(update, update_metrics())
    log.flush()
    assert [line["steps_per_second"] for line in lines(log)] == [20.0, 20.0]


def test_speed_leaves_out_what_the_stopwatch_does_not_count(log_of, running, clock):
    log = log_of()
    with running.paused():
        clock.now += 1000.0  # an evaluation
    clock.now += 2.0
    log.add(1, update_metrics())
    assert log.latest["steps_per_second"] == 5.0


def test_speed_leaves_out_the_evaluation_whose_line_it_stands_in(log_of, clock):
    log = log_of(log_every=2)
    clock.now += 0.5
    log.add(1, update_metrics())
    clock.now += 1000.0
    log.annotate({"evaluation_mean_return": 9.5})
    assert log.latest["steps_per_second"] == 20.0


def test_env_steps_are_exact_far_beyond_32_bits(log_of):
    log = log_of(env_steps_per_update=2**31 + 1)
    log.add(10**6 + 1, update_metrics())
    log.flush()
    assert type(log.latest["env_steps"]) is int
    assert lines(log)[0]["env_steps"] == (2**31 + 1) * (10**6 + 1) == 2147485796483649


def test_what_is_not_finite_becomes_null(log_of):
    log = log_of()
    log.add(1, update_metrics((math.inf,), loss=math.nan))
    log.flush()
    (line,) = lines(log)
    assert line["policy_loss"] is None
    assert line["episode_return"] is None


def test_lines_are_appended(log_of):
    for update in (1, 2):
        log = log_of()
        log.add(update, update_metrics())
        log.flush()
    assert [line["update"] for line in lines(log)] == [1, 2]


# sha256


def tree():
    return {
        "a": jnp.arange(3.0),
        "b": [jnp.int32(7), np.ones((2, 2), np.float32)],
        "key": jax.random.key(3),
    }


def test_digest_is_that_of_the_bytes_in_tree_order():
    import hashlib

    data = np.arange(3, dtype=np.float32).tobytes() + np.int32(7).tobytes()
    data += np.ones(4, np.float32).tobytes() + np.array([0, 3], np.uint32).tobytes()
    assert sha256(tree()) == sha256(tree()) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        {"a": jnp.array([0.0, 1.0, 2.0000002])},
        {"b": [jnp.int32(8), np.ones((2, 2), np.float32)]},
        {"b": [jnp.int32(7), np.array([[1, 1], [1, 0]], np.float32)]},
        {"key": jax.random.key(4)},
        {"a": jnp.arange(3.0)[::-1]},
        {"c": jnp.zeros(1)},
    ],
    ids=["ulp", "integer", "element", "key", "order", "new leaf"],
)
def test_digest_changes_with_any_leaf(changed):
    assert sha256(tree() | changed) != sha256(tree())


def test_digest_changes_when_leaves_swap_places():
    a, b = jnp.float32(1), jnp.float32(2)
    assert sha256([a, b]) != sha256([b, a])


def test_digest_of_a_key_array_sees_each_key():
    keys = jax.random.split(jax.random.key(0), 4)
    assert sha256(keys) != sha256(keys[::-1])
    assert sha256(keys) == sha256(jax.random.key_data(keys))


def test_digest_does_not_depend_on_where_the_array_lies():
    x = jnp.arange(8.0)
    spread = jax.device_put(x, jax.NamedSharding(jax.make_mesh((8,), ("data",)), jax.P("data")))
    assert len(spread.devices()) == 8
    assert sha256({"x": spread}) == sha256({"x": x})
    transposed = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert sha256([transposed]) == sha256([np.arange(6.0)])


# Files
