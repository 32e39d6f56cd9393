"""The time of an update on several hosts: `compute / H + n * latency(H) + V / bandwidth`.

Imports the standard library alone.
"""

import math
from dataclasses import dataclass
from typing import Any

Collectives = dict[str, dict[str, int]]
"""`{"count": ..., "bytes": ...}` by kind: how often each runs in an update, and the size of what it
gives on one device, over all of them."""

PASSES = {"all-reduce": 2, "all-gather": 1, "all-to-all": 1}
"""How often the bytes of a collective go over the network: an all-reduce is a sum of parts on each
host, and a gather of these."""


@dataclass(frozen=True)
class Network:
    """What connects the hosts, each of which has one link."""

    gigabits: float
    """Bandwidth of a link in one direction, in Gb/s."""
    latency_microseconds: float
    """Time from one host to another of a message without content."""


def sent_bytes(collectives: Collectives, hosts: int) -> float:
    """Bytes `V` that each of `H` hosts sends in an update.

    Each kind sends `(1 - 1 / H)` of the size of what it gives, an all-reduce twice.
    """
    share = 1 - 1 / hosts
    return sum(PASSES[kind] * share * size for kind, size in collectives["bytes"].items())


def num_messages(collectives: Collectives, hosts: int) -> int:
    """Messages that have to wait for each other in an update.

    A pass over `H` hosts takes `ceil(log2 H)` of them: as many as a tree is high.
    """
    height = math.ceil(math.log2(hosts))
    return sum(PASSES[kind] * height * num for kind, num in collectives["count"].items())


def network_seconds(collectives: Collectives, hosts: int, network: Network) -> float:
    """Seconds of an update in which nothing is computed, none of them hidden."""
    sending = 8 * sent_bytes(collectives, hosts) / (1e9 * network.gigabits)
    return sending + 1e-6 * network.latency_microseconds * num_messages(collectives, hosts)


def strong(alone: float, hosts: int, waiting: float) -> float:
    """Efficiency if the work of an update is divided: the speed over that of `H` times one host.

    Args:
      alone: seconds of the whole update on one host.
      hosts: number of hosts.
      waiting: seconds that the network adds.
    """
    return alone / (hosts * (alone / hosts + waiting))


def weak(alone: float, waiting: float) -> float:
    """Efficiency if every host does the work that one did."""
    return alone / (alone + waiting)


def predict(
    alone: float, collectives: dict[int, Collectives], networks: list[Network]
) -> list[dict[str, Any]]:
    """A row for each number of hosts and each network.

    Args:
      alone: seconds of an update on one host.
      collectives: of the program for each number of hosts.
      networks: the networks.
    """
    rows = []
    for hosts, sent in collectives.items():
        for network in networks:
            waiting = network_seconds(sent, hosts, network)
            rows.append(
                {
                    "hosts": hosts,
                    **vars(network),
                    "sent_bytes": sent_bytes(sent, hosts),
                    "messages": num_messages(sent, hosts),
                    "network_seconds": waiting,
                    "strong": strong(alone, hosts, waiting),
                    "weak": weak(alone, waiting),
                }
            )
    return rows
