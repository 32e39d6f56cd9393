"""The store of a single process, and that of a coordinator whose client is pretended."""

import threading
import time

import jax
import pytest

from jaxdrl.distributed.store import coordinator_store, local_store


class Client:
    """JAX's client of a coordinator, as far as a store uses it; the texts are in `texts`."""

    def __init__(self):
        self.texts, self.fault = {}, None

    def key_value_set(self, key, text, allow_overwrite=False):
        if key in self.texts and not allow_overwrite:
            raise jax.errors.JaxRuntimeError("ALREADY_EXISTS: key")
        self.texts[key] = text

    def key_value_try_get(self, key):
        return self._text(key, "NOT_FOUND: key")

    def blocking_key_value_get(self, key, milliseconds):
        assert type(milliseconds) is int
        deadline = time.monotonic() + milliseconds / 1000
        while key not in self.texts and time.monotonic() < deadline:
            time.sleep(0.001)
        return self._text(key, "DEADLINE_EXCEEDED: GetKeyValue() timed out")

    def key_value_dir_get(self, start):
        assert start.endswith("/")  # JAX gives nothing without it
        return [(key, text) for key, text in self.texts.items() if key.startswith(start)]

    def _text(self, key, absent):
        if self.fault is not None:
            raise jax.errors.JaxRuntimeError(self.fault)
        if key not in self.texts:
            raise jax.errors.JaxRuntimeError(absent)
        return self.texts[key]


@pytest.fixture(params=["local", "coordinator"])
def store(request):
    return local_store() if request.param == "local" else coordinator_store(Client(), "jaxdrl/1")


def test_a_text_is_read_until_another_replaces_it(store):
    assert store.get("a") is None
    for text in ("one", "two", ""):
        store.set("a", text)
        assert store.get("a") == text
        assert store.wait("a", 0.0) == text
    assert store.get("b") is None


def test_waiting_ends_with_the_text_or_after_its_time(store):
    started = time.monotonic()
    assert store.wait("late", 0.05) is None
    assert 0.04 <= time.monotonic() - started < 5
    timer = threading.Timer(0.05, store.set, ("late", "text"))
    timer.start()
    assert store.wait("late", 30) == "text"
    assert time.monotonic() - started < 10
    timer.join()


def test_keys_below_a_prefix_are_listed_without_it(store):
    for key in ("peers/0", "peers/10", "peers", "peersons/1", "a/peers/2", "peers/3/x"):
        store.set(key, f"of {key}")
    expected = [("0", "of peers/0"), ("10", "of peers/10"), ("3/x", "of peers/3/x")]
    assert sorted(store.all("peers")) == expected
    assert store.all("none") == []


def test_two_roots_of_a_coordinator_do_not_meet():
    client = Client()
    one, two = coordinator_store(client, "jaxdrl/1"), coordinator_store(client, "jaxdrl/12")
    one.set("a/b", "of one")
    assert (two.get("a/b"), two.all("a")) == (None, [])
    assert client.texts == {"jaxdrl/1/a/b": "of one"}


def test_an_error_of_the_coordinator_is_not_taken_for_an_absent_text():
    client = Client()
    client.fault = "UNAVAILABLE: failed to connect to all addresses"
    store = coordinator_store(client, "root")
    for ask in (lambda: store.get("a"), lambda: store.wait("a", 0.01)):
        with pytest.raises(jax.errors.JaxRuntimeError, match="UNAVAILABLE"):
            ask()
