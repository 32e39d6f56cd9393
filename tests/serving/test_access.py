"""Who is answered: those who have the token, or on this machine everybody."""

import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.serving.access import read_token, require_access, resolve
from jaxdrl.serving.refusals import RefusedError

TOKEN = b"0123456789abcdef"


@pytest.mark.parametrize("path", ["/act", "/sessions", "/metrics", "/version", "/", "/healthz/"])
@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer 0123456789abcdeg",
        b"Bearer 0123456789abcde",
        b"Bearer 0123456789abcdef0",
        b"Bearer 0123456789ABCDEF",
        b"Basic 0123456789abcdef",
        b"0123456789abcdef",
        b"Bearer 0123456789abcdef, Bearer x",
        b"Bearer\t0123456789abcdef",
        b"Bearer \xff",
    ],
)
def test_another_token_or_none_is_refused(path, given):
    with pytest.raises(RefusedError) as caught:
        require_access(TOKEN, path, given, None)
    assert caught.value.status == 401 and caught.value.field == "authorization"
    assert (b"www-authenticate", b"Bearer") in caught.value.headers
    assert TOKEN not in caught.value.body


@pytest.mark.parametrize("given", [b"Bearer 0123456789abcdef", b"bearer  0123456789abcdef"])
def test_the_token_opens(given):
    require_access(TOKEN, "/act", given, b"https://example.com")


def test_what_watches_the_server_needs_no_token():
    for path in ("/healthz", "/readyz"):
        require_access(TOKEN, path, None, None)


def test_web_pages_may_not_ask_a_server_without_a_token():
    require_access(None, "/act", None, None)
    with pytest.raises(RefusedError, match="a web page may ask only a server with a token"):
        require_access(None, "/act", None, b"null")


@pytest.mark.parametrize(
    "host",
    [b"127.0.0.1:8000", b"localhost", b"LocalHost:1", b"[::1]:80", b"a.localhost", b"127.9.9.9"],
)
def test_names_of_this_machine_need_no_token(host):
    require_access(None, "/act", None, None, host)


@pytest.mark.parametrize(
    "host", [b"evil.example:8000", b"127.0.0.1.evil.example", b"", b"[::2]", b"192.0.2.1", b"\xff"]
)
def test_a_page_whose_name_leads_here_may_not_ask_a_server_without_a_token(host):
    """As after DNS rebinding: the browser sees one origin, and sends no header `Origin`."""
    with pytest.raises(RefusedError, match=r"host: must be 127.0.0.1 or localhost") as caught:
        require_access(None, "/version", None, None, host)
    assert caught.value.status == 403
    require_access(TOKEN, "/version", b"Bearer " + TOKEN, None, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3", "::1"])
def test_loopback_needs_no_token(host):
    resolve(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "::ffff:0.0.0.0"])
def test_another_address_needs_one(host):
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        resolve(host, None)
    assert resolve(host, TOKEN)[1]


@pytest.mark.parametrize("host", ["", "no.such.host.invalid", "127.0.0.1:80", "http://localhost"])
def test_what_is_no_address(host):
    with pytest.raises(ConfigError, match="must be an address of this machine"):
        resolve(host, TOKEN)


def test_the_token_is_that_of_the_environment():
    assert read_token({}) is None
    assert read_token({"JAXDRL_TOKEN": TOKEN.decode()}) == TOKEN
    with pytest.raises(ConfigError) as caught:
        read_token({"JAXDRL_TOKEN": ""})
    assert "python -c" in str(caught.value)
