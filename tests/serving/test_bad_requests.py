"""Whatever a client sends is answered with one sentence, and the next request works."""

import json
import socket
import struct
import time
from urllib.parse import urlsplit

import numpy as np
import pytest

from followed_runs import OBS, make_run
from jaxdrl.serving.limits import Limits
from served import JSON, NPY, act, ask, npy, served

GOOD = {"obs": OBS.tolist()}
LIMITS = Limits(
    max_body=100_000,
    max_json=90_000,
    max_rows=64,
    max_sessions=5,
    body_seconds=0.3,
    max_connections=12,
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("bad_requests") / "run").run_dir


@pytest.fixture(scope="module")
def url(run_dir):
    with served(run_dir, limits=LIMITS) as url:
        yield url


def with_header(header, data=b""):
    """An array whose header says something else."""
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def described(descr, shape, data=b""):
    return with_header(
        f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n", data
    )


ROW = "[0.1, 0.2, 0.3, 0.4]"
# Each row: body, status, field, how the sentence begins after the field.
BODIES = [
    (b"", 400, "body", "is empty"),
    (b"{", 400, "body", "is not JSON"),
    (b'{"obs": [0, 0, 0, 0]', 400, "body", "is not JSON"),
    (b'{"obs": [0, 0, 0, 0]} {}', 400, "body", "is not JSON"),
    (b"obs=1", 400, "body", "is not JSON"),
    (b"{'obs': [0, 0, 0, 0]}", 400, "body", "is not JSON"),
    (b'{"obs": [0, 0, 0, 0x1]}', 400, "body", "is not JSON"),
    (b"\xff\xfe{", 400, "body", "is not UTF-8 (byte 0)"),
    (b'{"obs": "\xc3\x28"}', 400, "body", "is not UTF-8 (byte 9)"),
    ('{"obs": [0]}'.encode("utf-16"), 400, "body", "is not UTF-8"),
    (b"\x00" * 100, 400, "body", "is not JSON"),
    (b"[" * 50_000, 400, "body", "is nested too deep"),
    (b'{"obs": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", 400, "body", "is nested too deep"),
    (b'{"a":' * 14_000 + b"1" + b"}" * 14_000, 400, "body", "is nested too deep"),
    (b'{"obs": [' + b"9" * 9000 + b", 0, 0, 0]}", 400, "body", "has an integer that is too long"),
    (b'{"obs": 1, "obs": [0, 0, 0, 0]}', 400, "obs", "is given twice"),
    (b'{"obs": {"a": 1, "a": 2}}', 400, "a", "is given twice"),
    (b"null", 422, "body", "must be an object"),
    (b"[0, 0, 0, 0]", 422, "body", "must be an object"),
    (b"{}", 422, "obs", "is missing"),
    (b'{"observation": [0, 0, 0, 0]}', 422, "obs", "is missing"),
    (b'{"obs": [0, 0, 0, 0], "key": 1}', 422, "key", "is unknown; there are obs, session"),
    (b'{"obs": [0, 0, 0, NaN]}', 422, "obs", "has NaN"),
    (b'{"obs": [0, 0, 0, Infinity]}', 422, "obs", "has Infinity"),
    (b'{"obs": [0, 0, 0, -Infinity]}', 422, "obs", "has -Infinity"),
    (b'{"obs": [0, 0, 0, 1e999]}', 422, "obs[3]", "= inf: is not finite"),
    (b'{"obs": [0, 0, 0, 1e39]}', 422, "obs[3]", "= 1e+39: is not finite"),
    (b'{"obs": [0, 0, 0, ' + b"9" * 4000 + b"]}", 422, "obs", "= [0, 0, 0, 99999"),
    (b'{"obs": null}', 422, "obs", "= None: must be finite numbers of shape [4]"),
    (b'{"obs": "abcd"}', 422, "obs", "= 'abcd': must be finite numbers"),
    (b'{"obs": true}', 422, "obs", "= True: must be finite numbers"),
    (b'{"obs": {"obs": [0, 0, 0, 0]}}', 422, "obs", "= {'obs': "),
    (b'{"obs": []}', 422, "obs", "has the shape [0]"),
    (b'{"obs": [0, 0, 0]}', 422, "obs", "has the shape [3]"),
    (b'{"obs": [[0, 0, 0, 0], [0, 0]]}', 422, "obs", "= [[0, 0, 0, 0], [0, 0]]: must be"),
    (b'{"obs": [[[0, 0, 0, 0]]]}', 422, "obs", "has the shape [1, 1, 4]"),
    (b'{"obs": ["0", "0", "0", "0"]}', 422, "obs", "= ['0', '0', '0', '0']: must be"),
    (b'{"obs": [false, false, true, true]}', 422, "obs", "= [False, "),
    (b'{"obs": [0, 0, 0, null]}', 422, "obs", "= [0, 0, 0, None]: must be"),
    (f'{{"obs": [{", ".join([ROW] * 65)}]}}'.encode(), 413, "obs", "has 65 observations; "),
    (b'{"obs": ' + b" " * 100_000 + b"}", 413, "body", "has more than the 100000 bytes"),
    (b'{"obs": ' + b" " * 90_000 + b"}", 413, "body", "has more than the 90000 bytes of JSON"),
    (b'{"obs": [0, 0, 0, 0], "episode_start": 1}', 422, "episode_start", "must be true or false"),
    (b'{"obs": [0, 0, 0, 0], "episode_start": null}', 422, "episode_start", "must be true"),
    (
        b'{"obs": [0, 0, 0, 0], "episode_start": [true, true]}',
        422,
        "episode_start",
        "must be true or false, or a list of them for 1 row",
    ),
    (b'{"obs": [0, 0, 0, 0], "session": 5}', 422, "session", "must be a string"),
    (b'{"obs": [0, 0, 0, 0], "session": ["a"]}', 422, "session", "must be a string"),
    (b'{"obs": [0, 0, 0, 0], "session": "../../etc"}', 404, "session", "is unknown"),
    (b'{"obs": [0, 0, 0, 0], "session": ""}', 404, "session", "is unknown"),
]
ARRAYS = [
    (b"", 400, "body", "is empty"),
    (b"\x93NUMPY", 400, "body", "is not an array"),
    (b"PK\x03\x04" + b"\x00" * 100, 400, "body", "is not an array"),
    (b"\x80\x04\x95" + b"\x00" * 100, 400, "body", "is not an array"),  # a pickle
    (npy(np.zeros((3, 4), np.float32))[:-1], 400, "body", "has 47 bytes after its header"),
    (npy(np.zeros((3, 4), np.float32)) + b"\x00", 400, "body", "has 49 bytes after its header"),
    (described("<f4", (2**62, 4)), 400, "body", "has 0 bytes after its header"),
    (described("<f4", (10**30, 10**30)), 400, "body", "has 0 bytes after its header"),
    (described("<f4", (-1, -4), b"\x00" * 16), 400, "body", "has 16 bytes after its header"),
    (described("<f4", ("__import__('os')",)), 400, "body", "is not an array"),
    (with_header("__import__('os').abort()"), 400, "body", "is not an array"),
    (with_header("(" * 900 + ")" * 900), 400, "body", "is not an array"),
    (with_header(" " * 5000), 400, "body", "is not an array"),
    (described("|O", (4,), b"\x00" * 32), 422, "obs", "must be an array of numbers"),
    (described("<U1", (4,), b"\x00" * 16), 422, "obs", "must be an array of numbers"),
    (described("|V0", (4,)), 422, "obs", "must be an array of numbers"),
    (described([("a", "<f4")], (4,), b"\x00" * 16), 422, "obs", "must be an array of numbers"),
    (described("<c8", (4,), b"\x00" * 32), 422, "obs", "must be an array of numbers"),
    (npy(np.zeros((2, 3), np.float32)), 422, "obs", "has the shape [2, 3]"),
    (npy(np.array([0, 0, 0, np.nan])), 422, "obs[3]", "= nan: is not finite"),
    (npy(np.full((5, 4), 1e300)), 422, "obs[0, 0]", "= 1e+300: is not finite"),
    (npy(np.zeros(4, bool)), 422, "obs", "= bool[4]: must be"),
    (npy(np.zeros((65, 4), np.float32)), 413, "obs", "has 65 observations; "),
]
ROWS = [(body, JSON, *row) for body, *row in BODIES] + [(body, NPY, *row) for body, *row in ARRAYS]


def check_refusal(url, run_dir, reply, status, field):
    """The sentence of a refusal; and that the server still works, and says nothing of itself."""
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {"error", "field"}
    text, said = reply.body.decode(), reply.json["error"]
    for word in ("Traceback", "site-packages", str(run_dir), '.py"', "object at 0x"):
        assert word not in text
    assert reply.json["field"] == field, said
    assert "\n" not in said and len(said) < 400
    assert act(url, GOOD).status == 200
    return said


@pytest.mark.parametrize(("body", "headers", "status", "field", "words"), ROWS)
def test_a_bad_body(url, run_dir, body, headers, status, field, words):
    said = check_refusal(url, run_dir, act(url, body, headers), status, field)
    name = json.dumps(field) if field in ("key", "a") or "twice" in words else field
    assert said.startswith(f"{name}: {words}" if not words.startswith("=") else f"{name} {words}")


def test_there_are_sixty():
    assert len(ROWS) >= 60


# Each row: method, path, body, headers, status, field.
REQUESTS = [
    ("GET", "/", None, {}, 404, "path"),
    ("GET", "/act", None, {}, 405, "method"),
    ("PUT", "/act", GOOD, JSON, 405, "method"),
    ("POST", "/act/", GOOD, JSON, 404, "path"),
    ("POST", "//act", GOOD, JSON, 404, "path"),
    ("POST", "/healthz", None, {}, 405, "method"),
    ("GET", "/sessions", None, {}, 405, "method"),
    ("GET", "/../../../etc/passwd", None, {}, 404, "path"),
    ("GET", "/%2e%2e/%2e%2e/etc/passwd", None, {}, 404, "path"),
    ("GET", "/sessions/..%2f..%2fact", None, {}, 404, "path"),
    ("DELETE", "/sessions/%2e%2e", None, {}, 404, "session"),
    ("DELETE", "/sessions/%00", None, {}, 404, "session"),
    ("DELETE", "/sessions/abc", None, {}, 404, "session"),
    ("GET", "/act?obs=1", None, {}, 405, "method"),
    ("BREW", "/act", None, {}, 400, None),
    ("POST", "/act", GOOD, {}, 415, "content-type"),
    ("POST", "/act", GOOD, {"content-type": "text/plain"}, 415, "content-type"),
    (
        "POST",
        "/act",
        GOOD,
        {"content-type": "application/x-www-form-urlencoded"},
        415,
        "content-type",
    ),
    (
        "POST",
        "/act",
        GOOD,
        {"content-type": "multipart/form-data; boundary=x"},
        415,
        "content-type",
    ),
    ("POST", "/act", GOOD, JSON | {"content-encoding": "gzip"}, 415, "content-encoding"),
    ("POST", "/act", GOOD, JSON | {"origin": "http://example.com"}, 403, "origin"),
    ("POST", "/sessions", b"x" * 200_000, JSON, 413, "body"),
    (
        "POST",
        "/act",
        npy(OBS),
        NPY | {"x-jaxdrl-episode-start": "maybe"},
        422,
        "x-jaxdrl-episode-start",
    ),
    ("POST", "/act", npy(OBS), NPY | {"x-jaxdrl-session": "\xff"}, 404, "session"),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status", "field"), REQUESTS)
def test_a_bad_request(url, run_dir, method, path, body, headers, status, field):
    check_refusal(url, run_dir, ask(url, method, path, body, headers), status, field)


def test_a_content_type_in_capitals_is_the_same(url):
    large = npy(np.zeros((6, 4000), np.float32))  # more than is taken as JSON
    for kind in ("application/x-npy", "Application/X-NPY; a=b"):
        refused = act(url, large, {"content-type": kind})
        assert (refused.status, refused.json["field"]) == (422, "obs")


def is_whole(received):
    """Whether a connection ends with what was received of an answer."""
    head, found, body = received.lower().partition(b"\r\n\r\n")
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(found) and b"connection: close" in head and len(body) >= int(length)


def raw(url, data, pause=0.0, rest=b"", timeout=20, until=is_whole):
    """All that the server sends until it says that it closes the connection."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout) as connection:
        connection.sendall(data)
        if rest:
            time.sleep(pause)
            connection.sendall(rest)
        received = b""
        while part := connection.recv(65536):
            received += part
            if until(received):
                break
    return received


HEAD = b"POST /act HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
BODY = json.dumps(GOOD).encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)
# Each row: what is sent, and the status of the answer, None where there is none.
RAW = {
    "two gigabytes": (HEAD + b"content-length: 2147483648\r\n\r\n" + b"x" * 100_000, 413),
    "more than a length can be": (HEAD + b"content-length: 99999999999999999999\r\n\r\n", 400),
    "a negative length": (HEAD + b"content-length: -5\r\n\r\n", 400),
    "two lengths": (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
    "length and chunks": (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    "a bad chunk": (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    "chunks without an end": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"ffff\r\n" + b" " * 0xFFFF + b"\r\n" * 1,
        408,
    ),
    "too many chunks": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + (b"ffff\r\n" + b" " * 0xFFFF + b"\r\n") * 3,
        413,
    ),
    "half a body": (HEAD + LENGTH + b"\r\n" + BODY[:5], 408),
    "half a head": (HEAD, 408),
    "nothing": (b"", 408),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a tunnel": (b"CONNECT example.com:443 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    "a long head": (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000, 431),
    "another protocol": (
        HEAD + b"connection: upgrade\r\nupgrade: h2c\r\n" + LENGTH + b"\r\n" + BODY,
        400,
    ),
    "a socket of a web page": (
        b"GET /act HTTP/1.1\r\nhost: [::1]\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        400,
    ),
    "a header of two lines": (HEAD + LENGTH + b"x: a\r\n b\r\n\r\n" + BODY, 400),
}


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_no_client_sends(url, name):
    data, status = RAW[name]
    begun = time.monotonic()
    received = raw(url, data)
    assert time.monotonic() - begun < 15
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received
    assert b"connection: close" in head
    assert json.loads(body).keys() == {"error", "field"}
    assert act(url, GOOD).status == 200
    counted = ask(url, path="/metrics").body.decode()
    assert f'jaxdrl_requests_total{{status="{status}"}}' in counted


def test_a_connection_is_closed_when_its_client_does_not_do_that(url):
    for name in ("two gigabytes", "half a body", "half a head", "no HTTP"):
        begun = time.monotonic()
        assert raw(url, RAW[name][0], until=lambda _: False)
        assert time.monotonic() - begun < 15


def test_slow_connections_that_are_never_closed_end_one_after_another(url):
    """A head that is late and then a body that is late, and both again on a second connection."""
    parts = urlsplit(url)
    links = [socket.create_connection((parts.hostname, parts.port), timeout=20) for _ in range(6)]
    for i, link in enumerate(links):
        link.sendall(HEAD)
        time.sleep(0.06 * (i % 3))
        link.sendall(LENGTH + b"\r\n" + BODY[:5])
    deadline = time.monotonic() + 15
    for link in links:
        received = b""
        while part := link.recv(65536):
            received += part
        assert received.startswith(b"HTTP/1.1 408 ") and received.count(b"HTTP/1.1") == 1
        link.close()
    assert time.monotonic() < deadline
    assert act(url, GOOD).status == 200


def test_a_client_that_goes_away_amid_its_body(url):
    parts = urlsplit(url)
    for _ in range(20):
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            connection.sendall(HEAD + LENGTH + b"\r\n" + BODY[:5])
    assert act(url, GOOD).status == 200


def test_a_body_in_pieces_and_requests_one_after_another_without_waiting(url):
    slow = raw(url, HEAD + LENGTH + b"connection: close\r\n\r\n" + BODY[:5], 0.1, BODY[5:])
    assert slow.startswith(b"HTTP/1.1 200 ")
    one = HEAD + LENGTH + b"\r\n" + BODY
    wrong = HEAD + b"content-length: 2\r\n\r\n{}"
    last = HEAD + LENGTH + b"connection: close\r\n\r\n" + BODY
    found = raw(url, one * 3 + wrong + one + last, until=lambda _: False)
    statuses = found.split(b"HTTP/1.1 ")[1:]
    assert [int(answer[:3]) for answer in statuses] == [200, 200, 200, 422, 200, 200]


def test_clients_that_ask_before_they_send_are_told_to_go_on(url):
    expecting = HEAD + b"expect: 100-continue\r\nconnection: close\r\n"
    found = raw(url, expecting + LENGTH + b"\r\n", 0.1, BODY, until=lambda _: False)
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert raw(url, expecting + b"content-length: 2000000\r\n\r\n").startswith(b"HTTP/1.1 413 ")


def test_more_connections_than_there_may_be(url):
    parts = urlsplit(url)
    held = [socket.create_connection((parts.hostname, parts.port)) for _ in range(12)]
    try:
        received = raw(url, b"")
        assert received.startswith(b"HTTP/1.1 503 ") and b"12 connections" in received
    finally:
        for connection in held:
            connection.close()
    for _ in range(100):
        if act(url, GOOD).status == 200:
            return
    pytest.fail("the connections are not free again")


def test_more_sessions_than_there_may_be(url, run_dir):
    names = [ask(url, "POST", "/sessions").json["session"] for _ in range(5)]
    refused = ask(url, "POST", "/sessions")
    assert "as many as this server takes (5)" in check_refusal(
        url, run_dir, refused, 429, "session"
    )
    batch = act(url, {"obs": [OBS.tolist()] * 2, "session": names[0]})
    check_refusal(url, run_dir, batch, 429, "session")
    for name in names:
        assert ask(url, "DELETE", f"/sessions/{name}").status == 204
        assert ask(url, "DELETE", f"/sessions/{name}").status == 404
    assert act(url, {"obs": [OBS.tolist()] * 2, "session": "new"}).status == 200
