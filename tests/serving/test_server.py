"""A server beside a run: what it says of itself, what it takes, and how it ends."""

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import jaxdrl
from deadlines import within
from followed_runs import OBS, copy_of, make_run, publish
from jaxdrl.cli import main
from jaxdrl.errors import ConfigError
from jaxdrl.serving import batcher
from jaxdrl.serving.limits import Limits
from jaxdrl.serving.server import What, listener, serve
from processes import free_port
from served import JSON, act, ask, served

GOOD = {"obs": OBS.tolist()}
TOKEN = b"a-token-of-a-test"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("server") / "run").run_dir


@pytest.fixture
def run_dir(sound, tmp_path):
    return copy_of(sound, tmp_path / "run")


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metrics_of(url):
    """`{name with labels: value}`, read by the client library's own parser."""
    families = text_string_to_metric_families(ask(url, path="/metrics").body.decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_it_says(run_dir):
    said = []
    with served(run_dir, said=said) as url:
        version = ask(url, path="/version").json
        assert version["update"] == 1 and version["env_steps"] == 128
        assert version["env"] == "CartPole-v1" and version["jaxdrl"] == jaxdrl.__version__
        assert version["observation_space"].startswith("Box(") and not version["has_memory"]
        assert str(run_dir) not in str(version)
        assert act(url, GOOD).json["update"] == 1
        assert act(url, {"obs": [OBS.tolist()] * 3}).status == 200
        assert act(url, {}).status == 422
        found = metrics_of(url)
        assert found["jaxdrl_requests_total", "422"] == 1
        assert found["jaxdrl_answers_total",] == 2 and found["jaxdrl_observations_total",] == 4
        assert found["jaxdrl_answer_seconds_count",] == 2 and found["jaxdrl_batch_rows_sum",] == 4
        assert found["jaxdrl_update",] == 1 and found["jaxdrl_versions_taken_total",] == 1
        assert found["jaxdrl_sessions",] == 0 and found["jaxdrl_connections",] >= 1
        assert ask(url, "HEAD", "/healthz")[::2] == (200, b"")
    assert said == [
        f"{url} serves CartPole-v1 of {run_dir}; Ctrl-C ends it",
        f"update 1 (128 environment steps, mean return {version['mean_return']:.4g}) is in use",
        "try: curl -H 'Content-Type: application/json' -d '{\"obs\": [0.0, 0.0, 0.0, 0.0]}' "
        f"{url}/act",
    ]


def test_the_line_to_try_works(run_dir):
    said = []
    with served(run_dir, TOKEN, said) as url:
        line = said[-1].removeprefix("try: ")
        environ = os.environ | {"JAXDRL_TOKEN": TOKEN.decode()}
        if shutil.which("curl"):
            printed = subprocess.run(line, shell=True, env=environ, capture_output=True, text=True)
            assert printed.stdout.startswith('{"action": '), printed
        assert "$JAXDRL_TOKEN" in line and TOKEN.decode() not in str(said)
        assert act(url, GOOD).status == 401


def test_new_versions_are_taken_and_bad_ones_refused(run_dir):
    said = []
    with served(run_dir, said=said) as url:
        for update in (2, 3):
            publish(run_dir, update)
            until(lambda u=update: act(url, GOOD).json == {"action": u % 2, "update": u})
        path = publish(run_dir, 4)
        (path / "state.npz").write_bytes(b"x")
        until(lambda: metrics_of(url)["jaxdrl_checkpoints_refused_total",] >= 1)
        assert act(url, GOOD).json == {"action": 1, "update": 3}
        found = metrics_of(url)
        assert found["jaxdrl_versions_taken_total",] == 3 and found["jaxdrl_update",] == 3
        run_dir.rename(run_dir.with_name("away"))
        time.sleep(0.2)
        assert act(url, GOOD).json == {"action": 1, "update": 3}
        assert ask(url, path="/readyz").status == 200
        run_dir.with_name("away").rename(run_dir)
        publish(run_dir, 5)
        until(lambda: act(url, GOOD).json["update"] == 5)
    assert [line for line in map(str, said) if line.startswith("update 3 (384 environment steps")]


def test_until_there_is_a_policy_it_is_alive_and_not_ready(sound, tmp_path):
    run_dir, port, is_to_end = tmp_path / "run", free_port(), threading.Event()
    with listener("127.0.0.1", port, None) as sock:
        what = What(run_dir, port=port, wait=30.0, seconds=0.05)
        thread = threading.Thread(target=serve, args=(what, sock, None, str, is_to_end.is_set))
        thread.start()
        url = f"http://127.0.0.1:{port}"
        try:
            assert ask(url, path="/healthz").status == 200
            for path in ("/readyz", "/version", "/example"):
                assert ask(url, path=path).status == 503
            assert act(url, GOOD).status == ask(url, "POST", "/sessions").status == 503
            assert metrics_of(url)["jaxdrl_versions_taken_total",] == 0
            shutil.copytree(sound, tmp_path / "part")
            (tmp_path / "part").rename(run_dir)
            until(lambda: ask(url, path="/readyz").status == 200, 30)
            assert act(url, GOOD).status == 200
        finally:
            is_to_end.set()
            thread.join(20)


def test_without_a_policy_it_ends_and_says_why(tmp_path):
    with pytest.raises(ConfigError, match="is not a run"), served(tmp_path / "none"):
        pytest.fail("it is not served")


def test_sessions_end_when_they_are_not_used(run_dir):
    limits = Limits(max_sessions=3, session_seconds=0.2)
    with served(run_dir, limits=limits) as url:
        names = [ask(url, "POST", "/sessions").json["session"] for _ in range(3)]
        assert ask(url, "POST", "/sessions").status == 429
        time.sleep(0.3)
        assert act(url, GOOD | {"session": names[0]}).status == 404
        assert ask(url, "POST", "/sessions").status == 201


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--port {taken}",
            "port = {taken}: is in use on 127.0.0.1; name another with --port, or 0",
        ),
        ("--port 70000", "port = 70000: must be from 0 to 65535"),
        ("--port -1", "port = -1: must be an integer of at least 0"),
        ("--host 0.0.0.0", "host = '0.0.0.0': can be reached from other machines, which needs a "),
        (
            "--host no.host.invalid",
            "host = 'no.host.invalid': must be an address of this",
        ),
        ("--max-rows 0", "max_rows = 0: must be an integer of at least 1"),
        ("--wait -1", "wait = -1.0: must be a finite number at least 0"),
    ],
)
def test_what_cannot_work_is_refused_at_once(sound, capsys, flags, message):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as caught:
            main.main(["serve", str(sound), *flags.format(taken=port).split()])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: " + message.format(taken=port)) and said.count("\n") == 1


