"""What the games of JaxMARL have each in their own way: parameters, limits, legal actions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.suites.gymnax import nearest
from jaxdrl.envs.suites.jaxmarl_import import import_environment
from jaxdrl.envs.suites.registry import fit_params
from jaxdrl.errors import ConfigError

MPE = {
    "MPE_simple_v3": "SimpleMPE",
    "MPE_simple_adversary_v3": "SimpleAdversaryMPE",
    "MPE_simple_crypto_v3": "SimpleCryptoMPE",
    "MPE_simple_facmac_v1": "SimpleFacmacMPE",
    "MPE_simple_push_v3": "SimplePushMPE",
    "MPE_simple_reference_v3": "SimpleReferenceMPE",
    "MPE_simple_speaker_listener_v4": "SimpleSpeakerListenerMPE",
    "MPE_simple_spread_v3": "SimpleSpreadMPE",
    "MPE_simple_tag_v3": "SimpleTagMPE",
    "MPE_simple_world_comm_v3": "SimpleWorldCommMPE",
}
"""Class of each multi-agent particle environment."""

PHYSICS = {"dt": 0.1, "damping": 0.25, "contact_force": 100.0, "contact_margin": 0.001}
"""Parameters of all of them, which their signatures do not show."""

SCENARIOS = (
    "3m",
    "2s3z",
    "25m",
    "3s5z",
    "8m",
    "5m_vs_6m",
    "10m_vs_11m",
    "27m_vs_30m",
    "3s5z_vs_3s6z",
    "3s_vs_5z",
    "6h_vs_8z",
    "smacv2_5_units",
    "smacv2_10_units",
    "smacv2_20_units",
)
"""Scenarios of SMAX; its module, which has them, runs JAX code when it is imported."""

ENDLESS = 2**30
"""The value that limits of JaxMARL's own are set to, so that they are never reached."""


class Game(NamedTuple):
    """An environment of JaxMARL without its limit.

    Attributes:
      suite_env: it.
      limit: how many steps its limit was, None if it has none.
      legal: `(state) -> {agent: mask}`; None if all actions of an agent are always allowed.
      active: as in `Environment`.
      effective: `(state, action [A]) -> action [A]` without what has no effect on the game.
      bounds: least and largest value of an observation.
      dtype: that observations are stored in.
      default_params: as in `Environment`.
      draw: `(suite_env, state) -> picture`, None if there is none.
    """

    suite_env: Any
    limit: int | None
    legal: Callable[[Any], Mapping[str, Any]] | None = None
    active: Callable[[Any], jax.Array] | None = None
    effective: Callable[[Any, jax.Array], jax.Array] | None = None
    bounds: tuple[float, float] = (-np.inf, np.inf)
    dtype: str = "float32"
    default_params: Any = ()
    draw: Callable[[Any, Any], np.ndarray] | None = None


@struct.dataclass
class OvercookedParams:
    """Parameters of Overcooked.

    Attributes:
      shaped_reward: weight of the rewards for steps towards a dish, which are added to those for
        deliveries.
    """

    shaped_reward: float = 0.0


def list_games() -> list[str]:
    """The names of all tasks."""
    return sorted([*MPE, *(f"SMAX-{name}" for name in SCENARIOS), *OTHERS])


def make_game(name: str, task: str, params: Mapping[str, Any]) -> Game:
    """The game called `task`.

    Args:
      name: name of the environment, for messages.
      task: one of `list_games`.
      params: what the user gives.

    Raises:
      ConfigError: for an unknown or wrong parameter.
    """
    if task in MPE:
        return _particles(name, task, params)
    if task.startswith("SMAX-"):
        return _smax(name, task.removeprefix("SMAX-"), params)
    return OTHERS[task](name, params)


def _particles(name: str, task: str, params: Mapping[str, Any]) -> Game:
    constructor = getattr(import_environment("mpe"), MPE[task])
    defaults = _numbers_of(constructor) | PHYSICS
    if "action_type" in defaults:
        _require_one_of("action_type", params, ("Discrete", "Continuous"))
    suite_env = _construct(name, constructor, fit_params(name, params, defaults))
    limit, suite_env.max_steps = suite_env.max_steps, ENDLESS

    def draw(suite_env: Any, state: Any) -> np.ndarray:
        from jaxdrl.envs.drawing.jaxmarl_scenes import particles

        return particles(suite_env, state)

    return Game(suite_env, limit, draw=draw)


def _smax(name: str, scenario: str, params: Mapping[str, Any]) -> Game:
    module = import_environment("smax")
    fixed = {
        "num_allies",
        "num_enemies",
        "use_self_play_reward",
        "smacv2_position_generation",
        "smacv2_unit_type_generation",
        "action_type",
    }
    defaults = _numbers_of(module.SMAX) | _numbers_of(module.HeuristicEnemySMAX)
    limit = inspect.signature(module.SMAX.__init__).parameters["max_steps"].default
    defaults = {key: value for key, value in defaults.items() if key not in fixed}
    _require_one_of("attack_mode", params, ("closest", "random"))
    _require_one_of("observation_type", params, ("unit_list", "conic"))
    kwargs = fit_params(name, params, defaults)
    kwargs |= {"scenario": module.map_name_to_scenario(scenario), "max_steps": ENDLESS}
    suite_env = _construct(name, module.HeuristicEnemySMAX, kwargs)
    health = -len(suite_env.own_features)  # the first of an agent's own features, which are last

    def is_alive(obs: Any) -> jax.Array:
        return obs["obs"][health] > 0

    def of_the_living(state: Any, action: jax.Array) -> jax.Array:
        # SMAX keeps what the dead did last in its state, where nothing reads it.
        alive = state.state.unit_alive[: suite_env.num_allies]
        return jnp.where(alive, action, suite_env.num_movement_actions - 1)

    def draw(suite_env: Any, state: Any) -> np.ndarray:
        from jaxdrl.envs.drawing.jaxmarl_scenes import battle

        return battle(suite_env, state)

    return Game(suite_env, limit, suite_env.get_avail_actions, is_alive, of_the_living, draw=draw)


