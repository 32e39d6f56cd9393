"""How acting and learning overlap. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

from dataclasses import dataclass

from jaxdrl.checks import Count, Index, Positive, check_fields, require

THREAD = "actor-"
"""How the names of threads that act begin."""

DEFAULT_STALENESS = 1
"""How many updates old the data of environments of the host is, unless that is given."""


@dataclass(frozen=True)
class ActingConfig:
    """How actors and the learner share the work.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    staleness: Index | None = None
    """Deterministic mode: the data of each update is collected by the policy of exactly this many
    updates before, so that acting and learning overlap; 0: one after the other. None: 1 for
    environments of the host, and 0 in one program for those in JAX."""
    max_staleness: Count | None = None
    """Free mode, instead of staleness: actors run as fast as they can, and data is at most this
    many updates old; the result depends on timing. None: deterministic."""
    actors: Count = 1
    """Threads that step the environments of the host, each an equal part of them; runs with
    different numbers differ by rounding."""
    actor_devices: Index | None = None
    """Devices on which actors compute actions, beside those of the learner; 0: on the learner's.
    None: one on a CPU of several cores where acting and learning overlap, else 0."""
    actor_timeout: Positive = 60.0
    """Seconds after which a step of the environments counts as hung, and they are made anew."""
    actor_retries: Index = 3
    """Failures in a row of the environments of one actor after which the run stops."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_staleness is not None:
            works = "must be None with max_staleness, which is free mode; leave one of them"
            require(self.staleness is None, "staleness", self.staleness, works)

    @property
    def is_given(self) -> bool:
        """Whether a mode is asked for."""
        return self.staleness is not None or self.max_staleness is not None

    @property
    def is_free(self) -> bool:
        """Whether data may be of any age up to the bound."""
        return self.max_staleness is not None

    @property
    def bound(self) -> int:
        """The age of the data in updates: at most in free mode, else exactly."""
        if self.max_staleness is not None:
            return self.max_staleness
        return DEFAULT_STALENESS if self.staleness is None else self.staleness