def test_an_address_of_another_machine_is_refused(sound, capsys, monkeypatch):
    monkeypatch.setenv("JAXDRL_TOKEN", "0123456789abcdef")
    with pytest.raises(SystemExit):
        main.main(["serve", str(sound), "--host", "192.0.2.1", "--port", "0"])
    said = capsys.readouterr().err
    assert said.startswith("error: host = '192.0.2.1': is no address of this machine (")
    assert "127.0.0.1" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "token", ["", "short", "fifteen-letters", "with spaces in between", "ümlaut" * 4]
)
def test_a_token_that_is_none_is_refused_and_not_printed(sound, capsys, monkeypatch, token):
    monkeypatch.setenv("JAXDRL_TOKEN", token)
    with pytest.raises(SystemExit) as caught:
        main.main(["serve", str(sound)])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: JAXDRL_TOKEN: must be at least 16 visible ASCII characters")
    assert token == "" or token not in said


def test_without_the_extra_it_names_the_command(sound, capsys, monkeypatch):
    found = importlib.util.find_spec
    absent = lambda name, *args: None if name == "uvicorn" else found(name, *args)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(SystemExit):
        main.main(["serve", str(sound)])
    assert capsys.readouterr().err == (
        "error: uvicorn is not installed; install it with: pip install 'jaxdrl[serve]'\n"
    )


@contextlib.contextmanager
def command(run_dir, *flags):
    """`jaxdrl serve` in a process of its own, with its address."""
    program = "from jaxdrl.cli.main import main; main()"
    words = [sys.executable, "-W", "error", "-c", program, "serve", str(run_dir), "--port", "0"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*words, *flags], **streams)
    try:
        yield process, process.stdout.readline().split()[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def play(url, statuses):
    """Asks over one connection until nobody listens any more; what went wrong."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    with contextlib.closing(connection):
        while True:
            try:
                connection.request("POST", "/act", json.dumps(GOOD), JSON)
                answer = connection.getresponse()
                answer.read()
            except ConnectionRefusedError:
                return None
            except Exception as error:
                return error
            statuses.append(answer.status)


def test_a_signal_under_load_loses_no_request_and_output_that_goes_away_nothing(run_dir):
    with command(run_dir, "--seconds", "0.05") as (process, url), ThreadPoolExecutor(16) as pool:
        process.stdout.close()  # as when what it is piped into ends
        publish(run_dir, 2)
        until(lambda: act(url, GOOD).json["update"] == 2)
        statuses = []
        players = [pool.submit(play, url, statuses) for _ in range(16)]
        until(lambda: len(statuses) > 200, 30)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert within(20, process.wait) == 0
        assert process.stderr.read() == ""
        assert [player.result(20) for player in players] == [None] * 16
        assert set(statuses) == {200}


def test_the_end_waits_for_answers_and_not_for_ever(run_dir, monkeypatch):
    may_act, is_asked = threading.Event(), threading.Event()
    own = batcher.act

    def slow(*args):
        is_asked.set()
        assert may_act.wait(20)
        return own(*args)

    monkeypatch.setattr(batcher, "act", slow)
    with ThreadPoolExecutor(2) as pool:
        with served(run_dir, limits=Limits(grace=1.0)) as url:
            never = pool.submit(act, url, GOOD)
            assert is_asked.wait(20)
            assert ask(url, path="/healthz").status == 200
        refused = never.result(20)
        assert refused.status == 503 and "before it could answer" in refused.json["error"]
        may_act.set()
        is_asked.clear(), may_act.clear()
        with served(run_dir, limits=Limits(grace=20.0)) as url:
            late = pool.submit(act, url, GOOD)
            assert is_asked.wait(20)
            threading.Timer(0.8, may_act.set).start()
        assert late.result(20).status == 200


def test_it_needs_no_event_loop_of_others(run_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with served(run_dir) as url:
        assert act(url, GOOD).status == 200
        assert act(url, {}).status == 422


def test_actions_are_those_of_the_run(run_dir):
    _, agent, state = jaxdrl.restore(run_dir)
    obs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    start, key = np.zeros(64, bool), state.learner.key
    expected, _ = agent.policy.act(state.learner, (), obs, start, key, greedy=True)
    with served(run_dir) as url:
        assert act(url, {"obs": obs.tolist()}).json["action"] == expected.tolist()
