"""`experiments/benchmark.py`: every mode in its smoke form, and the arithmetic behind it."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl import ConfigError
from jaxdrl.config.algorithms import ALGORITHMS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCRIPT = EXPERIMENTS / "benchmark.py"


@pytest.fixture(scope="module")
def bench():
    """The modules whose functions are tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        from benchmarks import cases, figures, hlo, peer_brax, rates, scaling, tasks, textbook

        yield SimpleNamespace(
            cases=cases,
            figures=figures,
            hlo=hlo,
            peer_brax=peer_brax,
            rates=rates,
            scaling=scaling,
            tasks=tasks,
            textbook=textbook,
        )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Runs a mode in its smoke form: what its JSON file holds and what it printed."""
    directory = tmp_path_factory.mktemp("benchmark")
    settings = {
        # Several modes have the same programs.
        "JAX_COMPILATION_CACHE_DIR": str(directory / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

    def run(mode, *flags):
        file = directory / f"{mode}.json"
        command = [sys.executable, str(SCRIPT), mode, "--smoke", "--json", str(file), *flags]
        done = subprocess.run(
            command, env=os.environ | settings, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        content = json.loads(file.read_text())
        assert content["mode"] == mode
        assert content["machine"]["cores"] >= 1
        assert {"python", "jax", "jaxlib", "flax", "optax", "gymnax", "jaxdrl"} <= set(
            content["versions"]
        )
        return content["result"], done.stdout

    return run


def is_spread(figures):
    return 0 < figures["min"] <= figures["median"] <= figures["max"]


# The modes.


def test_throughput_compares_speeds_round_by_round(smoke):
    result, printed = smoke("throughput")
    (case,) = result.values()
    ours, theirs = case["trainers"]["jaxdrl"], case["trainers"]["textbook"]
    for trainer in (ours, theirs):
        assert is_spread(trainer["speed"])
        assert trainer["compile_seconds"] > 0
        assert trainer["versions"]["jax"] == jax.__version__
        for run, speed in zip(trainer["runs"], trainer["speeds"], strict=True):
            assert run["env_steps"] == 256
            assert speed == pytest.approx(256 / run["seconds"])
    rounds = [a / b for a, b in zip(ours["speeds"], theirs["speeds"], strict=True)]
    assert case["best"] == "jaxdrl"
    ratio = case["ratios"]["textbook"]
    assert ratio["median"] == pytest.approx(np.median(rounds))
    assert (ratio["min"], ratio["max"]) == pytest.approx((min(rounds), max(rounds)))
    assert "textbook" in printed


def test_breakdown_gives_each_stage_its_share_and_its_limit(smoke):
    result, printed = smoke("breakdown")
    names = ("environment", "policy", "advantages", "shuffle and gather", "gradients", "optimiser")
    assert tuple(result["stages"]) == names
    whole = result["whole"]["median"]
    for stage in result["stages"].values():
        assert is_spread(stage["seconds"])
        assert stage["share"] == pytest.approx(stage["seconds"]["median"] / whole)
        assert stage["reached"] == pytest.approx(
            stage["limit_seconds"] / stage["seconds"]["median"]
        )
        assert stage["bytes"] > 0
    total = sum(stage["seconds"]["median"] for stage in result["stages"].values())
    assert result["remainder_seconds"] == pytest.approx(whole - total)
    assert result["fraction_of_product_limit"] == pytest.approx(result["product_seconds"] / whole)
    # 16 observations, 8 units, 2 logits; 8 steps of 16; 4 gradient steps of 64.
    forward = 2 * (2 * 16 * 8 + 8 * 2 + 8 * 1)
    back_to_inputs = 2 * (8 * 2 + 8 * 1)
    assert result["stages"]["policy"]["flops"] == 8 * 16 * forward
    assert result["stages"]["gradients"]["flops"] == 4 * 64 * (2 * forward + back_to_inputs)
    assert "matrix-product limit" in printed


def test_scaling_counts_what_is_sent_and_predicts_from_it(smoke):
    result, printed = smoke("scaling")
    one, two = result["measured"]["strong"]
    assert (one["devices"], two["devices"]) == (1, 2)
    assert one["collectives"]["count"] == {}
    # A gradient step 1, an epoch 2, an update 2 (test_ppo.py).
    assert two["collectives"]["count"]["all-reduce"] == 2 * 2 + 2 * 2 + 2
    assert two["collectives"]["bytes"]["all-reduce"] > 4 * 4 * (2 * 16 * 8)  # the first layers'
    assert two["collectives"]["is_exact"]
    gain = np.divide(two["speeds"], one["speeds"])
    assert two["efficiency"]["median"] == pytest.approx(np.median(gain) / 2)
    predicted = result["predicted"]["strong"]
    alone = np.median(one["update_seconds"]) / 8
    assert predicted["computing_seconds"] == pytest.approx(alone)
    assert predicted["efficiency"] == pytest.approx(
        alone / (alone + predicted["collective_seconds"])
    )
    assert "simulated" in printed


def test_envs_sets_the_peak_beside_a_formula_and_early_beside_late(smoke, tmp_path):
    picture = tmp_path / "envs.png"
    result, _ = smoke("envs", "--plot", str(picture))
    (size,) = result["sizes"]
    assert result["stopped"] is None
    assert is_spread(size["speed"])
    needed = size["needed_bytes"]
    assert needed["activations"] == 4 * 64 * (16 + 2 * 8 + 2 + 1)
    # obs, action, seven numbers of four bytes, three flags
    assert needed["rollout"] == 8 * 16 * (16 * 4 + 4 + 7 * 4 + 3)
    assert size["peak_over_needed"] == pytest.approx(size["peak_bytes"] / sum(needed.values()))
    early, late = result["long"]["early"], result["long"]["late"]
    assert early["live_bytes"] == late["live_bytes"] > 0
    assert min(early["speed"], late["speed"]) > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_reset_compares_the_kinds_and_whole_training(smoke):
    result, _ = smoke("reset")
    stepping = result["stepping"]["Costly"]
    assert all(is_spread(stepping["speed"][kind]) for kind in ("all", "due", "none"))
    rounds = np.divide(stepping["speeds"]["due"], stepping["speeds"]["all"])
    assert stepping["due_over_all"]["median"] == pytest.approx(np.median(rounds))
    assert result["reset_cost"]["ratio"] > 1
    assert is_spread(result["training"]["ratios"]["textbook"])


@pytest.mark.slow
def test_overheads_compare_updates_with_and_without(smoke):
    result, printed = smoke("overheads")
    measured = result["steps"]["tiny"]
    assert set(measured["ratios"]) == {"bootstrap at time limits", "guard against bad numbers"}
    rounds = np.divide(measured["times"]["nothing"], measured["times"]["guard against bad numbers"])
    median = measured["ratios"]["guard against bad numbers"]["median"]
    assert median == pytest.approx(np.median(rounds))
    assert is_spread(result["run"]["ratio"])
    assert is_spread(result["tracked"]["ratio"])
    assert "metrics, progress and files" in printed


def test_members_do_the_work_of_one_agent_with_all_their_environments(bench):
    from benchmarks import population

    mode = population.Population(members=4, num_envs=16, num_steps=8, env_steps=5 * 4 * 16 * 8)
    case = bench.cases.Case("CartPole-v1", mode.num_envs, mode.num_steps)
    found = population.jobs(mode, case)
    assert set(found) == {
        *("members", "one agent", "members, 2 devices", "one agent, 2 devices", "rejax")
    }
    assert {(job.updates, job.env_steps) for job in found.values()} == {(5, 4 * 16 * 8)}
    assert [job.members for job in found.values()] == [4, 0, 4, 0, 4]


@pytest.mark.slow
def test_population_counts_the_steps_of_all_members(smoke):
    result, printed = smoke("population")
    assert set(result["trainers"]) == {"members", "one agent"}
    steps = {name: t["runs"][0]["env_steps"] for name, t in result["trainers"].items()}
    assert steps["members"] == steps["one agent"] == 2 * 16 * 8
    assert "2 members of CartPole-v1, 16 environments x 8 steps each" in printed


@pytest.mark.slow
def test_recurrent_compares_networks_of_as_many_multiplications(bench, smoke):
    from benchmarks import recurrent
    from benchmarks.cases import CASES

    result, printed = smoke("recurrent")
    assert list(result["ratios"]) == ["GRU, 8 steps", "GRU, 4 steps"]
    assert all(is_spread(ratio) for ratio in result["ratios"].values())
    assert "over that of the MLP" in printed

    def num_products(config):
        env = jaxdrl.make("CartPole-v1")
        state = jax.eval_shape(jaxdrl.ppo(env, config).init, jax.random.key(0))
        return sum(p.size for p in jax.tree.leaves(state.learner.params) if len(p.shape) == 2)

    counts = {
        name: num_products(config)
        for name, config in recurrent.configs(recurrent.Recurrent(), CASES["cartpole-256"]).items()
    }
    assert len(counts) == 4
    assert len(set(counts.values())) == 1


@pytest.mark.slow
def test_asynchronous_compares_runs_and_measures_an_actor_alone(smoke):
    result, printed = smoke("asynchronous")
    (case,) = result["training"].values()
    assert set(case["trainers"]) == {"asynchronous", "synchronous"}
    for trainer in case["trainers"].values():
        for run, speed in zip(trainer["runs"], trainer["speeds"], strict=True):
            assert run["env_steps"] == 2 * 16 * 8
            assert speed == pytest.approx(run["env_steps"] / run["seconds"])
            assert run["cpu_seconds"] > 0
            assert 0 <= run["means"]["learner_idle_share"] <= 1
        assert is_spread(trainer["cpu"])
    ours, theirs = (case["trainers"][name]["speeds"] for name in ("asynchronous", "synchronous"))
    ratio = case["ratios"]["synchronous"]["median"]
    assert ratio == pytest.approx(np.median(np.divide(ours, theirs)))
    (acting,) = result["acting"].values()
    assert [run["env_steps"] for run in acting["runs"]] == [2 * 8 * 8] * 2
    assert is_spread(acting["cpu"])
    assert "an actor alone" in printed


@pytest.mark.slow
def test_algorithms_compare_speeds_on_the_same_work(smoke):
    """In updates of one step in one program, as the peers have them, and in longer ones."""
    result, printed = smoke("algorithms")
    trainers = result["dqn"]["trainers"]
    assert set(trainers) == {"jaxdrl", "jaxdrl, 16 steps an update"}
    for trainer in trainers.values():
        assert is_spread(trainer["speed"])
        for run, speed in zip(trainer["runs"], trainer["speeds"], strict=True):
            assert run["env_steps"] == 320
            assert speed == pytest.approx(320 / run["seconds"])
    assert "dqn: CartPole-v1, 10 environments x 1" in printed


def test_the_work_of_an_algorithm_is_that_of_its_case(bench):
    """By the settings that jaxdrl takes for it, in short updates and in long ones."""
    from benchmarks import algorithms

    mode = algorithms.Algorithms(peers=(), devices=(1,))
    known = [name for name in algorithms.RUN_STEPS if name in ALGORITHMS]
    assert known
    for algorithm in known:
        for job in algorithms.jobs(mode, algorithm).values():
            assert bench.cases.from_json(bench.cases.to_json(job)) == job
            config = bench.tasks.config_of(job.case, job.num_shards)
            assert isinstance(config, ALGORITHMS[algorithm])
            assert config.env_steps_per_update == job.env_steps
            assert config.network.hidden_sizes == job.case.hidden_sizes
            env_steps = job.updates * job.env_steps
            assert env_steps >= max(
                job.case.learning_starts, 0.95 * algorithms.RUN_STEPS[algorithm]
            )
            gradient_steps = job.updates * job.case.gradient_steps
            if algorithm == "pqn":
                assert config.num_epochs * config.num_minibatches == job.case.gradient_steps
            else:
                assert config.num_gradient_steps == job.case.gradient_steps
                assert gradient_steps / env_steps == (0.5 if algorithm == "dqn" else 1.0)
                assert config.batch_size == job.case.minibatch_size


def test_runs_rest_and_do_not_count_the_updates_after(bench, monkeypatch):
    """While a run rests its actors collect what they can, which would count as speed."""
    from benchmarks import runner

    said, wanted = [], iter([True, True, False])
    monkeypatch.setattr(runner.serving, "say", lambda channel, line: said.append(line))
    monkeypatch.setattr(runner.serving, "wait_for_run", lambda: next(wanted))
    case = bench.cases.Case("gymnasium/CartPole-v1", 4, 8)
    turns = runner.Turns(None, bench.cases.Job("run", case, updates=3))
    each = runner.WARM_UP + 3
    with pytest.raises(SystemExit):
        for update in range(1, 2 + 2 * each):
            in_warm_up = update > 1 and (update - 2) % each < runner.WARM_UP
            turns(update, {"seconds_learning": 1e6 if in_warm_up else 2.0})
    ready, *measured = said
    assert ready["num_devices"] >= 1
    assert [line["env_steps"] for line in measured] == [3 * 4 * 8] * 2
    assert [line["means"] for line in measured] == [{"seconds_learning": pytest.approx(2.0)}] * 2


def test_what_is_left_out_is_really_left_out(bench):
    """Else its cost would be measured as nothing."""
    from benchmarks import overheads

    env = jaxdrl.make("Pendulum-v1", max_steps_in_episode=3)
    agent = jaxdrl.ppo(
        env, jaxdrl.with_settings(jaxdrl.PPOConfig(), num_envs=8, num_steps=4, hidden_sizes=(8,))
    )
    init = jax.jit(agent.init)
    state = init(jax.random.key(0))
    _, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
    with overheads.no_bootstrap():
        state = init(jax.random.key(0))
        _, without = jax.jit(lambda *parts: agent.rollout(*parts))(state.learner, state.actor)
    ends = np.asarray(trajectory.truncated)
    assert ends.any()
    assert (np.asarray(without.next_value)[ends] == 0).all()
    assert (np.asarray(trajectory.next_value)[ends] != 0).all()

    def branches(step):
        return str(jax.make_jaxpr(step)(init(jax.random.key(0)))).count("= cond[")

    before = branches(agent.train_step)
    with overheads.no_guard():
        # The guard, and in it the choice of how the new numbers are tested.
        assert branches(lambda state: agent.train_step(state)) == before - 2


def test_a_picture_without_matplotlib_is_refused_with_what_installs_it(bench, monkeypatch):
    from benchmarks import plot

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        plot.check()


# The arithmetic.


def test_ratios_are_taken_round_by_round(bench):
    """A round that is slow for both says nothing of either."""
    found = bench.figures.ratios([2.0, 30.0, 8.0], [1.0, 10.0, 2.0])
    assert found == {"median": 3.0, "min": 2.0, "max": 4.0}
    assert bench.figures.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


HLO = """\
HloModule jit_step

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%gradient (carry: (s32[], f32[100])) -> (s32[], f32[100]) {
  %r = f32[100]{0} all-reduce(%g), channel_id=1, to_apply=%add
  ROOT %out = (s32[], f32[100]{0}) tuple(%i, %r)
}

