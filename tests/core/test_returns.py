"""Returns against their definitions, written as plain loops over one environment at a time."""

from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from jaxdrl.core import returns

LENGTHS = (1, 6)
NUM_ENVS = 2
jitted = {
    "gae": jax.jit(returns.gae),
    "lambda_returns": jax.jit(returns.lambda_returns),
    "n_step_returns": jax.jit(returns.n_step_returns, static_argnames="n"),
    "vtrace": jax.jit(returns.vtrace),
}


def random_batch(seed, ends, consistent=False):
    """Arrays `[T, N]`; `ends` holds "terminated", "truncated" or "" for each step of each."""
    rng = np.random.default_rng(seed)
    ends = np.asarray(ends).reshape(-1, NUM_ENVS)
    names = ("reward", "value", "next_value", "log_rho")
    batch = {name: rng.normal(size=ends.shape).astype(np.float32) for name in names}
    batch |= {"terminated": ends == "terminated", "truncated": ends == "truncated"}
    if consistent:  # inside an episode the next value is the next step's value
        inside = ends[:-1] == ""
        batch["next_value"][:-1][inside] = batch["value"][1:][inside]
    return batch


@st.composite
def batches(draw, consistent=False):
    length = NUM_ENVS * draw(st.sampled_from(LENGTHS))
    end = st.sampled_from(["", "", "terminated", "truncated"])
    ends = draw(st.lists(end, min_size=length, max_size=length))
    return random_batch(draw(st.integers(0, 2**32 - 1)), ends, consistent)


unit = st.floats(0.0, 1.0, width=32)
examples = hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)


def arguments(batch, *names):
    return [batch[name] for name in names]


GAE = ("reward", "value", "next_value", "terminated", "truncated")
RETURNS = ("reward", "next_value", "terminated", "truncated")
VTRACE = (*GAE, "log_rho")
INPUTS = {"gae": GAE, "lambda_returns": RETURNS, "n_step_returns": RETURNS, "vtrace": VTRACE}
OPTIONS = {
    "gae": {"gamma": 0.9, "gae_lambda": 0.9},
    "lambda_returns": {"gamma": 0.9, "lambda_": 0.9},
    "n_step_returns": {"gamma": 0.9, "n": 3},
    "vtrace": {"gamma": 0.9},
}


def evaluate(name, batch, **options):
    return jitted[name](*arguments(batch, *INPUTS[name]), **options)


def close(actual, expected, tolerance=1e-4):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# The definitions, in float64, for one environment: sums forward in time, not recursions.


def columns(definition):
    """Apply a definition for one environment to each; arrays [T] as attributes of `e`."""

    def of_batch(batch, **options):
        results = []
        for i in range(NUM_ENVS):
            episode = {name: array[:, i].astype(np.float64) for name, array in batch.items()}
            results.append(definition(episode, **options))
        return np.stack(results, axis=-1)

    return of_batch


def last_of_segment(e, t):
    """The step at which a return from `t` stops: an episode's end, or the array's."""
    while t < len(e["reward"]) - 1 and not e["terminated"][t] and not e["truncated"][t]:
        t += 1
    return t


def deltas(e, gamma):
    following = np.where(e["terminated"], 0.0, e["next_value"])
    return e["reward"] + gamma * following - e["value"]


def n_step_from(e, t, gamma, n):
    total = 0.0
    for k in range(n):
        total += gamma**k * e["reward"][t + k]
        if e["terminated"][t + k]:
            return total
        if k == n - 1 or t + k == last_of_segment(e, t):
            return total + gamma ** (k + 1) * e["next_value"][t + k]
    raise AssertionError


@columns
def n_step_definition(e, *, gamma, n):
    return [n_step_from(e, t, gamma, n) for t in range(len(e["reward"]))]


@columns
def gae_definition(e, *, gamma, gae_lambda):
    delta = deltas(e, gamma)
    return [
        sum((gamma * gae_lambda) ** (k - t) * delta[k] for k in range(t, last_of_segment(e, t) + 1))
        for t in range(len(delta))
    ]


@columns
def lambda_definition(e, *, gamma, lambda_):
    result = []
    for t in range(len(e["reward"])):
        longest = last_of_segment(e, t) - t + 1
        weights = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, longest)]
        weights.append(lambda_ ** (longest - 1))
        result.append(sum(w * n_step_from(e, t, gamma, n) for n, w in enumerate(weights, start=1)))
    return result


