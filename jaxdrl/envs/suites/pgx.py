"""Games of Pgx, such as `pgx/tic_tac_toe`: each player is an agent with a reward of its own.

Players take turns, but every one of them observes every step and gets its own reward at it, so that
the last move of the one who loses is followed by its -1, and nothing has to change signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pgx
from flax import struct

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.core.keys import abstract_key
from jaxdrl.envs.drawing import pgx_boards
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.envs.truncation import time_limit
from jaxdrl.errors import ConfigError

GPL = "minatar-"
"""What the names of those tasks begin with whose code in Pgx, `pgx.minatar`, is under the GPL-3.

They are never imported.
"""

LONGEST = {
    "animal_shogi": 256,
    "chess": 512,
    "connect_four": 42,
    "gardner_chess": 256,
    "hex": 11 * 11 + 1,  # a swap is a move
    "kuhn_poker": 3,
    "leduc_holdem": 8,
    "othello": 60 + 59,  # after each move but the last, the other one may have to pass
    "shogi": 512,
    "sparrow_mahjong": 28,
    "tic_tac_toe": 9,
}
"""How many moves a game has at most. Games of chess and shogi are drawn after as many."""

GO = {"komi": 7.5, "history_length": 8, "max_terminal_steps": None}
"""Parameters of Go. Its games are scored after `max_terminal_steps`, twice the number of points."""

MOST = {"bool": (False, True), "float32": (0.0, 1.0), "int32": (-15, 15)}
"""The bounds of observations: planes, counts as shares, and the checkers of backgammon."""


@struct.dataclass
class GameState:
    """State of a game.

    Attributes:
      inner: Pgx's state, without its observation.
      players: which of Pgx's players each agent is, int32 `[A]`. Pgx draws who moves first; here it
        is always agent 0, and the others follow in the order of their turns.
    """

    inner: Any
    players: jax.Array


def list_tasks() -> list[str]:
    """Every game but those under the GPL, and bridge, which would have to download its deals."""
    return [task for task in pgx.available_envs() if not task.startswith(GPL)]


def make_pgx(
    task: str, *, max_episode_steps: int | str | None = "default", **params: Any
) -> Environment:
    """A game of Pgx, with an agent for each player; 2048 has a single one.

    Observations are a dictionary of what the agent sees, from its own side of the board, with its
    `action_mask`, and whether it is `on_turn`. An agent that is not may only take action 0, which
    has no effect. Agent 0 moves first.

    Args:
      task: name of the game, such as connect_four.
      max_episode_steps: truncates games after as many moves; "default" and None leave Pgx's rules,
        by which a game ends.
      **params: of Go, `komi`, `history_length` and `max_terminal_steps`.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones, and for one of the games
        whose code is under the GPL.
    """
    name = f"pgx/{task}"
    if task.startswith(GPL):
        game = task.removeprefix(GPL).title().replace("_", "")
        raise ConfigError(
            f"env = {name!r}: left out, because this part of Pgx is under the GPL-3; gymnax has "
            f"the game as {game}-MinAtar"
        )
    require_task("pgx", task, list_tasks())
    limit = episode_limit(max_episode_steps, None)
    is_go = task.startswith("go_")
    fitted = fit_params(name, params, GO if is_go else {})
    with default_promotion():
        suite_env = _make_go(task, fitted) if is_go else pgx.make(task)
    longest = suite_env._game.max_termination_steps if is_go else LONGEST.get(task)
    env = _adapt(name, suite_env)._replace(max_episode_steps=longest, draw=pgx_boards.find(task))
    return env if limit is None else time_limit(env, limit)


def _make_go(task: str, params: Mapping[str, Any]) -> Any:
    from pgx.go import Go

    return Go(size=int(task.rpartition("x")[2]), **params)


def _adapt(name: str, suite_env: Any) -> Environment:
    """Adapts a game to the protocol, with the rows of all players or, of one, without an axis."""
    num_players = suite_env.num_players
    is_single = num_players == 1
    observe = partial(_observe_single if is_single else _observe, suite_env)

    def reset(key: jax.Array, params: Any) -> tuple[Any, GameState]:
        del params
        with default_promotion():
            # Without the observation, so that nothing computes it for the player on turn only.
            inner = suite_env.init(jax.random.key_data(key)).replace(observation=())
            env_state = GameState(inner=inner, players=_in_order(inner, num_players))
            return strong_types((observe(env_state), env_state))

    def step(key: jax.Array, env_state: GameState, action: jax.Array, params: Any) -> tuple:
        del params
        with default_promotion():
            inner, players = env_state.inner, env_state.players
            move = action if is_single else action[jnp.argmax(players == inner.current_player)]
            # Untyped, because only one branch of some games uses its key, which the key-reuse
            # checker refuses.
            seed = jax.random.key_data(key)
            inner = suite_env.step(inner, move, seed).replace(observation=())
            reward = inner.rewards[0] if is_single else inner.rewards[players]
            env_state = GameState(inner=inner, players=players)
            obs, env_state, reward = strong_types((observe(env_state), env_state, reward))
        return obs, env_state, reward, inner.terminated, jnp.zeros((), jnp.bool), {}

    obs, _ = jax.eval_shape(reset, abstract_key(), ())
    of_agents = 0 if is_single else 1
    seen = {part: (x.shape[of_agents:], str(x.dtype)) for part, x in obs.items()}
    boxes = {part: spaces.Box(*MOST[dtype], shape, dtype) for part, (shape, dtype) in seen.items()}
    env = Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=spaces.Dict(boxes),
        action_space=spaces.Discrete(*seen["action_mask"][0]),
        action_mask=lambda obs: obs["action_mask"],
    )
    return (
        env
        if is_single
        else env._replace(num_agents=num_players, active=_active, is_competitive=True)
    )


def _active(obs: Any) -> jax.Array:
    return obs["on_turn"]


def _in_order(inner: Any, num_players: int) -> jax.Array:
    """Pgx's players in the order of their turns, int32 `[A]`."""
    if hasattr(inner, "_shuffled_players"):  # around the table of Mahjong
        return inner._shuffled_players
    return (inner.current_player + jnp.arange(num_players)) % num_players


def _observe(suite_env: Any, env_state: GameState) -> dict[str, jax.Array]:
    """What each agent observes, `[A, ...]`."""
    inner = env_state.inner
    on_turn = env_state.players == inner.current_player
    nothing = jnp.arange(inner.legal_action_mask.shape[0]) == 0
    return {
        "observation": jax.vmap(partial(_seen_by, suite_env, inner))(env_state.players),
        "action_mask": jnp.where(on_turn[:, None], inner.legal_action_mask, nothing),
        "on_turn": on_turn,
    }


def _observe_single(suite_env: Any, env_state: GameState) -> dict[str, jax.Array]:
    """What the only player observes."""
    inner = env_state.inner
    seen = _seen_by(suite_env, inner, inner.current_player)
    return {"observation": seen, "action_mask": inner.legal_action_mask}


def _seen_by(suite_env: Any, inner: Any, player: jax.Array) -> jax.Array:
    """The game from the side of one player.

    By the method that each game implements: the public `observe` shows the player on turn alone,
    and warns that its argument for another one will be removed.
    """
    if suite_env.id == "backgammon":  # shows the board as the player on turn sees it to both
        from pgx.backgammon import _flip_board

        is_on_turn = player == inner.current_player
        inner = inner.replace(_board=jnp.where(is_on_turn, inner._board, _flip_board(inner._board)))
    return suite_env._observe(inner, player)


SUITE = Suite(make=make_pgx, list_tasks=list_tasks)
