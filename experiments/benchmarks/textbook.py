"""PPO as the single-file implementations have it, to compare with: one device, one jitted update.

Written anew for this benchmark, of the parts that such files share: separate networks in flax, Adam
from optax, a full auto-reset at every step, `jax.random.permutation` over the whole batch, and
statistics updated at every step. An episode cut by a time limit counts as ended, as it does there.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from benchmarks import cases
from benchmarks.cases import Case


class Task(NamedTuple):
    """One environment that resets itself.

    Attributes:
      reset: `(key) -> (obs, env_state)`.
      step: `(key, env_state, action) -> (obs, env_state, reward, done)`.
      num_outputs: logits, or numbers of a continuous action.
      bounds: `(low, high)` of a continuous action, None where actions are discrete.
    """

    reset: Callable[..., Any]
    step: Callable[..., Any]
    num_outputs: int
    bounds: tuple[Any, Any] | None


@struct.dataclass
class Moments:
    """Running count, mean and variance."""

    count: Any
    mean: Any
    variance: Any


@struct.dataclass
class State:
    """The whole state; environments `[N, ...]`."""

    params: Any
    opt_state: Any
    env_state: Any
    obs: Any
    key: jax.Array
    obs_moments: Moments
    return_moments: Moments
    discounted_return: jax.Array
    episode_return: jax.Array


@struct.dataclass
class Sample:
    """What the loss sees of a step."""

    obs: Any
    action: Any
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


class Networks(nn.Module):
    """Actor and critic: `obs [N, ...]` to `(outputs [N, num_outputs], log_std, value [N])`."""

    num_outputs: int
    hidden_sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Evaluates both."""
        obs = obs.reshape(obs.shape[0], -1).astype(jnp.float32)
        actor = critic = obs
        for size in self.hidden_sizes:
            init = nn.initializers.orthogonal(2.0**0.5)
            actor = nn.tanh(nn.Dense(size, kernel_init=init)(actor))
            critic = nn.tanh(nn.Dense(size, kernel_init=init)(critic))
        outputs = nn.Dense(self.num_outputs, kernel_init=nn.initializers.orthogonal(0.01))(actor)
        value = nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0))(critic)
        log_std = self.param("log_std", nn.initializers.zeros, (self.num_outputs,))
        return outputs, log_std, value[:, 0]


def evaluate(network: Networks, params: Any, obs: jax.Array) -> Any:
    """`(outputs, log_std, value)`."""
    return network.apply(params, obs)


def make(
    task: Task, case: Case, learning_rate: float = cases.LEARNING_RATE
) -> tuple[Callable[[jax.Array], State], Callable[[State], tuple[State, dict[str, jax.Array]]]]:
    """`(init, update)`: `init(key) -> state`, `update(state) -> (state, metrics)`; neither jitted.

    Metrics are `episode_return_sum` and `num_episodes` of the episodes that ended.
    """
    network = Networks(task.num_outputs, case.hidden_sizes)
    optimizer = optax.chain(
        optax.clip_by_global_norm(cases.MAX_GRAD_NORM),
        optax.adam(learning_rate, eps=cases.ADAM_EPSILON),
    )
    args = (task, case, network, optimizer)
    return partial(init_state, *args), partial(update_state, *args)


def init_state(task: Task, case: Case, network: Networks, optimizer: Any, key: jax.Array) -> State:
    """The state at the start; the key is consumed."""
    params_key, env_key, key = jax.random.split(key, 3)
    obs, env_state = jax.vmap(task.reset)(jax.random.split(env_key, case.num_envs))
    params = network.init(params_key, obs)
    zeros = jnp.zeros(case.num_envs)
    state = State(
        params=params,
        opt_state=optimizer.init(params),
        env_state=env_state,
        obs=obs,
        key=key,
        obs_moments=Moments(1e-4, jnp.zeros(obs.shape[1:]), jnp.ones(obs.shape[1:])),
        return_moments=Moments(1e-4, 0.0, 1.0),
        discounted_return=zeros,
        episode_return=zeros,
    )
    return jax.tree.map(_strong, state)


def update_state(
    task: Task, case: Case, network: Networks, optimizer: Any, state: State
) -> tuple[State, dict[str, jax.Array]]:
    """One update: a rollout, and the gradient steps on it."""
    step = partial(env_step, task, case, network)
    state, (samples, reward, done, sums) = jax.lax.scan(step, state, length=case.num_steps)
    last_value = evaluate(network, state.params, _seen(case, state.obs_moments, state.obs))[2]
    advantage = gae(reward, samples.value, done, last_value)
    samples = replace(samples, advantage=advantage, target=advantage + samples.value)
    batch = jax.tree.map(lambda x: x.reshape(case.env_steps, *x.shape[2:]), samples)
    key, epochs_key = jax.random.split(state.key)
    epoch = partial(fit, task, case, network, optimizer, batch)
    keys = jax.random.split(epochs_key, case.num_epochs)
    (params, opt_state), _ = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
    state = replace(state, params=params, opt_state=opt_state, key=key)
    return jax.tree.map(_strong, state), jax.tree.map(jnp.sum, sums)


