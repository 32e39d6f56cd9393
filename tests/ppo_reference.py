"""One update of PPO in NumPy, written from its definitions: the oracle of `test_ppo_reference.py`.

Float64 throughout but for the gradient of the loss, which JAX takes. What it has from jaxdrl is the
forward pass of the network and the keyed permutation; both have tests of their own.

Schulman et al. 2017, arXiv:1707.06347 (the loss), and 2016, arXiv:1506.02438 (GAE); Kingma and Ba
2015, arXiv:1412.6980 (Adam, with its epsilon outside of the root); Espeholt et al. 2018,
arXiv:1802.01561 (V-trace).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core.permutation import permutation


class Problem(NamedTuple):
    """What an update is about.

    apply: `(params, carry, x [n, ...], start [n]) -> (outputs, value [n], carry)`.
    prepare: observations `[T, N, ...]` to the tree of float64 arrays that the network takes.
    log_prob_and_entropy: `(outputs, obs, action) -> (log_prob [n], entropy [n])`.
    num_params: of the network.
    """

    apply: Any
    prepare: Any
    log_prob_and_entropy: Any
    sequence_length: int = 1


class Moments(NamedTuple):
    """Of everything seen: how many, their mean and their population variance."""

    count: float
    mean: Any
    variance: Any


def moments(statistics):
    """Those of jaxdrl's running statistics."""
    to_float64 = lambda tree: jax.tree.map(np.float64, jax.device_get(tree))  # noqa: E731
    return Moments(
        float(statistics.count), *map(to_float64, (statistics.mean, statistics.variance))
    )


def with_samples(old, samples):
    """The moments after `samples [n, ...]`, through sums of all numbers and of their squares."""

    def total(mean, variance, x):
        sums = old.count * mean + x.sum(axis=0)
        squares = old.count * (variance + mean**2) + (x**2).sum(axis=0)
        new_mean = sums / (old.count + len(x))
        return new_mean, squares / (old.count + len(x)) - new_mean**2

    pairs = jax.tree.map(total, old.mean, old.variance, samples)
    count = old.count + len(jax.tree.leaves(samples)[0])
    mean, variance = (
        jax.tree.map(lambda pair, i=i: pair[i], pairs, is_leaf=lambda x: isinstance(x, tuple))
        for i in range(2)
    )
    return Moments(count, mean, variance)


def normalized(x, moments, clip):
    """In deviations from the mean, and never more of them than `clip`."""

    def one(x, mean, variance):
        return np.clip((x - mean) / np.sqrt(variance + 1e-8), -clip, clip)

    return jax.tree.map(one, x, moments.mean, moments.variance)


def advantages(reward, value, next_value, terminated, truncated, gamma, gae_lambda):
    """GAE of one environment after the other, from its last step to its first."""
    result = np.zeros_like(reward)
    for env in range(reward.shape[1]):
        following = 0.0
        for t in reversed(range(reward.shape[0])):
            bootstrap = 0.0 if terminated[t, env] else next_value[t, env]
            error = reward[t, env] + gamma * bootstrap - value[t, env]
            if terminated[t, env] or truncated[t, env]:
                following = 0.0
            following = result[t, env] = error + gamma * gae_lambda * following
    return result


def vtrace(reward, value, next_value, terminated, truncated, ratio, config):
    """V-trace as Espeholt et al. 2018 write it, sums over products: `(advantage, target)`."""
    ended = terminated | truncated
    ended[-1] = True
    rho, c = np.minimum(ratio, config.rho_clip), np.minimum(ratio, config.c_clip)
    following = np.where(terminated, 0.0, next_value)
    difference = rho * (reward + config.gamma * following - value)
    target = value.copy()
    for s, env in np.ndindex(value.shape):
        end = s + int(np.argmax(ended[s:, env]))
        for t in range(s, end + 1):
            weight = np.prod(config.gamma * config.gae_lambda * c[s:t, env])
            target[s, env] += weight * difference[t, env]
    after = np.concatenate([target[1:], target[:1]])
    mixed = config.gae_lambda * after + (1.0 - config.gae_lambda) * next_value
    q = reward + config.gamma * np.where(terminated, 0.0, np.where(ended, next_value, mixed))
    return q - value, target


def of_learner(problem, learner, x, trajectory):
    """`(ratio, value)` of the learner's policy and the one that acted, sequence by sequence."""
    length, found = problem.sequence_length, []
    for i, begin in enumerate(range(0, len(trajectory.reward), length)):
        part = slice(begin, begin + length)
        outputs, value = replayed(
            problem,
            learner.params,
            jax.tree.map(lambda x, i=i: x[i], trajectory.carry),
            jax.tree.map(lambda x, part=part: np.float32(x[part]), x),
            trajectory.episode_start[part],
        )
        seen, action = (
            jax.tree.map(lambda x, part=part: x[part], tree)
            for tree in (trajectory.obs, trajectory.action)
        )
        log_prob, _ = problem.log_prob_and_entropy(outputs, seen, action)
        found.append((log_prob, value))
    log_prob, value = (
        np.concatenate(parts).astype(np.float64) for parts in zip(*found, strict=True)
    )
    return np.exp(log_prob - trajectory.log_prob), value


