"""Feed-forward Flax networks: an MLP or CNN torso with policy and value heads, or your own module.

Recurrent networks are in `recurrent.py`; `build.py` makes the network that a config describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.core.trees import merge_leading_axes, without
from jaxdrl.core.types import Network
from jaxdrl.errors import ConfigError

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "silu": nn.silu,
    "gelu": nn.gelu,
}


@jax.custom_batching.sequential_vmap
def _qr(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """QR decomposition, one matrix after another under `vmap`.

    Two batched decompositions at once can deadlock on the CPU: each holds a thread of the pool in
    which it waits for its batch (seen with jaxlib 0.10.2 on two cores).
    """
    q, r = jnp.linalg.qr(matrix)
    return q, r


def orthogonal(gain: float) -> Callable[..., jax.Array]:
    """Initialiser: a random orthogonal matrix times `gain`; a wide one has orthonormal rows.

    Source: Saxe et al. 2014, arXiv:1312.6120.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        rows, columns = shape
        normal = jax.random.normal(key, (max(shape), min(shape)), dtype)
        q, r = _qr(normal)
        q = q * jnp.sign(jnp.diagonal(r))[None]  # without this the signs would not be uniform
        return gain * (q if rows >= columns else q.T)

    return init


class Torso(nn.Module):
    """Convolutions (none for an MLP), then dense layers: `[N, ...]` to `[N, features]`.

    In a dictionary, each image has convolutions of its own, and all entries are concatenated before
    the dense layers. A convolution is given by its channels, the size of its kernel and its stride,
    and has no padding. Initialisation is orthogonal with gain sqrt(2). With `layer_norm`, what goes
    into a nonlinearity is normalised over the units, or over the channels of each pixel (Ba et al.
    2016, arXiv:1607.06450). Computes in `dtype`; features are float32.
    """

    hidden_sizes: tuple[int, ...]
    activation: str
    convolutions: tuple[tuple[int, int, int], ...] = ()
    dtype: str = "float32"
    layer_norm: bool = False

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:
        """Features `[N, hidden_sizes[-1]]` of `obs [N, ...]`, an array or a tree of several."""
        activate = self._activate
        dense = partial(nn.Dense, kernel_init=orthogonal(math.sqrt(2.0)), dtype=self.dtype)
        parts = []
        for x in jax.tree.leaves(obs):
            x = x.astype(self.dtype)
            for channels, size, stride in self.convolutions if x.ndim == 4 else ():
                x = activate(dense(channels)(patches(x, size, stride)))
            parts.append(x.reshape(x.shape[0], -1))
        x = jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        for size in self.hidden_sizes:
            x = activate(dense(size)(x))
        return x.astype(jnp.float32)

    def _activate(self, x: jax.Array) -> jax.Array:
        if self.layer_norm:
            x = nn.LayerNorm(dtype=self.dtype)(x)
        return ACTIVATIONS[self.activation](x)