def env_step(
    task: Task, case: Case, network: Networks, state: State, _: None = None
) -> tuple[State, tuple]:
    """A step of every environment, of which the advantages are still to come."""
    key, action_key, env_key = jax.random.split(state.key, 3)
    obs = _seen(case, state.obs_moments, state.obs)
    outputs, log_std, value = evaluate(network, state.params, obs)
    if task.bounds is None:
        action = env_action = jax.random.categorical(action_key, outputs)
    else:
        action = outputs + jnp.exp(log_std) * jax.random.normal(action_key, outputs.shape)
        env_action = jnp.clip(action, *task.bounds)
    log_prob = log_prob_and_entropy(task, outputs, log_std, action)[0]
    keys = jax.random.split(env_key, case.num_envs)
    next_obs, env_state, reward, done = jax.vmap(task.step)(keys, state.env_state, env_action)
    running = 1.0 - done
    episode_return = state.episode_return + reward
    sums = {"episode_return_sum": episode_return * done, "num_episodes": done * 1.0}
    state = replace(
        state, env_state=env_state, obs=next_obs, key=key, episode_return=episode_return * running
    )
    if case.normalize:
        discounted_return = cases.GAMMA * state.discounted_return + reward
        state = replace(
            state,
            obs_moments=add(state.obs_moments, next_obs),
            return_moments=add(state.return_moments, discounted_return),
            discounted_return=discounted_return * running,
        )
        reward = reward / jnp.sqrt(state.return_moments.variance + 1e-8)
    sample = Sample(obs, action, log_prob, value, value, value)
    return state, (sample, reward, done, sums)


def fit(
    task: Task, case: Case, network: Networks, optimizer: Any, batch: Sample, carry: tuple, key: Any
) -> tuple[tuple, None]:
    """One epoch over the batch; the carry is the parameters and the optimiser's state."""
    order = jax.random.permutation(key, case.env_steps)
    shape = (case.num_minibatches, case.minibatch_size)
    minibatches = jax.tree.map(lambda x: x[order].reshape(*shape, *x.shape[1:]), batch)

    def gradient_step(carry: tuple, samples: Sample) -> tuple[tuple, None]:
        params, opt_state = carry
        gradient = jax.grad(lambda params: loss(task, network, params, samples))(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.lax.scan(gradient_step, carry, minibatches)


def loss(task: Task, network: Networks, params: Any, samples: Sample) -> jax.Array:
    """Clipped surrogate, squared value error and entropy bonus of a minibatch."""
    outputs, log_std, value = evaluate(network, params, samples.obs)
    log_prob, entropy = log_prob_and_entropy(task, outputs, log_std, samples.action)
    advantage = samples.advantage
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = jnp.exp(log_prob - samples.log_prob)
    clipped = jnp.clip(ratio, 1.0 - cases.CLIP_EPSILON, 1.0 + cases.CLIP_EPSILON)
    policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
    value_loss = 0.5 * jnp.square(value - samples.target).mean()
    return policy_loss + cases.VALUE_COEF * value_loss - cases.ENTROPY_COEF * entropy.mean()


def log_prob_and_entropy(
    task: Task, outputs: jax.Array, log_std: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each action and entropy, `[N]`."""
    if task.bounds is None:
        log_probs = nn.log_softmax(outputs)
        log_prob = jnp.take_along_axis(log_probs, action[:, None], axis=1)[:, 0]
        return log_prob, -(jnp.exp(log_probs) * log_probs).sum(axis=1)
    deviation = (action - outputs) * jnp.exp(-log_std)
    constant = 0.5 * jnp.log(2.0 * jnp.pi) + log_std
    log_prob = (-0.5 * jnp.square(deviation) - constant).sum(axis=1)
    return log_prob, jnp.full_like(log_prob, (0.5 + constant).sum())


def gae(reward: jax.Array, value: jax.Array, done: jax.Array, last_value: jax.Array) -> jax.Array:
    """Generalised advantage estimates `[T, N]`, nothing following where `done`."""

    def backward(carry: tuple, now: tuple) -> tuple[tuple, jax.Array]:
        following, next_value = carry
        reward, value, done = now
        delta = reward + cases.GAMMA * next_value * (1.0 - done) - value
        advantage = delta + cases.GAMMA * cases.GAE_LAMBDA * (1.0 - done) * following
        return (advantage, value), advantage

    start = (jnp.zeros_like(last_value), last_value)
    return jax.lax.scan(backward, start, (reward, value, done), reverse=True)[1]


def add(moments: Moments, batch: jax.Array) -> Moments:
    """Moments with a batch `[N, ...]` added."""
    count = batch.shape[0]
    total = moments.count + count
    delta, weight = batch.mean(axis=0) - moments.mean, count / total
    variance = moments.variance + weight * (batch.var(axis=0) - moments.variance)
    variance = variance + weight * (1.0 - weight) * jnp.square(delta)
    return Moments(total, moments.mean + weight * delta, variance)


def _seen(case: Case, moments: Moments, obs: jax.Array) -> jax.Array:
    if not case.normalize:
        return obs
    return (obs - moments.mean) / jnp.sqrt(moments.variance + 1e-8)


def _strong(x: Any) -> jax.Array:
    """`x` without a weak type, which would compile the update twice."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.astype(x.dtype)
