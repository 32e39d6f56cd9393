"""What a server counts, in the format of Prometheus."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class ServerMetrics(NamedTuple):
    """The metrics of one server.

    Attributes:
      registry: all of them.
      requests: by status.
      answers: with actions.
      observations: in those.
      batch_rows: observations that the policy took at once.
      seconds: from a request to its answer, of those that ask for actions.
      update: of the policy in use.
      versions: taken.
      refused: checkpoints.
      sessions: open.
      connections: open.
    """

    registry: CollectorRegistry
    requests: Counter
    answers: Counter
    observations: Counter
    batch_rows: Histogram
    seconds: Histogram
    update: Gauge
    versions: Counter
    refused: Counter
    sessions: Gauge
    connections: Gauge


def make_metrics() -> ServerMetrics:
    """Metrics with a registry of their own."""
    r = CollectorRegistry(auto_describe=True)
    return ServerMetrics(
        r,
        Counter(
            "jaxdrl_requests", "Requests by the status of their answer", ["status"], registry=r
        ),
        Counter("jaxdrl_answers", "Answers with actions", registry=r),
        Counter("jaxdrl_observations", "Observations that were answered", registry=r),
        Histogram(
            "jaxdrl_batch_rows", "Observations in a call of the policy", buckets=ROWS, registry=r
        ),
        Histogram(
            "jaxdrl_answer_seconds", "Time to an answer with actions", buckets=SECONDS, registry=r
        ),
        Gauge("jaxdrl_update", "Update of the policy in use", registry=r),
        Counter("jaxdrl_versions_taken", "Versions of the policy that were taken", registry=r),
        Counter("jaxdrl_checkpoints_refused", "Checkpoints that were refused", registry=r),
        Gauge("jaxdrl_sessions", "Open sessions", registry=r),
        Gauge("jaxdrl_connections", "Open connections", registry=r),
    )