def rate_after(config, num_updates):
    """Linear from `learning_rate` to `final_learning_rate` over `anneal_env_steps`."""
    steps = num_updates * config.num_envs * config.num_steps
    share = min(steps / config.anneal_env_steps, 1.0)
    return (1.0 - share) * config.learning_rate + share * config.final_learning_rate


def minibatches(config, key, sequence_length):
    """Where the rows of each minibatch of an epoch begin: `(steps, environments)`, each `[rows]`.

    The rows of a shard are those of its environments at the first step, then at the next, and so
    on; shard s is shuffled by the key folded with s, and gives each minibatch an equal part.
    """
    num_envs = config.num_envs // config.execution.num_shards
    num_rows = config.num_steps // sequence_length * num_envs
    parts = [([], []) for _ in range(config.num_minibatches)]
    for shard in range(config.execution.num_shards):
        order = np.asarray(permutation(jax.random.fold_in(key, shard), num_rows))
        for part, rows in zip(parts, order.reshape(config.num_minibatches, -1), strict=True):
            part[0].extend(rows // num_envs * sequence_length)
            part[1].extend(shard * num_envs + rows % num_envs)
    return [(np.array(steps), np.array(envs)) for steps, envs in parts]


def replayed(problem, params, carry, x, start):
    """`(outputs [T, n, ...], value [T, n])` of steps one after another."""
    steps = []
    for t in range(start.shape[0]):
        outputs, value, carry = problem.apply(
            params, carry, jax.tree.map(lambda x, t=t: x[t], x), start[t]
        )
        steps.append((outputs, value))
    return jax.tree.map(lambda *x: jnp.stack(x), *steps)


def make_loss(problem):
    """The gradient of the loss, `(params, minibatch, settings)`, and what the loss consists of."""

    def loss(params, minibatch, settings):
        outputs, value = replayed(
            problem, params, minibatch["carry"], minibatch["x"], minibatch["start"]
        )
        log_prob, entropy = problem.log_prob_and_entropy(
            outputs, minibatch["obs"], minibatch["action"]
        )
        log_ratio = log_prob - minibatch["log_prob"]
        ratio, epsilon = jnp.exp(log_ratio), settings["clip_epsilon"]
        in_range = jnp.minimum(jnp.maximum(ratio, 1.0 - epsilon), 1.0 + epsilon)
        advantage = minibatch["advantage"]
        objective = jnp.minimum(ratio * advantage, in_range * advantage)
        moved, limit = value - minibatch["value"], settings["value_clip_epsilon"]
        held = minibatch["value"] + jnp.minimum(jnp.maximum(moved, -limit), limit)
        target = minibatch["target"]
        errors = jnp.maximum((value - target) ** 2, (held - target) ** 2)
        parts = {
            "policy_loss": -objective.mean(),
            "value_loss": errors.mean() / 2.0,
            "entropy": entropy.mean(),
            "approx_kl": (ratio - 1.0 - log_ratio).mean(),
            "clip_fraction": (jnp.abs(ratio - 1.0) > epsilon).mean(dtype=jnp.float32),
        }
        bound = {
            "ratio": (in_range * advantage < ratio * advantage).mean(dtype=jnp.float32),
            "value": ((held - target) ** 2 > (value - target) ** 2).mean(dtype=jnp.float32),
        }
        total = parts["policy_loss"] + settings["value_coef"] * parts["value_loss"]
        return total - settings["entropy_coef"] * parts["entropy"], (parts, bound)

    return jax.jit(jax.grad(loss, has_aux=True))


def adam_step(config, rate, params, gradient, state):
    """A step of Adam along the gradient, shortened to `max_grad_norm`; all are vectors."""
    norm = np.sqrt((gradient**2).sum())
    gradient = gradient * min(1.0, config.max_grad_norm / norm)
    count, mu, nu = state
    count, mu, nu = count + 1, 0.9 * mu + 0.1 * gradient, 0.999 * nu + 0.001 * gradient**2
    step = mu / (1.0 - 0.9**count) / (np.sqrt(nu / (1.0 - 0.999**count)) + config.adam_epsilon)
    return params - rate * step, (count, mu, nu), norm


def as_vector(tree):
    """All numbers of a tree, one leaf after another."""
    return np.concatenate([np.asarray(x, np.float64).reshape(-1) for x in jax.tree.leaves(tree)])


def as_tree(vector, like):
    """The opposite, float32."""
    leaves, treedef = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = zip(np.split(vector, ends), leaves, strict=True)
    return jax.tree.unflatten(treedef, [np.float32(x.reshape(y.shape)) for x, y in parts])


class Update(NamedTuple):
    """What an update gives.

    params, mu, nu: vectors.
    bound: for each clip, how often it bound.
    kls: mean `approx_kl` of each minibatch of each epoch that was run.
    deviations: of the advantages of each minibatch of each epoch.
    """

    params: Any
    count: int
    mu: Any
    nu: Any
    obs_moments: Any
    return_moments: Any
    metrics: dict
    bound: dict
    kls: Any
    deviations: Any


def update(problem, gradient_of, config, learner, adam, trajectory):
    """One update of `learner` (jaxdrl's) with Adam's state `(count, mu, nu)`."""
    x = problem.prepare(trajectory.obs)
    old_obs, old_returns = moments(learner.obs_statistics), moments(learner.return_statistics)
    flat = jax.tree.map(
        lambda x, mean: np.where(np.isfinite(x), x, mean).reshape(-1, *x.shape[2:]),
        x,
        old_obs.mean,
    )
    returns = with_samples(old_returns, trajectory.discounted_return.reshape(-1).astype(np.float64))
    scaled = trajectory.reward.astype(np.float64) / np.sqrt(returns.variance + 1e-8)
    reward = np.clip(scaled, -config.reward_clip, config.reward_clip)
    value, next_value = (np.float64(x) for x in (trajectory.value, trajectory.next_value))
    flags = trajectory.terminated, trajectory.truncated
    gamma, gae_lambda = config.gamma, config.gae_lambda
    x, unclipped = (normalized(x, old_obs, clip) for clip in (config.observation_clip, np.inf))
    of_ratio = {}
    if config.correction == "none":
        advantage = advantages(reward, value, next_value, *flags, gamma, gae_lambda)
        target = advantage + value
    else:
        ratio, value = of_learner(problem, learner, x, trajectory)
        inside = ~flags[1]  # where V of the successor is that of the next step
        inside[-1] = False
        next_value = np.where(inside, np.concatenate([value[1:], value[:1]]), next_value)
        advantage, target = vtrace(reward, value, next_value, *flags, ratio, config)
        of_ratio = {name: (ratio > getattr(config, name)).mean() for name in ("rho_clip", "c_clip")}
    columns = {
        "x": jax.tree.map(np.float32, x),
        "obs": trajectory.obs,
        "action": trajectory.action,
        "log_prob": trajectory.log_prob,
        "value": np.float32(value),
        "target": np.float32(target),
        "start": trajectory.episode_start,
    }
    names = ("clip_epsilon", "value_clip_epsilon", "value_coef", "entropy_coef")
    settings = {name: jnp.float32(getattr(config, name)) for name in names}
    length = problem.sequence_length
    rate = rate_after(config, int(learner.num_updates))
    params, state = as_vector(learner.params), adam
    rows, bounds, norms, kls, deviations, skipped = [], [], [], [], [], 0
    key = jax.random.split(jax.random.clone(learner.key))[0]
    for _ in range(config.num_epochs):
        shuffle_key, key = jax.random.split(key)
        epoch = []
        for steps, envs in minibatches(config, shuffle_key, length):
            times = steps[None] + np.arange(length)[:, None]
            minibatch = jax.tree.map(lambda x, at=(times, envs[None]): x[at], columns)
            minibatch["carry"] = jax.tree.map(
                lambda x, at=(steps // length, envs): x[at], trajectory.carry
            )
            sample = advantage[times, envs[None]]
            sample = (sample - sample.mean()) / (sample.std() + 1e-8)
            minibatch["advantage"] = np.float32(sample)
            deviations.append(advantage[times, envs[None]].std())
            gradient, (parts, bound) = gradient_of(
                as_tree(params, learner.params), minibatch, settings
            )
            if not np.isfinite(as_vector(gradient)).all():
                skipped += 1
                continue
            params, state, norm = adam_step(config, rate, params, as_vector(gradient), state)
            rows.append(jax.tree.map(float, parts) | {"grad_norm": norm})
            bounds.append(jax.tree.map(float, bound))
            norms.append(norm)
            epoch.append(float(parts["approx_kl"]))
        kls.append(epoch)
        if config.target_kl is not None and np.mean(epoch) > config.target_kl:
            break
    metrics = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    ended = flags[0] | flags[1]
    num_bad = sum((~np.isfinite(x)).sum() for x in jax.tree.leaves(trajectory.obs))
    metrics |= {
        "explained_variance": 1.0 - (target - value).var() / target.var(),
        "learning_rate": rate,
        "episode_return_sum": trajectory.episode_return[ended].sum(dtype=np.float64),
        "episode_length_sum": trajectory.episode_length[ended].sum(),
        "num_episodes": ended.sum(),
        "skipped_steps": skipped,
        "nonfinite_values": num_bad,
        "nonfinite_observations": num_bad,
        "nonfinite_rewards": 0.0,
        "nonfinite_params": 0.0,
    }
    outside = jax.tree.map(lambda x: (np.abs(x) > config.observation_clip).mean(), unclipped)
    bound = {name: np.mean([row[name] for row in bounds]) for name in bounds[0]}
    bound |= of_ratio | {
        "reward": (np.abs(scaled) > config.reward_clip).mean(),
        "observation": np.mean(jax.tree.leaves(outside)),
        "gradient": np.mean(np.array(norms) > config.max_grad_norm),
    }
    count, mu, nu = state
    obs_moments = with_samples(old_obs, flat)
    return Update(
        params, count, mu, nu, obs_moments, returns, metrics, bound, kls, np.array(deviations)
    )