def vtrace_targets(e, gamma, lambda_, clip_rho, clip_c):
    rho = np.minimum(np.exp(e["log_rho"]), clip_rho)
    c = lambda_ * np.minimum(np.exp(e["log_rho"]), clip_c)
    delta = rho * deltas(e, gamma)
    targets = []
    for s in range(len(delta)):
        steps = range(s, last_of_segment(e, s) + 1)
        targets.append(
            e["value"][s] + sum(gamma ** (t - s) * np.prod(c[s:t]) * delta[t] for t in steps)
        )
    return np.array(targets)


@columns
def vtrace_definition(e, *, gamma, lambda_, clip_rho, clip_c, clip_pg_rho):
    targets = vtrace_targets(e, gamma, lambda_, clip_rho, clip_c)
    advantages = []
    for t in range(len(targets)):
        following = e["next_value"][t]
        if t != last_of_segment(e, t):
            following = (1 - lambda_) * following + lambda_ * targets[t + 1]
        bootstrap = 0.0 if e["terminated"][t] else gamma * following
        advantages.append(e["reward"][t] + bootstrap - e["value"][t])
    weights = np.minimum(np.exp(e["log_rho"]), clip_pg_rho)
    return np.stack([targets, advantages, weights * advantages])


@examples
@hypothesis.given(batches(), unit, unit)
def test_gae_is_the_sum_of_discounted_errors(batch, gamma, gae_lambda):
    options = {"gamma": gamma, "gae_lambda": gae_lambda}
    close(evaluate("gae", batch, **options), gae_definition(batch, **options))


@examples
@hypothesis.given(batches(), unit, unit)
def test_lambda_return_is_the_mixture_of_n_step_returns(batch, gamma, lambda_):
    options = {"gamma": gamma, "lambda_": lambda_}
    close(evaluate("lambda_returns", batch, **options), lambda_definition(batch, **options))


@examples
@hypothesis.given(batches(), unit, st.sampled_from([1, 2, 3, 20]))
@hypothesis.example(random_batch(0, [""] * 12), 0.9, 20)  # as long as it gets
def test_n_step_return_sums_n_rewards(batch, gamma, n):
    options = {"gamma": gamma, "n": n}
    close(evaluate("n_step_returns", batch, **options), n_step_definition(batch, **options))


@examples
@hypothesis.given(batches(), unit, unit, *[st.floats(0.0, 3.0, width=32)] * 3)
def test_vtrace_is_equation_1_of_the_paper(batch, gamma, lambda_, clip_rho, clip_c, clip_pg_rho):
    options = {
        "gamma": gamma,
        "lambda_": lambda_,
        "clip_rho": clip_rho,
        "clip_c": clip_c,
        "clip_pg_rho": clip_pg_rho,
    }
    result = evaluate("vtrace", batch, **options)
    close(jnp.stack(result), vtrace_definition(batch, **options))