%epoch (carry: (s32[], f32[100])) -> (s32[], f32[100]) {
  %m = (f32[2]{0}, bf16[3]{0}) all-reduce(%a, %b), channel_id=2, to_apply=%add
  ROOT %w = (s32[], f32[100]{0}) while(%t), condition=%c, body=%gradient, \
backend_config={"known_trip_count":{"n":"4"}}
}

%unknown (carry: (s32[])) -> (s32[]) {
  ROOT %n = s32[] add(%i, %i)
}

%sends (x: f32[8]) -> f32[8] {
  ROOT %p = f32[8]{0} collective-permute(%x), channel_id=3
}

%rests (x: f32[8]) -> f32[8] {
  ROOT %x = f32[8]{0} parameter(0)
}

ENTRY %main (state: f32[100]) -> f32[100] {
  %w = (s32[], f32[100]{0}) while(%t), condition=%c, body=%epoch, \
backend_config={"known_trip_count":{"n":"3"}}
  %u = (s32[]) while(%t), condition=%c, body=%unknown
  %c = f32[8]{0} conditional(%p, %x, %x), branch_computations={%rests, %sends}
  %s = (f32[4]{0}, pred[8,2]{1,0}) all-gather-start(%y), channel_id=4
  ROOT %d = pred[8,2]{1,0} all-gather-done(%s)
}
"""


def test_collectives_are_counted_as_often_as_their_loops_run(bench):
    found = bench.hlo.count_collectives(HLO)
    assert found.count == {"all-reduce": 3 * 4 + 3, "collective-permute": 1, "all-gather": 1}
    assert found.bytes == {
        "all-reduce": 12 * 400 + 3 * (8 + 6),
        "collective-permute": 32,
        "all-gather": 16,
    }
    assert found.is_exact
    unknown = HLO.replace('backend_config={"known_trip_count":{"n":"3"}}', "")
    assert not bench.hlo.count_collectives(unknown).is_exact


def test_seconds_of_collectives_are_those_of_a_ring(bench):
    sent = {
        "count": {"all-reduce": 2, "all-gather": 1},
        "bytes": {"all-reduce": 8, "all-gather": 4},
    }
    found = bench.scaling.collective_seconds(sent, 4, bytes_per_second=2.0, latency=1.0)
    assert found == pytest.approx(3 * 1.0 + (2 * 8 + 4) * 0.75 / 2.0)


def test_operations_by_formula_are_those_that_xla_counts(bench):
    """For the forward products of two layers, and for all products of their gradient."""
    sizes = [(3, 8), (8, 2)]
    x, y, z = jnp.ones((5, 3)), jnp.ones((3, 8)), jnp.ones((8, 2))

    def chain(weights):
        return x @ weights[0] @ weights[1]

    def chain_gradient(weights, cotangent):
        _, pull = jax.vjp(chain, weights)
        return chain(weights), pull(cotangent)

    forward = bench.rates.forward_products(sizes, 5)
    expected = sum(bench.rates.product_flops(product) for product in forward)
    assert expected == 2 * 5 * (3 * 8 + 8 * 2)
    assert bench.rates.counted_flops(chain, (y, z)) == expected
    all_products = bench.rates.gradient_products(sizes, 5, obs_size=3)
    products = [product for kind in all_products.values() for product in kind]
    compiled = jax.jit(chain_gradient).lower((y, z), jnp.ones((5, 2))).compile()
    counted = compiled.cost_analysis()["flops"]
    assert sum(bench.rates.product_flops(product) for product in products) == counted


@pytest.mark.parametrize("kind", ["forward", "weights", "inputs"])
def test_the_time_of_a_product_grows_with_it(bench, kind):
    """A product that the compiler took out of the loop would take no time."""
    times = [
        bench.rates.time_product(
            bench.rates.Product(size, size, size), kind, repetitions=3, seconds=0.002
        )
        for size in (32, 256)
    ]
    assert times[1] > 10 * times[0] > 0


# The peers.


@pytest.fixture
def default_modes():
    """JAX as the peers know it."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_key_reuse(False),
    ):
        yield


