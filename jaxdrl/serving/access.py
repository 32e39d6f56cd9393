"""Who may ask a server: those with its token, or anybody on this machine if it has none."""

from __future__ import annotations

import functools
import hmac
import ipaddress
import socket
from collections.abc import Mapping

from jaxdrl.checks import require
from jaxdrl.errors import ConfigError
from jaxdrl.serving.refusals import RefusedError

VARIABLE = "JAXDRL_TOKEN"
"""The environment variable with the token."""

MIN_LENGTH = 16

OPEN = ("/healthz", "/readyz")
"""What needs no token, since what asks for it is often configured without one."""


def read_token(environ: Mapping[str, str]) -> bytes | None:
    """The token of a server, None without one.

    Raises:
      ConfigError: if it is too short or has characters that a header cannot have.
    """
    token = environ.get(VARIABLE)
    if token is None:
        return None
    if len(token) < MIN_LENGTH or not all("!" <= c <= "~" for c in token):
        raise ConfigError(
            f"{VARIABLE}: must be at least {MIN_LENGTH} visible ASCII characters without spaces, "
            'such as those of: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return token.encode()


def resolve(host: str, token: bytes | None) -> tuple[socket.AddressFamily, str]:
    """The address of a host; one that other machines reach only with a token.

    Raises:
      ConfigError: if there is no such host, or a token is missing.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        found = []
    works = "must be an address of this machine, such as 127.0.0.1 or localhost"
    require(bool(host) and bool(found), "host", host, works)
    family, *_, where = found[0]
    address = str(where[0])
    if token is None and not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise ConfigError(
            f"host = {host!r}: can be reached from other machines, which needs a token of "
            f"at least {MIN_LENGTH} characters in the environment variable {VARIABLE}; without one "
            "use 127.0.0.1"
        )
    return family, address


@functools.lru_cache(maxsize=256)
def names_this_machine(host: bytes) -> bool:
    """Whether a header `Host` has localhost or a loopback address, with or without a port."""
    text = host.decode("latin1").strip().lower()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def require_access(
    token: bytes | None,
    path: str,
    given: bytes | None,
    origin: bytes | None,
    host: bytes | None = None,
) -> None:
    """Refuses a request that may not be answered.

    Args:
      token: of the server.
      path: that is asked for.
      given: the header `Authorization`.
      origin: the header `Origin`, which browsers send with what a web page asks for.
      host: the header `Host`. A web page whose name was made to lead here sends that name.

    Raises:
      RefusedError: if the token is missing or another; and without one, if a web page asks.
    """
    if token is None:
        if origin is not None:
            words = f"origin: a web page may ask only a server with a token ({VARIABLE})"
            raise RefusedError(403, words, "origin")
        if host is not None and not names_this_machine(host):
            words = f"host: must be 127.0.0.1 or localhost, unless there is a token ({VARIABLE})"
            raise RefusedError(403, words, "host")
        return
    if path in OPEN:
        return
    scheme, _, words_given = (given or b"").partition(b" ")
    is_right = hmac.compare_digest(words_given.strip(), token)
    if scheme.lower() != b"bearer" or not is_right:
        kind = "is missing" if given is None else "is not that of this server"
        words = f"authorization: the token {kind}; send the header Authorization: Bearer TOKEN"
        raise RefusedError(401, words, "authorization", ((b"www-authenticate", b"Bearer"),))
