"""A server, and what its clients may do to it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOOD = {"obs": [0.0, 0.0, 0.0, 0.0]}
JSON = {"content-type": "application/json"}
HEAD = b"POST /act HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@dataclass(frozen=True)
class Settings:
    """How much of it."""

    clients: int = 32
    """Clients that ask while the server is told to end, or is killed."""
    sessions: int = 10_000
    """Sessions that are opened, as many as the server takes."""
    megabytes: int = 2048
    """Size of the large body."""


class Server:
    """`jaxdrl serve` in a process of its own.

    Attributes:
      process: of the server.
      port: that it listens on.
    """

    def __init__(self, run_dir: Path, port: int, *flags: str, out: str = os.devnull) -> None:
        program = "from jaxdrl.cli.main import main; main()"
        words = [sys.executable, "-c", program, "serve", str(run_dir)]
        self.port = port
        words += ["--port", str(port), *flags]
        with open(out, "w") as file:
            self.process = subprocess.Popen(words, stdout=file, stderr=file)
        for _ in range(600):
            with suppress(OSError):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            time.sleep(0.1)
        raise TimeoutError("the server is not ready after a minute")

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 10) -> tuple[int, Any]:
        """`(status, what the answer says)`."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as link:
            link.request(method, path, body if body is None else json.dumps(body), JSON)
            answer = link.getresponse()
            content = answer.read()
        return answer.status, json.loads(content) if content.startswith(b"{") else content

    def act(self, body: Any = GOOD) -> tuple[int, Any]:
        """As `ask`, for an action."""
        return self.ask("POST", "/act", body)

    def send(self, data: bytes, timeout: float = 20) -> bytes:
        """What is answered to some bytes, until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as link:
            link.sendall(data)
            return receive(link)

    @property
    def megabytes(self) -> float:
        """Memory of the server."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def end(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.terminate()
        return self.process.wait(30)


def receive(link: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionError):
        while part := link.recv(65536):
            received += part
    return received


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def first_line(received: bytes) -> str:
    return received.partition(b"\r\n")[0].decode("latin1") or "the connection ended"


# Each of them does one thing to a server, and returns what came of it.


def refused(body: str, status: int) -> Callable[[Server, Settings], str]:
    """A body that is answered with a sentence."""

    def fault(server: Server, settings: Settings) -> str:
        data = body.encode()
        head = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(data)
        received = server.send(head + data)
        assert received.startswith(b"HTTP/1.1 %d " % status), received
        assert b"Traceback" not in received
        return json.loads(received.partition(b"\r\n\r\n")[2])["error"][:70]

    return fault


def large_body(server: Server, settings: Settings) -> str:
    before = server.megabytes
    total, sent = settings.megabytes << 20, 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as link:
        link.sendall(HEAD + b"content-length: %d\r\n\r\n" % total)
        with suppress(ConnectionError):
            while sent < total:
                sent += link.send(bytes(1 << 20))
        received = receive(link)
    grown = server.megabytes - before
    assert grown < 64, f"the server has grown by {grown:.0f} MB"
    assert not received or received.startswith(b"HTTP/1.1 413 "), received
    return f"{first_line(received)}, {sent >> 20} MB sent, memory +{grown:.0f} MB"


def half_body(server: Server, settings: Settings) -> str:
    received = server.send(HEAD + b"content-length: 100\r\n\r\n" + b"{")
    assert received.startswith(b"HTTP/1.1 408 "), received
    return first_line(received)


def slow_body(server: Server, settings: Settings) -> str:
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as link:
        link.sendall(HEAD + b"content-length: 1000\r\n\r\n")
        with suppress(ConnectionError):
            for _ in range(1000):
                link.sendall(b" ")
                time.sleep(0.02)
                link.setblocking(False)
                with suppress(BlockingIOError):
                    if link.recv(1, socket.MSG_PEEK):
                        break
                link.setblocking(True)
        link.settimeout(20)
        received = receive(link)
    assert received.startswith(b"HTTP/1.1 408 "), received
    return f"{first_line(received)} after {time.monotonic() - begun:.1f} s"


def many_sessions(server: Server, settings: Settings) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as link:
        names, statuses = [], []
        for _ in range(settings.sessions + 5):
            link.request("POST", "/sessions")
            answer = link.getresponse()
            content = json.loads(answer.read())
            statuses.append(answer.status)
            names.append(content.get("session"))
        for name in filter(None, names):
            link.request("DELETE", f"/sessions/{name}")
            link.getresponse().read()
    assert statuses.count(201) == settings.sessions and statuses.count(429) == 5, set(statuses)
    return f"{statuses.count(201)} opened, then 429"


def many_connections(server: Server, settings: Settings) -> str:
    links = []
    with suppress(OSError):
        for _ in range(300):
            link = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            link.sendall(b"POST /act HTTP/1.1\r\nhost: localhost")
            links.append(link)
    refused = sum(b" 503 " in link.recv(100, socket.MSG_PEEK) for link in links[-100:])
    late = sum(receive(link).startswith(b"HTTP/1.1 408 ") for link in links[:200])
    for link in links:
        link.close()
    assert (refused, late) == (100, 200), (refused, late)
    return "100 of 300 refused at once, the others after the time that a request has"


def reads_nothing(server: Server, settings: Settings) -> str:
    body = json.dumps(GOOD).encode()
    one = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", server.port), timeout=1) as link:
        sent = 0
        with suppress(OSError):
            for _ in range(2000):
                link.sendall(one * 50)
                sent += 50
    return f"stopped by the window of the connection, or taken, after {sent} requests"


FAULTS: dict[str, Callable[[Server, Settings], str]] = {
    "a body of 2 GB": large_body,
    "half a body": half_body,
    "a slow body": slow_body,
    "NaN": refused('{"obs": [0, 0, 0, NaN]}', 422),
    "a wrong shape": refused('{"obs": [0, 0, 0]}', 422),
    "a wrong type": refused('{"obs": "abc"}', 422),
    "deep JSON": refused("[" * 500_000, 400),
    "a huge integer": refused('{"obs": [' + "9" * 100_000 + "]}", 400),
    "10,000 sessions": many_sessions,
    "many half requests": many_connections,
    "a client that reads nothing": reads_nothing,
}
