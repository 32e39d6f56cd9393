"""Does to a server what clients, disks and operators may do, and looks at what it answers."""

import http.client
import io
import json
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import tyro
from disturbances.of_servers import (
    FAULTS,
    GOOD,
    JSON,
    Server,
    Settings,
    free_port,
)
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxdrl


@contextmanager
def load(server: Server, num: int, statuses: list[int], faults: list[str]) -> Any:
    """Clients that ask until nobody listens any more."""

    def play() -> None:
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        while True:
            try:
                link.request("POST", "/act", json.dumps(GOOD), JSON)
                answer = link.getresponse()
                answer.read()
                statuses.append(answer.status)
            except ConnectionRefusedError:
                return
            except Exception as error:
                faults.append(type(error).__name__)
                return

    threads = [threading.Thread(target=play) for _ in range(num)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "a client waits for ever"


def terminated(run_dir: Path, settings: Settings) -> str:
    server = Server(run_dir, free_port())
    statuses: list[int] = []
    faults: list[str] = []
    with load(server, settings.clients, statuses, faults):
        time.sleep(2)
        code = server.end()
    assert (code, faults, set(statuses)) == (0, [], {200}), (code, faults, set(statuses))
    return f"{len(statuses)} requests, all answered; exit code 0"


def killed(run_dir: Path, settings: Settings) -> str:
    server = Server(run_dir, free_port())
    statuses: list[int] = []
    faults: list[str] = []
    with load(server, settings.clients, statuses, faults):
        time.sleep(1)
        server.process.kill()
        server.process.wait()
    again = Server(run_dir, server.port)
    assert again.act()[0] == 200
    assert again.end() == 0
    return f"{len(faults)} of {settings.clients} clients lost a request; the next server answers"


def directory_away(run_dir: Path, settings: Settings) -> str:
    server, away = Server(run_dir, free_port(), "--seconds", "0.1"), run_dir.with_name("away")
    before = server.act()[1]
    run_dir.rename(away)
    time.sleep(1)
    assert server.act()[1] == before and server.ask("GET", "/readyz")[0] == 200
    away.rename(run_dir)
    train_on(run_dir, server, before["update"])
    assert server.end() == 0
    return "answered meanwhile, and takes new versions again"


def train_on(run_dir: Path, server: Server, update: int) -> None:
    """Trains for another update, whose policy is then taken."""
    with redirect_stdout(io.StringIO()):
        jaxdrl.resume(run_dir, total_env_steps=(update + 1) * 128)
    for _ in range(100):
        if server.act()[1]["update"] > update:
            return
        time.sleep(0.1)
    raise AssertionError("no new version was taken")


def disk_full(run_dir: Path, settings: Settings) -> str:
    server = Server(run_dir, free_port(), "--seconds", "0.1", out="/dev/full")
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))
    train_on(run_dir, server, server.act()[1]["update"])
    assert server.end() == 0
    return "answers, takes new versions and ends although it can write no byte"


ENDS = {
    "SIGTERM under load": terminated,
    "SIGKILL under load": killed,
    "the directory is away": directory_away,
    "the disk is full": disk_full,
}


def attempt(action: Callable[[], str]) -> tuple[str, bool]:
    """`(what came of it, whether that is right)`."""
    try:
        return action(), True
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200], False


def main(settings: Settings) -> None:
    """Tries everything and says what falls short."""
    table, hold = Table("fault", "what came of it", ""), []
    with tempfile.TemporaryDirectory() as temporary:
        run_dir = Path(temporary) / "run"
        ppo = {"num_envs": 16, "num_steps": 8, "num_minibatches": 2, "num_epochs": 1}
        few: Any = {"total_env_steps": 128, "num_eval_episodes": 8, "run_dir": run_dir, **ppo}
        with redirect_stdout(io.StringIO()):
            jaxdrl.run(jaxdrl.make_experiment("CartPole-v1", **few))
        shutil.copytree(run_dir, Path(temporary) / "copy")
        flags = "--body-seconds", "3", "--max-connections", "200"
        server = Server(Path(temporary) / "copy", free_port(), *flags)
        for name, fault in track(FAULTS.items(), "faults of clients"):
            words, holds = attempt(lambda fault=fault: fault(server, settings))  # type: ignore[misc]
            next_one, works = attempt(lambda: str(server.act()[0]))
            hold.append(holds and works and next_one == "200")
            table.add_row(name, words, "" if hold[-1] else f"next request: {next_one}")
        hold.append(server.end() == 0)
        for name, end in track(ENDS.items(), "ends and disks"):
            words, holds = attempt(lambda end=end: end(run_dir, settings))  # type: ignore[misc]
            hold.append(holds)
            table.add_row(name, words, "" if holds else "falls short")
    Console(highlight=False, markup=False).print(table)
    print(f"{sum(hold)} of {len(hold)} hold")
    sys.exit(not all(hold))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
