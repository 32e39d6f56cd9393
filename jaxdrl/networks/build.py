"""Builds the network that a config describes, and checks that a network fits an environment."""

from __future__ import annotations

import difflib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.checks import require
from jaxdrl.config.network import NetworkConfig
from jaxdrl.core import spaces
from jaxdrl.core.distributions import ActionHead
from jaxdrl.core.keys import abstract_key
from jaxdrl.core.preprocessing import prepared_shapes, zeros
from jaxdrl.core.trees import without
from jaxdrl.core.types import Network
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.type_checks import of_observation
from jaxdrl.errors import ConfigError
from jaxdrl.networks.actor_critic import (
    ActorCritic,
    Torso,
    actor_critic_heads,
    from_module,
    num_policy_outputs,
    q_heads,
)
from jaxdrl.networks.recurrent import CELLS, RecurrentActorCritic, from_recurrent


def make_network(
    observation_space: spaces.ObservationSpace,
    action_space: spaces.Space,
    config: NetworkConfig,
    dtype: str = "float32",
    *,
    action_values: bool = False,
) -> Network:
    """The network that `config` describes, whose torso computes in `dtype`.

    Args:
      observation_space: the space of the observations.
      action_space: that of the actions.
      config: the settings.
      dtype: as in `ExecutionConfig.network_dtype`.
      action_values: whether the policy outputs are action values instead, `[N, A]`, and the value
        is their maximum. Such a network has one torso, whatever `config.shared_torso` says.

    Raises:
      ConfigError: if `config.torso` is `cnn` and no observation is `[height, width, channels]`, if
        an image is too small for the convolutions, or as `check_critic_only`.
    """
    check_critic_only(observation_space, config.critic_only)
    convolutions = convolutions_of(observation_space, config)
    shared_torso = config.shared_torso or action_values
    heads = q_heads if action_values else actor_critic_heads
    if config.memory == "none":
        return from_module(
            ActorCritic(
                action_space=action_space,
                hidden_sizes=config.hidden_sizes,
                activation=config.activation,
                convolutions=convolutions,
                shared_torso=shared_torso,
                initial_log_std=config.initial_log_std,
                dtype=dtype,
                layer_norm=config.layer_norm,
                heads=heads,
                critic_only=config.critic_only,
            )
        )
    settings = (config.hidden_sizes, config.activation, convolutions, dtype, config.layer_norm)
    return from_recurrent(
        RecurrentActorCritic(
            action_space=action_space,
            torso=partial(Torso, *settings),
            cell=partial(CELLS[config.memory], config.memory_size),
            shared_torso=shared_torso,
            initial_log_std=config.initial_log_std,
            heads=heads,
            critic_only=config.critic_only,
        )
    )


def check_critic_only(space: spaces.ObservationSpace, names: tuple[str, ...]) -> None:
    """Refuses `critic_only` entries that there are not, and those without which none is left.

    Raises:
      ConfigError: naming the nearest entry.
    """
    if not names:
        return
    is_dict = isinstance(space, spaces.Dict)
    works = f"needs observations that are a dictionary, spaces.Dict, and these are {space}"
    require(is_dict, "critic_only", names, works)
    entries = [name for name, _ in space.items]  # type: ignore[union-attr]
    for name in names:
        close = difflib.get_close_matches(name, entries, n=1)
        have = f"the nearest: {close[0]}" if close else f"there are {', '.join(entries)}"
        require(name in entries, "critic_only", names, f"observations have no {name!r}; {have}")
    works = "leaves no entry of the observation to the policy; leave one out"
    require(len(names) < len(entries), "critic_only", names, works)


def convolutions_of(
    space: spaces.ObservationSpace, config: NetworkConfig
) -> tuple[tuple[int, int, int], ...]:
    """Channels, kernel size and stride of each convolution; empty if there is no image."""
    shapes = [x.shape[1:] for x in jax.tree.leaves(prepared_shapes(space, 1))]
    images = [shape for shape in shapes if len(shape) == 3]
    if config.torso == "mlp" or (config.torso == "auto" and not images):
        return ()
    if not images:
        words = f"of shape {shapes[0]}" if len(shapes) == 1 else f"of shapes {shapes}"
        raise ConfigError(
            f"torso = 'cnn': observations {words} are not [height, width, channels]; "
            "use torso = 'mlp'"
        )
    channels, needed = config.cnn_channels, 1
    for _, size, stride in reversed(config.convolutions):
        needed = (needed - 1) * stride + size
    smallest = min(images, key=lambda shape: min(shape[:2]))
    if min(smallest[:2]) < needed:
        sizes = ", ".join(f"{size} x {size}" for size in config.cnn_kernel_sizes)
        steps = config.cnn_strides
        strides = "" if set(steps) == {1} else f" with cnn_strides = {steps}"
        raise ConfigError(
            f"cnn_channels = {channels}: {len(channels)} convolutions of {sizes}{strides} need "
            f"more than {needed - 1} pixels each way, but observations are {smallest}; use fewer "
            "convolutions, or torso = 'mlp'"
        )
    return config.convolutions


