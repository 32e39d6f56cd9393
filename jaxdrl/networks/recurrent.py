"""Recurrent networks: cells, and an actor-critic that carries their state from step to step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.core.trees import match_rank, merge_leading_axes, without
from jaxdrl.core.types import Network
from jaxdrl.networks.actor_critic import (
    Heads,
    actor_critic_heads,
    check_steps,
    check_variables,
    orthogonal,
)


class Cell(Protocol):
    """The methods that a Flax module needs to be the recurrent cell of a `RecurrentActorCritic`.

    Submodules are created in `setup`, because two methods use them.
    """

    def initial_carry(self, num_envs: int) -> Any:
        """The carry at the start of an episode: a pytree of `[num_envs, ...]`."""

    def project(self, x: jax.Array) -> Any:
        """The part of a step that depends on its input `[..., features]` only, for all steps."""

    def step(self, carry: Any, projected: Any) -> tuple[Any, jax.Array]:
        """`(carry, features [num_envs, ...])` of one step."""


class GRU(nn.Module):
    """Gated recurrent unit, in the variant that applies the reset gate after the product.

    r = sigmoid(W_r x + U_r h + b_r), z = sigmoid(W_z x + U_z h + b_z),
    n = tanh(W_n x + b_n + r (U_n h + c_n)), h' = (1 - z) n + z h; features and carry are h',
    float32 `[N, size]`.

    Source: Cho et al. 2014, arXiv:1406.1078.
    """

    size: int

    def setup(self) -> None:
        """The products with the input, and with the carry."""
        self.input = nn.Dense(3 * self.size, kernel_init=orthogonal(1.0))
        self.hidden = _Hidden(self.size, num_gates=3)

    def initial_carry(self, num_envs: int) -> jax.Array:
        """Zeros `[num_envs, size]`."""
        return jnp.zeros((num_envs, self.size), jnp.float32)

    def project(self, x: jax.Array) -> jax.Array:
        """The products with the input of all gates, `[..., 3 size]`."""
        return self.input(x)

    def step(self, carry: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The equations above."""
        input_r, input_z, input_n = jnp.split(projected, 3, axis=-1)
        hidden_r, hidden_z, hidden_n = jnp.split(self.hidden(carry), 3, axis=-1)
        r, z = nn.sigmoid(input_r + hidden_r), nn.sigmoid(input_z + hidden_z)
        n = jnp.tanh(input_n + r * hidden_n)
        carry = n + z * (carry - n)
        return carry, carry


class LSTM(nn.Module):
    """Long short-term memory; the bias of its forget gate starts at 1.

    i, f, o = sigmoid(W x + U h + b), g = tanh(W_g x + U_g h + b_g), c' = f c + i g,
    h' = o tanh(c'); the carry is (c', h'), the features h', float32 `[N, size]`.

    Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000 (forget gate).
    """

    size: int

    def setup(self) -> None:
        """The products with the input, and with the carry."""
        self.input = nn.Dense(4 * self.size, kernel_init=orthogonal(1.0))
        self.hidden = _Hidden(self.size, num_gates=4)

    def initial_carry(self, num_envs: int) -> tuple[jax.Array, jax.Array]:
        """Zeros for c and h, each `[num_envs, size]`."""
        zeros = jnp.zeros((num_envs, self.size), jnp.float32)
        return zeros, zeros

    def project(self, x: jax.Array) -> jax.Array:
        """The products with the input of all gates, `[..., 4 size]`."""
        return self.input(x)

    def step(self, carry: tuple, projected: jax.Array) -> tuple[tuple, jax.Array]:
        """The equations above."""
        c, h = carry
        i, f, g, o = jnp.split(projected + self.hidden(h), 4, axis=-1)
        c = nn.sigmoid(f + 1.0) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h


class _Hidden(nn.Module):
    """Products of the carry with an orthogonal matrix for each gate, `[N, num_gates * size]`."""

    size: int
    num_gates: int

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
            keys = jax.random.split(key, self.num_gates)
            gates = [orthogonal(1.0)(keys[i], (self.size, self.size)) for i in range(len(keys))]
            return jnp.concatenate(gates, axis=1).astype(dtype)

        return nn.Dense(self.num_gates * self.size, kernel_init=init)(h)


CELLS: dict[str, Callable[..., Any]] = {"gru": GRU, "lstm": LSTM}
"""Cells by their name in the setting `memory`."""


