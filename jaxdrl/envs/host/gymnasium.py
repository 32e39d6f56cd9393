"""Gymnasium environments, such as `gymnasium/CartPole-v1`, and those of the user."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from jaxdrl.annotations import shown
from jaxdrl.checks import require, require_count, require_number
from jaxdrl.envs.host.in_process import step_in_process
from jaxdrl.envs.host.processes import step_in_processes
from jaxdrl.envs.host.protocol import HostBatch, HostEnvironment, on_host
from jaxdrl.envs.host.replay import replays as find_out
from jaxdrl.envs.host.spaces import Actions, Observations, actions_of, observations_of, require_fit
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.errors import ConfigError

STEP_TIMEOUT = 60.0
"""Seconds that a step or reset may take in a process of its own."""

REPLAYED = ("classic_control", "toy_text", "mujoco")
"""The parts of Gymnasium whose episodes are known to follow from their seeds and actions."""

OTHERS = ("phys2d/", "tabular/", "GymV")
"""How names of tasks begin that are not listed: some run in JAX, others want a further package."""

NO_PARAMS = {"render_mode", "kwargs", "self"}
"""Arguments of constructors that are set here, or that are no argument."""


class _Described(NamedTuple):
    """What one copy says about itself."""

    name: str
    observations: Observations
    actions: Actions
    max_episode_steps: int | None


def from_gymnasium(
    make_env: Callable[[], gymnasium.Env],
    *,
    name: str | None = None,
    max_episode_steps: int | None = None,
    processes: bool = False,
    step_timeout: float = STEP_TIMEOUT,
    replays: bool | None = None,
    make_drawn: Callable[[], gymnasium.Env] | None = None,
) -> Environment:
    """A Gymnasium environment of your own.

    One copy is made and reset at once, to see its spaces. The limit on its episodes is that of
    `gymnasium.wrappers.TimeLimit`, which `gymnasium.make` adds.

    Args:
      make_env: makes one copy, a new one at each call.
      name: in messages and files; None takes the name in Gymnasium's registry or of the class.
      max_episode_steps: truncates episodes after so many steps, besides limits of its own.
      processes: whether each copy gets a process of its own. That costs several times as much as a
        cheap step, and pays where a step takes a millisecond or may crash. `make_env` is sent
        there, and a script begins its work below `if __name__ == "__main__":`.
      step_timeout: seconds after which a copy in a process of its own counts as hanging.
      replays: whether the seed of an episode and its actions decide it to the bit; None finds out,
        with two copies and some 64 steps of each.
      make_drawn: makes a copy with `render_mode="rgb_array"` where a picture is wanted; None takes
        `make_env`.

    Raises:
      ConfigError: if `make_env` makes anything but one environment that does not reset itself, with
        spaces that have a counterpart.
    """
    what = "must be a function that makes an environment, such as lambda: MyEnv()"
    require(callable(make_env), "make_env", shown(make_env), what)
    require_number("step_timeout", step_timeout, low=0, above=True)
    if max_episode_steps is not None:
        require_count("max_episode_steps", max_episode_steps)
        make_env = partial(_limited, make_env, max_episode_steps)
        make_drawn = make_drawn and partial(_limited, make_drawn, max_episode_steps)
    described = _describe(make_env, name)
    make = _maker(described, make_env, processes, step_timeout)
    if replays is None:
        can = described.max_episode_steps is not None  # without a limit it does not matter
        replays = can and find_out(make, described.actions.space)
    drawn = make_drawn and _maker(described, make_drawn, processes, step_timeout)
    return on_host(
        described.name,
        HostEnvironment(make=make, replays=replays, make_drawn=drawn),
        described.observations.space,
        described.actions.space,
        max_episode_steps=described.max_episode_steps,
    )


def _maker(
    described: _Described, make_env: Callable[[], Any], processes: bool, timeout: float
) -> Callable[[int], HostBatch]:
    parts = described.name, make_env, described.observations, described.actions
    if processes:
        return partial(step_in_processes, *parts, timeout)
    return partial(step_in_process, *parts)


def _limited(make_env: Callable[[], Any], max_episode_steps: int) -> Any:
    return gymnasium.wrappers.TimeLimit(make_env(), max_episode_steps)


def _describe(make_env: Callable[[], Any], name: str | None) -> _Described:
    """Makes one copy, looks at it, and closes it."""
    env = make_env()
    if not isinstance(env, gymnasium.Env) or isinstance(env, gymnasium.vector.VectorEnv):
        _refuse(env, name)
    try:
        name = name or (env.spec.id if env.spec else type(env.unwrapped).__name__)
        observations = observations_of(env.observation_space, f"{name}: the observation space")
        actions = actions_of(env.action_space, f"{name}: the action space")
        limit = _limit_of(env, name)
        obs, _ = env.reset(seed=0)
        require_fit(obs, observations.space, f"{name}: the observation")
    finally:
        env.close()
    return _Described(name, observations, actions, limit)


def _refuse(env: Any, name: str | None) -> None:
    if isinstance(env, gymnasium.vector.VectorEnv):
        why = (
            "is a vector environment, which resets its copies by itself; pass a function that "
            "makes one gymnasium.Env, and jaxdrl makes the copies"
        )
    else:
        why = "is not a gymnasium.Env; docs/host-environments.md has the wrappers of other packages"
    raise ConfigError(f"{name or 'make_env'}: what it makes, a {type(env).__name__}, {why}")


def _limit_of(env: Any, name: str) -> int | None:
    """The smallest limit of the wrappers around an environment."""
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.Autoreset):
            raise ConfigError(
                f"{name}: the wrapper Autoreset resets it by itself, so that steps are taken that "
                "are none; make it without that wrapper"
            )
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            limits.append(env._max_episode_steps)
        env = env.env
    return min(limits, default=None)


def make_gymnasium(
    task: str,
    *,
    max_episode_steps: int | str | None = "default",
    processes: Any = False,
    step_timeout: float = STEP_TIMEOUT,
    **params: Any,
) -> Environment:
    """An environment in Gymnasium's registry.

    Args:
      task: its name, such as CartPole-v1.
      max_episode_steps: None for no limit; "default" for the registered one.
      processes: as in `from_gymnasium`.
      step_timeout: likewise.
      **params: arguments of its constructor.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones, and for a package that
        is not installed.
    """
    name = f"gymnasium/{task}"
    require_task("gymnasium", task, sorted(gymnasium.registry))
    require(processes in (0, 1), "env_params.processes", processes, "must be 0 or 1")
    spec = gymnasium.spec(task)
    try:
        defaults = _params_of(spec)
    except (ImportError, gymnasium.error.Error) as error:
        raise ConfigError(f"{name}: {_missing(spec, error)}") from error
    fitted = fit_params(name, params, defaults)
    given = {param: fitted[param] for param in params}
    limit = episode_limit(max_episode_steps, spec.max_episode_steps)
    # The passive checker would look at each step once more; `jaxdrl check` is for that.
    make_env = partial(
        gymnasium.make,
        task,
        max_episode_steps=-1 if limit is None else limit,
        disable_env_checker=True,
        **given,
    )
    part = str(spec.entry_point).removeprefix("gymnasium.envs.").split(".")[0].split(":")[0]
    try:
        return from_gymnasium(
            make_env,
            name=name,
            processes=bool(processes),
            step_timeout=step_timeout,
            replays=True if part in REPLAYED else None,
            make_drawn=partial(make_env, render_mode="rgb_array"),
        )
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f"{name}: {_missing(spec, error)}") from error


def _params_of(spec: EnvSpec) -> dict[str, Any]:
    """The arguments of the constructor with their defaults."""
    creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else None
    parameters = inspect.signature(creator or spec.entry_point).parameters.values()  # type: ignore[arg-type]
    named = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {name: x for name, x in (named | spec.kwargs).items() if name not in NO_PARAMS}


def _missing(spec: EnvSpec, error: Exception) -> str:
    """What installs what an environment needs."""
    if "mujoco" in str(spec.entry_point):
        return "MuJoCo is not installed; install it with: pip install 'jaxdrl[mujoco]'"
    return f"cannot be imported: {error}"


def list_tasks() -> list[str]:
    """The newest version of every environment that Gymnasium has registered."""
    newest: dict[str, EnvSpec] = {}
    for spec in gymnasium.registry.values():
        key = f"{spec.namespace}/{spec.name}"
        if key not in newest or (spec.version or 0) > (newest[key].version or 0):
            newest[key] = spec
    return sorted(spec.id for spec in newest.values() if not spec.id.startswith(OTHERS))


SUITE = Suite(make=make_gymnasium, list_tasks=list_tasks, on_host=True)
