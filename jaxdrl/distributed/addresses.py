"""Addresses of hosts: `HOST:PORT`, those of this machine, and lists of nodes. Imports no jax."""

from __future__ import annotations

import ipaddress
import re
import socket

from jaxdrl.errors import ConfigError


def split(name: str, address: str) -> tuple[str, int]:
    """Host and port of an address.

    >>> split("JAX_COORDINATOR_ADDRESS", "[fe80::1]:1234")
    ('fe80::1', 1234)

    Args:
      name: what has the address, for the message.
      address: `HOST:PORT`, or `[HOST]:PORT` for one of IPv6.

    Raises:
      ConfigError: if it is not of that form.
    """
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|([\w.-]+)):(\d{1,5})", address.strip())
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise ConfigError(
            f"{name} = {address!r}: must be HOST:PORT with a port from 1 to 65535, such as "
            "'10.0.0.1:8476' or '[fd00::1]:8476'"
        )
    return found[1] or found[2], int(found[3])


def join(host: str, port: int) -> str:
    """The reverse of `split`.

    >>> join("fd00::1", 8476)
    '[fd00::1]:8476'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def own_address(coordinator: str) -> str:
    """The address of this machine that a coordinator's name stands for, with its port.

    Raises:
      ConfigError: if the name stands for none that the other processes can reach.
    """
    host, port = split("coordinator", coordinator)
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        _refuse(coordinator, f"{host!r} is the name of no host here ({error})", port)
    found = sorted({str(info[4][0]) for info in infos}, key=lambda address: ":" in address)
    own = [address for address in found if is_own(address)]
    if not own:
        shown = ", ".join(found)
        _refuse(coordinator, f"{host!r} is {shown} here, which is no address of this host", port)
    reachable = [a for a in own if not ipaddress.ip_address(a).is_loopback]
    if not reachable and host != "localhost" and host not in own:
        _refuse(
            coordinator,
            f"{host!r} is {own[0]} here, which no other host can reach; take it out of /etc/hosts, "
            f"or set JAX_COORDINATOR_ADDRESS=127.0.0.1:{port} for processes of this host alone",
            port,
        )
    return join((reachable or own)[0], port)


def _refuse(coordinator: str, why: str, port: int) -> None:
    raise ConfigError(
        f"process 0 cannot be the coordinator at {coordinator}: {why}. Set JAX_COORDINATOR_ADDRESS "
        "to a name or address of the host of process 0, in every process, or "
        f"JAX_COORDINATOR_BIND_ADDRESS=ADDRESS:{port} to the one that process 0 listens on"
    )


def is_own(address: str) -> bool:
    """Whether an IP address is one of this machine, not that of all its interfaces."""
    if ipaddress.ip_address(address).is_unspecified:
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def expand_nodes(name: str, nodes: str) -> list[str]:
    """Names of the hosts in a compressed list of SLURM, in order.

    >>> expand_nodes("SLURM_STEP_NODELIST", "gpu[03-04,09],login1")
    ['gpu03', 'gpu04', 'gpu09', 'login1']

    Args:
      name: the variable that has the list, for the message.
      nodes: the list.

    Raises:
      ConfigError: if it is not such a list.
    """
    parts = re.findall(r"(?:[^\[\],]+|\[[^\[\]]+\])+", nodes)
    if ",".join(parts) != nodes:
        raise ConfigError(f"{name} = {nodes!r}: must be a list of nodes, such as 'gpu[03-05,09]'")
    return [host for part in parts for host in _expand(name, part)]


def _expand(name: str, part: str) -> list[str]:
    """Hosts of one name, which may have several brackets, as `r[1-2]n[1-2]` has."""
    found = re.search(r"\[([^\[\]]+)\]", part)
    if found is None:
        return [part]
    head, tails = part[: found.start()], _expand(name, part[found.end() :])
    hosts = []
    for piece in found[1].split(","):
        first, dash, last = piece.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(
                f"{name}: {part!r} must have numbers in brackets, such as '[03-05,09]'"
            )
        numbers = range(int(first), int(last or first) + 1)
        hosts += [f"{head}{n:0{len(first)}}{tail}" for n in numbers for tail in tails]
    return hosts
