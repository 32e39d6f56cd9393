"""What a server takes from its clients at the most."""

from __future__ import annotations

from dataclasses import dataclass

from jaxdrl.checks import Count, NonNegative, Positive, check_fields


@dataclass(frozen=True)
class Limits:
    """Limits of a server. Raises ConfigError for values that cannot work."""

    max_body: Count = 4_194_304
    """Most bytes in the body of a request."""
    max_json: Count = 1_048_576
    """Most bytes of it if it is JSON, which takes long to read."""
    max_rows: Count = 4096
    """Most observations in a request."""
    max_sessions: Count = 10_000
    """Most sessions at a time; one that plays a batch counts once for each of its observations."""
    session_seconds: Positive = 600.0
    """Seconds without a request after which a session is forgotten."""
    body_seconds: Positive = 10.0
    """Seconds in which a request must arrive."""
    max_connections: Count = 1000
    """Most open connections."""
    grace: NonNegative = 10.0
    """Seconds for requests that are being answered when the server is told to end."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def max_bytes_in_flight(self) -> int:
        """Most bytes in the bodies of all requests that are being answered."""
        return 32 * self.max_body

    @property
    def max_rows_waiting(self) -> int:
        """Most observations that wait for the policy."""
        return 32 * self.max_rows