@pytest.mark.parametrize("function", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_worked_by_hand(function):
    # Step 1 terminates (its next value, 10, must not count), step 2 is truncated, step 3 is last.
    reward = jnp.array([1.0, 2.0, 3.0, 4.0])
    value = jnp.array([0.5, 1.0, 1.5, 2.0])
    next_value = jnp.array([1.0, 10.0, 2.0, 3.0])
    terminated = jnp.array([False, True, False, False])
    truncated = jnp.array([False, False, True, False])
    ends = (terminated, truncated)

    # delta = [1 + 0.5 - 0.5, 2 - 1, 3 + 1 - 1.5, 4 + 1.5 - 2] = [1, 1, 2.5, 3.5]
    gae = function(partial(returns.gae, gamma=0.5, gae_lambda=0.5))
    close(gae(reward, value, next_value, *ends), [1.0 + 0.25 * 1.0, 1.0, 2.5, 3.5])
    # G_0 = 1 + 0.5 (0.5 x 1 + 0.5 G_1)
    lambda_returns = function(partial(returns.lambda_returns, gamma=0.5, lambda_=0.5))
    close(lambda_returns(reward, next_value, *ends), [1.75, 2.0, 4.0, 5.5])
    one_step = function(partial(returns.n_step_returns, gamma=0.5, n=1))
    close(one_step(reward, next_value, *ends), [1.5, 2.0, 4.0, 5.5])
    three_step = function(partial(returns.n_step_returns, gamma=0.5, n=3))
    close(three_step(reward, next_value, *ends), [2.0, 2.0, 4.0, 5.5])
    # Clipped ratios [1, 0.5, 1, 0.5]; vs - V = [1 + 0.5 x 1 x 0.5, 0.5 x 1, 2.5, 0.5 x 3.5]
    vtrace = function(partial(returns.vtrace, gamma=0.5))
    log_rho = jnp.array(np.log([2.0, 0.5, 2.0, 0.5]), jnp.float32)
    targets, advantage, pg_advantage = vtrace(reward, value, next_value, *ends, log_rho)
    close(targets, [1.75, 1.5, 4.0, 3.75])
    # A_0 = 1 (1 + 0.5 x 1.5 - 0.5), A_1 = 0.5 (2 - 1), A_3 = 0.5 (4 + 0.5 x 3 - 2)
    close(advantage, [1.25, 1.0, 2.5, 3.5])
    close(pg_advantage, [1.25, 0.5, 2.5, 1.75])


@examples
@hypothesis.given(batches(consistent=True), unit, unit)
def test_identities(batch, gamma, lambda_):
    on_policy = batch | {"log_rho": np.zeros_like(batch["log_rho"])}
    length, value = len(batch["reward"]), batch["value"]
    of = {name: partial(function, gamma=gamma) for name, function in jitted.items()}
    inputs = {name: arguments(on_policy, *INPUTS[name]) for name in INPUTS}

    one_step = of["n_step_returns"](*inputs["n_step_returns"], n=1)
    longest = of["n_step_returns"](*inputs["n_step_returns"], n=length)
    mixed = of["lambda_returns"](*inputs["lambda_returns"], lambda_=lambda_)
    close(of["lambda_returns"](*inputs["lambda_returns"], lambda_=0.0), one_step)
    close(of["lambda_returns"](*inputs["lambda_returns"], lambda_=1.0), longest)
    close(of["gae"](*inputs["gae"], gae_lambda=lambda_) + value, mixed)
    on_policy = of["vtrace"](*inputs["vtrace"], lambda_=1.0)
    close(on_policy.targets, longest)
    close(on_policy.pg_advantage, longest - value)
    on_policy = of["vtrace"](*inputs["vtrace"], lambda_=lambda_)
    close(on_policy.targets, mixed)
    close(on_policy.advantage, mixed - value)


@examples
@hypothesis.given(batches(), st.sampled_from(sorted(INPUTS)))
def test_nothing_passes_an_end(batch, name):
    """What follows an end, and the value after a termination, may be NaN."""
    clean = jax.tree.leaves(jitted[name](*arguments(batch, *INPUTS[name]), **OPTIONS[name]))
    ends = batch["terminated"] | batch["truncated"]
    dirty = {key: array.copy() for key, array in batch.items()}
    dirty["next_value"][batch["terminated"]] = np.nan
    after_first_end = np.cumsum(ends, axis=0) - ends > 0
    for key in ("reward", "value", "next_value", "log_rho"):
        dirty[key][after_first_end] = np.nan
    spoiled = jax.tree.leaves(jitted[name](*arguments(dirty, *INPUTS[name]), **OPTIONS[name]))
    for expected, actual in zip(clean, spoiled, strict=True):
        keep = ~after_first_end
        np.testing.assert_array_equal(np.asarray(actual)[keep], np.asarray(expected)[keep])


def test_vtrace_without_clipping_and_with_none_let_through():
    batch = random_batch(0, ["", "", "terminated", "", "truncated", "", "", "", "", "", "", ""])
    clips = ("clip_rho", "clip_c", "clip_pg_rho")
    inputs = arguments(batch, *VTRACE)
    unclipped = jax.jit(partial(returns.vtrace, **OPTIONS["vtrace"], **dict.fromkeys(clips)))
    wide = evaluate("vtrace", batch, **OPTIONS["vtrace"], **dict.fromkeys(clips, 1e9))
    jax.tree.map(close, unclipped(*inputs), wide)
    nothing = evaluate("vtrace", batch, **OPTIONS["vtrace"], **dict.fromkeys(clips, 0.0))
    close(nothing.targets, batch["value"])
    close(nothing.pg_advantage, np.zeros_like(batch["value"]))


@pytest.mark.parametrize("name", INPUTS)
def test_gradients(name):
    batch = random_batch(1, ["", "", "terminated", "", "", "truncated", "", ""])
    # Clipping has no derivative at its edge.
    unclipped = {"clip_rho": None, "clip_c": None, "clip_pg_rho": None} if name == "vtrace" else {}
    flags = {key: x for key, x in batch.items() if x.dtype == bool}
    floats = {key: x for key, x in batch.items() if key in INPUTS[name] and key not in flags}

    @jax.jit
    def of_floats(gamma, floats):
        inputs = arguments(floats | flags, *INPUTS[name])
        return getattr(returns, name)(*inputs, **OPTIONS[name] | {"gamma": gamma} | unclipped)

    primals = (np.float32(0.9), floats)
    check_grads(of_floats, primals, order=1, modes=["rev"], eps=1e-2, rtol=2e-2, atol=2e-2)


def test_gradient_is_finite_where_the_value_after_a_termination_is_not():
    one, no, ended = np.ones(2, np.float32), np.zeros(2, bool), np.array([False, True])

    @jax.grad
    def slope(next_value):
        return returns.gae(one, one, next_value, ended, no, gamma=0.9, gae_lambda=0.9).sum()

    close(jax.jit(slope)(np.array([1.0, np.nan], np.float32)), [0.9, 0.0])


@pytest.mark.parametrize("name", INPUTS)
def test_devices_and_vmap_agree_with_one_call(name):
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("env",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = random_batch(2, np.tile(["", "terminated", "truncated", ""], 4 * len(devices)))
    inputs = [x.reshape(4, -1) for x in arguments(batch, *INPUTS[name])]  # [T, N]
    expected = jitted[name](*inputs, **OPTIONS[name])

    def of_gamma(gamma, *inputs):
        return getattr(returns, name)(*inputs, **OPTIONS[name] | {"gamma": gamma})

    by_env = P(None, "env")
    in_specs = (P(), *[by_env] * len(inputs))
    # check_vma is on: a loop whose carry changes its type over the devices does not trace.
    shards = jax.shard_map(of_gamma, mesh=mesh, in_specs=in_specs, out_specs=by_env)
    jax.tree.map(close, jax.jit(shards)(np.float32(0.9), *inputs), expected)

    population = jax.jit(jax.vmap(of_gamma, in_axes=(0, *[None] * len(inputs))))
    results = population(np.array([0.5, 0.9], np.float32), *inputs)
    jax.tree.map(lambda x, y: close(x[1], y), jax.device_get(results), expected)
    assert not np.allclose(jax.tree.leaves(results)[0][0], jax.tree.leaves(expected)[0])


def test_more_axes_and_low_precision():
    batch = random_batch(3, ["", "terminated", "", "", "truncated", "", "", "", "", "", "", ""])
    flat = evaluate("gae", batch, **OPTIONS["gae"])
    tall = {name: x[:, None] for name, x in batch.items()}
    np.testing.assert_array_equal(evaluate("gae", tall, **OPTIONS["gae"])[:, 0], flat)
    half = {name: x.astype(jnp.bfloat16) if x.dtype != bool else x for name, x in batch.items()}
    assert jax.eval_shape(partial(evaluate, "gae", **OPTIONS["gae"]), half).dtype == jnp.bfloat16


@pytest.mark.parametrize("n", [0, -1, 2.0, True, None])
def test_refuses_n(n):
    x, no = np.ones(3, np.float32), np.zeros(3, bool)
    with pytest.raises(ValueError, match=r"n must be a Python int of at least 1.*got n="):
        returns.n_step_returns(x, x, no, no, gamma=0.9, n=n)


@pytest.mark.parametrize("name", INPUTS)
def test_refuses_wrong_shapes_and_dtypes(name):
    batch = random_batch(4, ["", "", "terminated", ""])
    names = INPUTS[name]
    function = partial(getattr(returns, name), **OPTIONS[name])
    for i, argument in enumerate(names):
        inputs = arguments(batch, *names)
        if argument != "reward":
            with pytest.raises(ValueError, match=rf"different shapes: .*\[.*\b{argument}\b.*\]"):
                function(*inputs[:i], inputs[i][:, :1], *inputs[i + 1 :])
        message = rf"has type int32 but expected .*\[input 0 is {argument}\]"
        with pytest.raises(TypeError, match=message):
            function(*inputs[:i], inputs[i].astype(np.int32), *inputs[i + 1 :])
    with pytest.raises(ValueError, match="at least one time step"):
        function(*[x[:0] for x in inputs])
