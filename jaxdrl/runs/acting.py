"""Whether a run has actors, on which devices, and what cannot be done with them."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from jaxdrl.actors.asynchronous import asynchronous
from jaxdrl.checks import nearest_divisors, require
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.core.types import Algorithm
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.envs.domain_randomization import ON_HOST
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.suites import registry
from jaxdrl.errors import ConfigError
from jaxdrl.runs.backend import NOTHING_BESIDE, Beside, beside_mesh
from jaxdrl.runs.overrides import Overrides


def is_on_host(experiment: Experiment, overrides: Overrides) -> bool:
    """Whether the environment of a run is one of the host; it need not be made for that."""
    if overrides.env is not None:
        return overrides.env.host is not None
    return registry.is_on_host(experiment.env)


def require_possible(experiment: Experiment, overrides: Overrides, hosts: Hosts) -> Beside:
    """Refuses what actors cannot do; how many devices they want beside those of the learner.

    Raises:
      ConfigError: naming the setting and what works.
    """
    acting, on_host = experiment.acting, is_on_host(experiment, overrides)
    if not on_host and not acting.is_given:
        for name in ("actors", "actor_devices"):
            works = "is for environments of the host, or with staleness or max_staleness; leave it"
            is_default = getattr(acting, name) == getattr(type(acting)(), name)
            require(is_default, name, getattr(acting, name), works)
        return NOTHING_BESIDE
    works = "is renewed between updates, and actors are ahead of those; must be 0 where actors act"
    pool_size = getattr(experiment.algorithm, "pool_size", 0)
    require(pool_size == 0, "pool_size", pool_size, works)
    what = f"env = {experiment.env!r}: is stepped by actors"
    if not hosts.is_alone:
        raise ConfigError(f"{what}, which works in one process; run it with JAXDRL_HOSTS=off")
    if experiment.sweep is not None:
        raise ConfigError(
            f"{what}, and a sweep trains its members in one program; train them one after the "
            "other with jaxdrl train, and compare them with jaxdrl plot"
        )
    if on_host:
        require(not experiment.randomize, "randomize", experiment.randomize, ON_HOST)
    works = "looks into a step that acts as well; must be False where actors act"
    require(not experiment.debug_nans, "debug_nans", True, works)
    num_envs = experiment.algorithm.num_envs
    works = (
        f"must divide num_envs = {num_envs}, such as {nearest_divisors(acting.actors, num_envs)}"
    )
    require(num_envs % acting.actors == 0, "actors", acting.actors, works)
    if not on_host:
        works = "must be 1 for an environment in JAX, which one program steps"
        require(acting.actors == 1, "actors", acting.actors, works)
    overlaps = acting.is_free or acting.bound > 0
    return Beside(acting.actor_devices, num_on_cpu=1 if overlaps else 0)


def actor_devices(
    experiment: Experiment, overrides: Overrides, mesh: Mesh, beside: Beside
) -> list[jax.Device]:
    """The devices on which actors compute actions; empty where there are no actors.

    Raises:
      ConfigError: if there are fewer than are asked for.
    """
    acting = experiment.acting
    if not acting.is_given and not is_on_host(experiment, overrides):
        return []
    found = beside_mesh(mesh, beside)
    if acting.actor_devices is not None and len(found) < acting.actor_devices:
        has = f"{len(jax.local_devices())} devices, {mesh.devices.size} of which learn"
        raise ConfigError(
            f"actor_devices = {acting.actor_devices}: there are {has}; take fewer, or fewer devices"
        )
    return found


def describe(
    acting: ActingConfig, env: Environment, devices: Sequence[jax.Device], mesh: Mesh
) -> str:
    """What is printed about the actors of a run, and what their mode promises."""
    num = f"{acting.actors} actor{'s' if acting.actors > 1 else ''}"
    is_shared = devices[0] in set(mesh.devices.flat)
    own = f"{len(devices)} device{'s' if len(devices) > 1 else ''} beside the learner"
    words = f"acting: {num} on {'a device of the learner' if is_shared else own}; "
    updates = f"{acting.bound} update{'s' if acting.bound > 1 else ''} old"
    if acting.is_free:
        return f"{words}data at most {updates}, as timing has it, so that no two runs are equal"
    words += f"data exactly {updates}" if acting.bound else "acting and learning in turn"
    if env.host is None or env.default_params.replays:
        return f"{words}; a run that is interrupted resumes to the same bits"
    has_limit = env.max_episode_steps is not None
    why = "seeds and actions do not decide them" if has_limit else "their length has no limit"
    return (
        f"{words}; a run that is interrupted resumes its learner exactly, and its episodes begin "
        f"anew, since {why}"
    )


def with_actors(algorithm: Algorithm, experiment: Experiment, env: Environment) -> Algorithm:
    """The algorithm with a state for actors, where the run has them.

    Raises:
      ConfigError: if the algorithm acts only within its own program.
    """
    acting = experiment.acting
    if env.host is None and not acting.is_given:
        return algorithm
    if env.host is not None and algorithm.acting is None:
        raise ConfigError(
            f"{env.name}: runs on the host, and this algorithm acts only in its own program; give "
            "its jaxdrl.Algorithm an `acting`, as jaxdrl.algorithms.acting.acting_of makes it"
        )
    return asynchronous(algorithm, 0 if acting.is_free else acting.bound)
