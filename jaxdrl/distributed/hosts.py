"""The processes that train one run together: how they agree, and tell each other things.

Everything goes through a key-value store that they share. Nothing else asks for the number or the
index of a process. All values are JSON.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxdrl.distributed.peers import Peers
from jaxdrl.distributed.status import Status
from jaxdrl.distributed.store import Store, local_store
from jaxdrl.errors import ConfigError

POLL_SECONDS = 0.25
"""How often a process that waits for another looks whether that has refused."""


class PeerRefusedError(ConfigError):
    """What another process refuses."""


class Hosts:
    """The processes of a run, as one of them sees them; a single process is the usual case.

    Attributes:
      store: that the processes share.
      index: of this process.
      names: the names of the hosts of all processes.
      status: what this process is doing; the training thread writes it.
      peers: watches the other processes, None for a single one.
      found_by: what said that there are several processes, such as "SLURM".
    """

    def __init__(
        self,
        store: Store | None = None,
        index: int = 0,
        names: Sequence[str] | None = None,
        peers: Peers | None = None,
        found_by: str = "",
    ) -> None:
        self.store = local_store() if store is None else store
        self.index, self.names = index, tuple(names or [socket.gethostname()])
        self.status = Status() if peers is None else peers.status
        self.peers, self.found_by = peers, found_by
        self.num_asked: dict[str, int] = {}

    @property
    def count(self) -> int:
        """Number of processes."""
        return len(self.names)

    @property
    def is_first(self) -> bool:
        """Whether this is process 0, which decides, writes and prints."""
        return self.index == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.count == 1

    def name(self, index: int) -> str:
        """What messages call a process."""
        return f"process {index} on host {self.names[index]}"

    def post(self, key: str, value: Any) -> None:
        """Publishes a value in place of what was published under the key before."""
        self.store.set(key, json.dumps(value))

    def read(self, key: str) -> Any:
        """What is published under a key now, None if nothing is."""
        found = self.store.get(key)
        return None if found is None else json.loads(found)

    def wait(self, key: str) -> Any:
        """What is published under a key, as soon as it is.

        Raises:
          PeerRefusedError: if another process refuses the request meanwhile.
        """
        while True:
            found = self.store.wait(key, POLL_SECONDS)
            if found is not None:
                return json.loads(found)
            for index, text in self.store.all("refusals"):
                if int(index) != self.index:
                    raise PeerRefusedError(f"{self.name(int(index))}: {json.loads(text)}")

    def first(self, what: str, make: Callable[[], Any]) -> Any:
        """What process 0 makes, on every process; what it refuses is refused on every process.

        All processes call it in the same order, and `what` says of which call a value is.

        Raises:
          ConfigError: as `make` does.
        """
        if self.is_alone:
            return make()
        key = self._key(what)
        if self.is_first:
            with self.refusing():
                made = make()
            self.post(key, made)
            return made
        return self.wait(key)

    def gather(self, what: str, value: Any) -> list[Any]:
        """The values of all processes by their index; all call it in the same order."""
        if self.is_alone:
            return [value]
        key = self._key(what)
        self.post(f"{key}/{self.index}", value)
        return [self.wait(f"{key}/{index}") for index in range(self.count)]

    def require_same(self, what: str, value: dict[str, Any]) -> None:
        """Refuses a value that is not the same on every process.

        Raises:
          ConfigError: on all of them, naming the first process and field that differ.
        """
        everyone = self.gather(what, value)
        for index, other in enumerate(everyone):
            found = first_difference(everyone[0], other)
            if found is not None:
                field, there, here = found
                words = f"{field} = {here!r} in {self.name(index)}, and {there!r} in {self.name(0)}"
                kind = ConfigError if self.is_first else PeerRefusedError
                raise kind(f"{words}; start all processes with the same {field}")

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Within the block, what this process refuses is refused by those that wait for it."""
        try:
            yield
        except PeerRefusedError:
            raise
        except ConfigError as error:
            if not self.is_alone:
                self.post(f"refusals/{self.index}", str(error))
            raise

    def _key(self, what: str) -> str:
        number = self.num_asked[what] = self.num_asked.get(what, 0) + 1
        return f"{what}/{number}"


def first_difference(one: Any, other: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """`(dotted name, value, other value)` of the first field that differs in two JSON values."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return None if one == other else (name, one, other)
    for field in [*one, *(field for field in other if field not in one)]:
        inside = f"{name}.{field}" if name else field
        found = first_difference(one.get(field), other.get(field), inside)
        if found is not None:
            return found
    return None