class RecurrentActorCritic(nn.Module):
    """Torso, recurrent cell and heads; the outputs are those of `jaxdrl.networks.ActorCritic`.

    Attributes:
      action_space: the space of the actions.
      torso: makes the layers before the cell, `(name) -> module`.
      cell: makes a `Cell`, `(name) -> module`.
      shared_torso: whether actor and critic share one torso and cell instead of having one each.
      initial_log_std: initial log standard deviation of continuous actions.
      heads: the layers after the cell.
      critic_only: entries of a dictionary of observations that the actor's torso does not see.
    """

    action_space: spaces.Space
    torso: Callable[..., nn.Module]
    cell: Callable[..., Any]
    shared_torso: bool
    initial_log_std: Any
    heads: Heads = actor_critic_heads
    critic_only: tuple[str, ...] = ()

    @property
    def towers(self) -> tuple[str, ...]:
        """Names of the torsos, each with a cell of its own."""
        return ("actor",) if self.shared_torso else ("actor", "critic")

    def initial_carry(self, num_envs: int) -> dict[str, Any]:
        """The carry of each tower's cell at the start of an episode."""
        return {name: self.cell(parent=None).initial_carry(num_envs) for name in self.towers}

    @nn.compact
    def __call__(
        self, carry: dict[str, Any], obs: Any, episode_start: jax.Array
    ) -> tuple[Any, jax.Array, dict[str, Any]]:
        """`(policy_outputs [T, N, ...], value [T, N], carry)` of T steps.

        Args:
          carry: the recurrent state before the first step.
          obs: float32 `[T, N, ...]`, an array or a dictionary.
          episode_start: bool `[T, N]`; where true, the initial carry replaces the carry.
        """
        check_steps(obs, episode_start)
        steps = episode_start.shape
        flat = merge_leading_axes(obs)
        features, after = {}, {}
        for name in self.towers:
            seen = without(flat, self.critic_only) if name == "actor" else flat
            x = self.torso(name=name)(seen).reshape(*steps, -1)
            cell = self.cell(name=f"{name}_memory")
            after[name], x = unroll_cell(cell, carry[name], x, episode_start)
            features[name] = merge_leading_axes(x)
        actor = features["actor"]
        critic = features.get("critic", actor)
        outputs, value = self.heads(self, self.action_space, self.initial_log_std, actor, critic)
        outputs, value = jax.tree.map(lambda x: x.reshape(*steps, *x.shape[1:]), (outputs, value))
        return outputs, value, after


def unroll_cell(cell: Any, carry: Any, x: jax.Array, episode_start: jax.Array) -> tuple[Any, Any]:
    """`(carry, features [T, N, ...])` of a cell over `x [T, N, ...]`, reset at episode starts."""
    num_envs = episode_start.shape[1]

    def step(cell: Any, carry: Any, inputs: tuple) -> tuple[Any, Any]:
        projected, start = inputs

        def reset(initial: jax.Array, x: jax.Array) -> jax.Array:
            return jnp.where(match_rank(start, x), initial, x)

        carry = jax.tree.map(reset, cell.initial_carry(num_envs), carry)
        return cell.step(carry, projected)

    scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
    return scan(cell, carry, (cell.project(x), episode_start))


def from_recurrent(module: Any) -> Network:
    """A recurrent Flax module as a `Network`.

    Args:
      module: maps `(carry, obs [T, N, ...], episode_start [T, N])` to
        `(policy_outputs [T, N, ...], value [T, N], carry)` and has a method
        `initial_carry(num_envs)`, as `RecurrentActorCritic` does. It may have parameters, but no
        other variable collection.
    """

    def init(key: jax.Array, obs: Any) -> Any:
        num_envs = jax.tree.leaves(obs)[0].shape[0]
        start, obs = jax.tree.map(lambda x: x[None], (jnp.ones(num_envs, jnp.bool), obs))
        with default_promotion():
            variables = module.init(key, module.initial_carry(num_envs), obs, start)
        return check_variables(module, variables)

    def apply(params: Any, carry: Any, obs: Any, episode_start: jax.Array) -> Any:
        obs, start = jax.tree.map(lambda x: x[None], (obs, episode_start))
        with default_promotion():
            outputs, value, carry = module.apply({"params": params}, carry, obs, start)
        outputs, value = jax.tree.map(lambda x: x[0], (outputs, value))
        return outputs, value, carry

    def unroll(params: Any, carry: Any, obs: Any, episode_start: jax.Array) -> Any:
        with default_promotion():
            return module.apply({"params": params}, carry, obs, episode_start)[:2]

    return Network(module.initial_carry, init, apply, unroll)
