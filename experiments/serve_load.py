"""Asks a server for actions as fast as it answers: answers a second and how long they take."""

import asyncio
import io
import json
import multiprocessing
import time
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import tyro
from numpy.lib import format as npy


@dataclass(frozen=True)
class Settings:
    """Who asks what."""

    url: str = "http://127.0.0.1:8000"
    """Address of the server."""
    clients: int = 64
    """Connections, each of which asks again when it is answered."""
    rows: int = 1
    """Observations in a request; more than one are sent as arrays."""
    seconds: float = 5.0
    """Duration of the measurement."""
    warmup: float = 1.0
    """Seconds before it."""
    processes: int = 1
    """Processes that the clients are spread over."""


class Client(asyncio.Protocol):
    """A connection that asks the same again and again, and notes how long answers take."""

    def __init__(self, request: bytes, seconds: list[float]) -> None:
        self.request, self.seconds, self.received = request, seconds, b""
        self.is_over = asyncio.get_running_loop().create_future()
        self.until = float("inf")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        """Sends the request."""
        self.begun = time.perf_counter()
        self.transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 200"), self.received
        now, self.received = time.perf_counter(), b""
        self.seconds.append(now - self.begun)
        if now < self.until:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over.set_result(error)


def request_of(settings: Settings) -> bytes:
    """The bytes of a request."""
    with urllib.request.urlopen(f"{settings.url}/example") as answer:
        body, kind = answer.read(), "application/json"
    if settings.rows > 1:
        obs, file = np.asarray(json.loads(body)["obs"]), io.BytesIO()
        obs = obs.astype(np.float32) if obs.dtype.kind == "f" else obs
        npy.write_array(file, np.stack([obs] * settings.rows))
        body, kind = file.getvalue(), "application/x-npy"
    host = urlsplit(settings.url).netloc
    head = f"POST /act HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def ask(settings: Settings, num: int, request: bytes) -> list[float]:
    """Seconds of each answer to `num` clients."""
    loop, address = asyncio.get_running_loop(), urlsplit(settings.url)
    where = address.hostname or "127.0.0.1", address.port or 80
    seconds: list[float] = []
    make = lambda: Client(request, seconds)  # noqa: E731
    pairs = [await loop.create_connection(make, *where) for _ in range(num)]
    await asyncio.sleep(settings.warmup)
    seconds.clear()
    begun = time.perf_counter()
    for _, client in pairs:
        client.until = begun + settings.seconds
    await asyncio.wait_for(asyncio.gather(*[c.is_over for _, c in pairs]), settings.seconds + 30)
    return seconds


def ask_in_process(given: tuple[Settings, int, bytes]) -> list[float]:
    """As `ask`, in a process of its own."""
    try:
        import uvloop

        return uvloop.run(ask(*given))
    except ImportError:
        return asyncio.run(ask(*given))


def main(settings: Settings) -> None:
    """Prints what was measured."""
    request = request_of(settings)
    share = settings.clients // settings.processes
    with multiprocessing.get_context("spawn").Pool(settings.processes) as pool:
        parts = pool.map(ask_in_process, [(settings, share, request)] * settings.processes)
    seconds = np.concatenate(parts)
    rate = len(seconds) / settings.seconds
    median, late = np.percentile(seconds, [50, 99]) * 1e3
    print(
        f"{rate:,.0f} answers/s, {rate * settings.rows:,.0f} observations/s, "
        f"median {median:.1f} ms, p99 {late:.1f} ms"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