def test_advantages_of_the_textbook_are_those_of_a_loop(bench, default_modes):
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, 6, 3))
    done, last_value = rng.random((6, 3)) < 0.3, rng.normal(size=3)
    expected, following, next_value = np.zeros((6, 3)), np.zeros(3), last_value
    for t in reversed(range(6)):
        delta = reward[t] + bench.cases.GAMMA * next_value * ~done[t] - value[t]
        following = delta + bench.cases.GAMMA * bench.cases.GAE_LAMBDA * ~done[t] * following
        expected[t], next_value = following, value[t]
    as_jax = (jnp.asarray(x, jnp.float32) for x in (reward, value, done, last_value))
    np.testing.assert_allclose(bench.textbook.gae(*as_jax), expected, rtol=1e-5, atol=1e-6)


def test_moments_of_the_textbook_are_those_of_everything_seen(bench, default_modes):
    batches = np.random.default_rng(1).normal(3.0, 2.0, size=(5, 4, 2)).astype(np.float32)
    moments = bench.textbook.Moments(1e-4, jnp.zeros(2), jnp.ones(2))
    for batch in batches:
        moments = bench.textbook.add(moments, jnp.asarray(batch))
    seen = batches.reshape(-1, 2)
    np.testing.assert_allclose(moments.mean, seen.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(moments.variance, seen.var(axis=0), rtol=1e-3)


def test_log_prob_and_entropy_of_the_textbook(bench, default_modes):
    mean, log_std = jnp.array([[0.5, -1.0]]), jnp.array([0.2, -0.3])
    action = jnp.array([[1.0, 0.0]])
    task = bench.textbook.Task(None, None, 2, (-1.0, 1.0))
    log_prob, entropy = bench.textbook.log_prob_and_entropy(task, mean, log_std, action)
    std = np.exp([0.2, -0.3])
    density = np.exp(-0.5 * (np.array([0.5, 1.0]) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    assert log_prob[0] == pytest.approx(np.log(density).sum(), rel=1e-5)
    assert entropy[0] == pytest.approx(0.5 * np.log(2 * math.pi * math.e * std**2).sum(), rel=1e-5)
    discrete = task._replace(bounds=None)
    logits, chosen = jnp.log(jnp.array([[0.2, 0.8]])), jnp.array([1])
    log_prob, entropy = bench.textbook.log_prob_and_entropy(discrete, logits, log_std, chosen)
    assert log_prob[0] == pytest.approx(math.log(0.8), rel=1e-5)
    expected = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert entropy[0] == pytest.approx(expected, rel=1e-5)


def test_the_textbook_learns_cartpole(bench, default_modes):
    case = bench.cases.Case("CartPole-v1", 32, 64, hidden_sizes=(32,))
    init, update = bench.textbook.make(bench.tasks.make_task(case), case, learning_rate=3e-3)
    state = jax.jit(init)(jax.random.key(0))
    step = jax.jit(update)
    metrics = []
    for _ in range(20):
        state, sums = step(state)
        metrics.append(sums)
    late = jax.tree.map(lambda *x: sum(x), *metrics[10:])
    assert late["episode_return_sum"] / late["num_episodes"] > 100


def test_the_pendulum_for_brax_moves_as_that_of_gymnax(bench, default_modes):
    import gymnax

    env, params = gymnax.make("Pendulum-v1")
    keys = jax.random.split(jax.random.key(0), 20)
    _, states = jax.vmap(env.reset, in_axes=(0, None))(keys, params)
    torques = jnp.linspace(-3.0, 3.0, 20)[:, None]
    step = jax.vmap(env.step_env, in_axes=(0, 0, 0, None))
    _, after, reward, _, _ = step(keys, states, torques, params)
    ours = jax.vmap(bench.peer_brax.pendulum_step)
    moved, our_reward = ours(states.theta, states.theta_dot, torques[:, 0])
    np.testing.assert_allclose(moved[:, 0], after.theta, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved[:, 1], after.theta_dot, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(our_reward, reward, rtol=1e-5, atol=1e-6)