def check_network(env: Environment, network: Network, head: ActionHead) -> None:
    """Refuses a network whose outputs do not fit the environment's spaces; it is only traced.

    Raises:
      ConfigError: naming the shapes of the outputs and those that were expected.
    """
    shapes = prepared_shapes(env.observation_space, 2)

    def outputs(key: jax.Array) -> tuple[Any, Any]:
        obs, start = zeros(shapes), jnp.zeros((2,), jnp.bool)
        params, carry = network.init(key, obs), network.initial_carry(2)
        return network.apply(params, carry, obs, start), carry

    try:
        found, carry = jax.eval_shape(outputs, abstract_key())
        _require_outputs(env, found, carry)
        policy_outputs, value, _ = found
        action = jax.eval_shape(lambda x: head.distribution(x).mode(), policy_outputs)
    except ConfigError:
        raise
    except Exception as error:
        words = jax.tree.map(lambda x: x.shape, shapes)
        raise ConfigError(
            f"network: does not map observations {words} to (policy_outputs, value): {error}"
        ) from error
    if not isinstance(env.action_space, spaces.Box):
        logits = (2, num_policy_outputs(env.action_space))
        given = policy_outputs.shape
        works = f"must be logits {logits} for {env.action_space}"
        require(given == logits, "network policy_outputs", given, works)
    expected = (2, *env.action_space.shape)
    require(
        action.shape == expected,
        "network policy_outputs",
        action.shape,
        f"must give actions {expected} for {env.action_space}",
    )
    require(value.shape == (2,), "network value", value.shape, "must be (2,) for 2 observations")


def _require_outputs(env: Environment, found: Any, carry: Any) -> None:
    """Refuses outputs that do not have the structure that `Network.apply` has to return."""
    parts = "(policy_outputs, value, carry)"
    if not isinstance(found, tuple) or len(found) != 3:
        num = f"{len(found)} values" if isinstance(found, tuple) else f"a {type(found).__name__}"
        raise ConfigError(f"network: apply returns {num}; must return {parts}")
    policy_outputs, value, after = found
    if not isinstance(value, jax.ShapeDtypeStruct):
        given = type(value).__name__
        raise ConfigError(f"network: the value is a {given}; must be an array [N]")
    is_array = isinstance(policy_outputs, jax.ShapeDtypeStruct)
    is_pair = isinstance(policy_outputs, tuple | list) and len(policy_outputs) == 2
    is_box = isinstance(env.action_space, spaces.Box)
    if not (is_pair if is_box else is_array):
        works = "(mean, log_std), each [N, *shape]," if is_box else "logits [N, n]"
        given = type(policy_outputs).__name__
        given = "an array" if is_array else f"a {given}"
        raise ConfigError(
            f"network: policy_outputs are {given}; must be {works} for {env.action_space}"
        )
    before, after = (_types_of(x) for x in (carry, after))
    if before != after:
        raise ConfigError(
            f"network: apply returns a carry of {after}; it must be as initial_carry makes it, "
            f"{before}"
        )


def _types_of(tree: Any) -> str:
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree))


def shapes_of_params(env: Environment, network: Network) -> Any:
    """Shapes and dtypes of a network's parameters; nothing is computed."""
    shapes = prepared_shapes(env.observation_space, 1)
    return jax.eval_shape(lambda key: network.init(key, zeros(shapes)), abstract_key())


def check_mask(env: Environment, critic_only: tuple[str, ...] = ()) -> None:
    """Refuses an `action_mask` that is not one bool for each logit of the policy; only traces it.

    Args:
      env: the environment.
      critic_only: entries of the observation that the policy does without, and so the mask, too.

    Raises:
      ConfigError: naming the array that the mask is, and the one that it must be.
    """
    if env.action_mask is None:
        return
    if isinstance(env.action_space, spaces.Box):
        raise ConfigError(
            f"{env.name}: action_mask is given, but actions are {env.action_space}; only Discrete "
            "and MultiDiscrete actions can be masked"
        )
    key = abstract_key()
    obs, _ = jax.eval_shape(env.reset, key, env.default_params)
    mask = of_observation(env, "action_mask", env.action_mask, obs)
    size = num_policy_outputs(env.action_space)
    if (mask.shape, str(mask.dtype)) != ((size,), "bool"):
        raise ConfigError(
            f"{env.name}: action_mask gives {mask.dtype}{list(mask.shape)}; must be bool[{size}] "
            f"for {env.action_space}"
        )
    try:
        of_observation(env, "action_mask", env.action_mask, without(obs, critic_only))
    except ConfigError as error:
        works = f"action_mask of {env.name} reads them, and the policy acts without; leave them out"
        raise ConfigError(f"critic_only = {critic_only!r}: {works}") from error