def _overcooked(name: str, params: Mapping[str, Any]) -> Game:
    module = import_environment("overcooked_v2")
    defaults = _numbers_of(module.OvercookedV2) | {
        "layout": "cramped_room",
        "observation_type": "default",
        "agent_view_size": None,
        "shaped_reward": 0.0,
    }
    _require_one_of("observation_type", params, ("default", "featurized"))
    if not isinstance(params.get("layout"), module.Layout):
        _require_one_of("layout", params, tuple(module.overcooked_v2_layouts))
    own = {key: value for key, value in params.items() if key == "layout"}
    others = {key: value for key, value in params.items() if key != "layout"}
    kwargs = fit_params(name, others, defaults) | own
    shaped_reward = kwargs.pop("shaped_reward")
    limit = inspect.signature(module.OvercookedV2.__init__).parameters["max_steps"].default
    suite_env = _construct(name, module.OvercookedV2, kwargs | {"max_steps": ENDLESS})
    is_image = kwargs["observation_type"] == "default"

    def draw(suite_env: Any, state: Any) -> np.ndarray:
        from jaxdrl.envs.drawing.jaxmarl_boards import kitchen

        return kitchen(suite_env, state)

    return Game(
        suite_env,
        limit,
        bounds=(0, 127) if is_image else (-np.inf, np.inf),
        dtype="int8" if is_image else "float32",  # small counts, the largest a pot's time of 20
        default_params=OvercookedParams(shaped_reward=shaped_reward),
        draw=draw,
    )


def _hanabi(name: str, params: Mapping[str, Any]) -> Game:
    constructor = import_environment("hanabi").Hanabi
    defaults = _numbers_of(constructor) | {"hand_size": None}
    del defaults["num_ranks"]  # needs the number of cards of each rank
    suite_env = _construct(name, constructor, fit_params(name, params, defaults))

    def draw(suite_env: Any, state: Any) -> np.ndarray:
        from jaxdrl.envs.drawing.jaxmarl_boards import fireworks

        return fireworks(suite_env, state)

    legal = suite_env.get_legal_moves
    return Game(suite_env, None, legal, _is_on_turn, bounds=(0, 1), draw=draw)


def _is_on_turn(obs: Any) -> jax.Array:
    """The last action of Hanabi, to do nothing, is legal for those alone who wait."""
    return ~obs["action_mask"][-1]


def _coins(name: str, params: Mapping[str, Any]) -> Game:
    """One game an episode: JaxMARL's are of ten, between which all places are drawn anew."""
    constructor = import_environment("coin_game").CoinGame
    defaults = _numbers_of(constructor)
    limit = defaults.pop("num_inner_steps")
    del defaults["num_outer_steps"]
    kwargs = fit_params(name, params, defaults)
    endless = {"num_inner_steps": ENDLESS, "num_outer_steps": 1}
    suite_env = _construct(name, constructor, kwargs | endless)

    def draw(suite_env: Any, state: Any) -> np.ndarray:
        from jaxdrl.envs.drawing.jaxmarl_boards import coins

        return coins(suite_env, state)

    return Game(suite_env, limit, bounds=(0, 1), draw=draw)


def _numbers_of(constructor: Callable) -> dict[str, Any]:
    """Its parameters that are numbers or words, with their defaults, but for the limit."""
    signature = inspect.signature(constructor.__init__)  # type: ignore[misc]
    kinds = (bool, int, float, str)
    found = {p.name: p.default for p in signature.parameters.values() if type(p.default) in kinds}
    found.pop("max_steps", None)
    return found


def _require_one_of(param: str, params: Mapping[str, Any], known: tuple[str, ...]) -> None:
    value = params.get(param, known[0])
    if value not in known:
        near = nearest(value, list(known)) if isinstance(value, str) else f"such as {known[0]!r}"
        raise ConfigError(f"env_params.{param} = {value!r}: unknown; {near}")


def _construct(name: str, constructor: Callable, kwargs: Mapping[str, Any]) -> Any:
    """The environment; what JaxMARL says against its parameters becomes a ConfigError."""
    try:
        with default_promotion():
            return partial(constructor, **kwargs)()
    except (AssertionError, ValueError, TypeError) as error:
        raise ConfigError(f"{name}: JaxMARL refuses {dict(kwargs)}: {error}") from error


OTHERS = {"coin_game": _coins, "hanabi": _hanabi, "overcooked_v2": _overcooked}
"""What makes the games that are neither of particles nor battles."""