def patches(x: jax.Array, size: int, stride: int) -> jax.Array:
    """The neighbourhoods of `size` x `size` pixels: `[N, H, W, C]` to `[N, H', W', size^2 C]`.

    A dense layer on them is a convolution without padding. XLA's own convolution is slow on the CPU
    with few channels: with it, an update on MinAtar took four times as long. Within a loop, as
    that over microbatches is one, it took fifteen times as long on 84 x 84 pixels.
    """
    rows, columns = (stride * ((num - size) // stride) + 1 for num in x.shape[1:3])
    shifted = [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1)


Heads = Callable[[nn.Module, spaces.Space, Any, jax.Array, jax.Array], tuple[Any, jax.Array]]
"""The last layers of a network, which belong to the given module: `(module, action_space,
initial_log_std, actor_features, critic_features) -> (policy_outputs, value [N])`, of features
`[N, ...]`."""


def actor_critic_heads(
    module: nn.Module,
    action_space: spaces.Space,
    initial_log_std: Any,
    actor_features: jax.Array,
    critic_features: jax.Array,
) -> tuple[Any, jax.Array]:
    """`(policy_outputs, value [N])` of features `[N, ...]`; the layers belong to `module`."""
    # A small policy head starts near the uniform policy (Andrychowicz et al. 2021, 3.2).
    num_outputs = num_policy_outputs(action_space)
    policy_init = orthogonal(0.01)
    outputs = nn.Dense(num_outputs, kernel_init=policy_init, name="policy")(actor_features)
    value_init = orthogonal(1.0)
    value = nn.Dense(1, kernel_init=value_init, name="value")(critic_features).squeeze(-1)
    if not isinstance(action_space, spaces.Box):
        return outputs, value
    shape = action_space.shape
    log_std = module.param("log_std", nn.initializers.constant(initial_log_std), shape)
    mean = outputs.reshape(actor_features.shape[0], *shape)
    return (mean, jnp.broadcast_to(log_std[None], mean.shape)), value


def q_heads(
    module: nn.Module,
    action_space: spaces.Space,
    initial_log_std: Any,
    actor_features: jax.Array,
    critic_features: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """`Heads` of a network of action values, `(Q(s, a) [N, A], max_a Q(s, a) [N])`."""
    del initial_log_std, critic_features
    num_actions = num_policy_outputs(action_space)
    layer = nn.Dense(num_actions, kernel_init=orthogonal(1.0), name="q_values")
    q_values = layer(actor_features)
    return q_values, q_values.max(axis=-1)


class ActorCritic(nn.Module):
    """Policy outputs and value of an observation, by the layers of `heads` on those of the torsos.

    Policy outputs are logits `[N, num_logits]` for discrete and multi-discrete actions, and
    `(mean, log_std)`, each `[N, *shape]`, for continuous ones, where `log_std` is a parameter that
    does not depend on the observation. The entries `critic_only` of a dictionary change the value
    alone, and need a torso that is not shared.
    """

    action_space: spaces.Space
    hidden_sizes: tuple[int, ...]
    activation: str
    convolutions: tuple[tuple[int, int, int], ...]
    shared_torso: bool
    initial_log_std: Any
    dtype: str = "float32"
    layer_norm: bool = False
    heads: Heads = actor_critic_heads
    critic_only: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, obs: Any) -> tuple[Any, jax.Array]:
        """`(policy_outputs, value [N])` of `obs [N, ...]` float32, an array or a dictionary."""
        settings = (self.hidden_sizes, self.activation, self.convolutions, self.dtype)
        torso = partial(Torso, *settings, self.layer_norm)
        actor = torso(name="actor")
        actor_features = critic_features = actor(without(obs, self.critic_only))
        if not self.shared_torso:
            critic_features = torso(name="critic")(obs)
        features = (actor_features, critic_features)
        return self.heads(self, self.action_space, self.initial_log_std, *features)


def num_policy_outputs(action_space: spaces.Space) -> int:
    """How many numbers the policy head outputs: logits, or means of continuous actions."""
    if isinstance(action_space, spaces.Discrete):
        return action_space.n
    if isinstance(action_space, spaces.MultiDiscrete):
        return sum(action_space.nvec)
    return math.prod(action_space.shape)


def from_module(module: nn.Module) -> Network:
    """A feed-forward `flax.linen` module as a `Network`.

    Args:
      module: maps `obs [N, ...]` float32 to `(policy_outputs, value [N])`; policy outputs are as
        in `ActorCritic`. It may have parameters, but no other variable collection.
    """

    def init(key: jax.Array, obs: Any) -> Any:
        with default_promotion():
            variables = module.init(key, obs)
        return check_variables(module, variables)

    def apply(params: Any, carry: Any, obs: Any, episode_start: Any) -> Any:
        del episode_start
        with default_promotion():
            outputs, value = module.apply({"params": params}, obs)
        return outputs, value, carry

    return Network(initial_carry=lambda num_envs: (), init=init, apply=apply)


def check_variables(module: nn.Module, variables: Any) -> Any:
    """The parameters of `module`, which must have no other variables.

    Raises:
      ConfigError: naming the other collections.
    """
    others = sorted(set(variables) - {"params"})
    if others:
        raise ConfigError(
            f"network = {type(module).__name__}: has variables in {', '.join(others)}; only "
            "params are supported"
        )
    return nn.meta.unbox(variables.get("params", {}))  # parameters are replicated, not partitioned


def check_steps(obs: Any, episode_start: jax.Array) -> None:
    """Raises ValueError unless `episode_start` is `[T, N]` and every observation `[T, N, ...]`."""
    chex.assert_rank(
        episode_start, 2, custom_message="input 0 is episode_start", exception_type=ValueError
    )
    chex.assert_tree_shape_prefix(
        obs, episode_start.shape, custom_message="the tree is obs", exception_type=ValueError
    )


def unroll(
    network: Network, params: Any, carry: Any, obs: Any, episode_start: jax.Array
) -> tuple[Any, jax.Array]:
    """`(policy_outputs [T, N, ...], value [T, N])` of `T` steps; see `Network.unroll`."""
    check_steps(obs, episode_start)
    if network.unroll is not None:
        return network.unroll(params, carry, obs, episode_start)
    if not network.has_memory:
        shape = episode_start.shape
        outputs, value, _ = network.apply(params, carry, *merge_leading_axes((obs, episode_start)))
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), (outputs, value))

    def step(carry: Any, inputs: tuple) -> tuple[Any, Any]:
        outputs, value, carry = network.apply(params, carry, *inputs)
        return carry, (outputs, value)

    return jax.lax.scan(step, carry, (obs, episode_start))[1]
