"""`experiments/hosts.py`: its formulas by hand, what it counts, and both modes in a short form."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def hosts():
    """The modules whose functions are tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        from benchmarks import cases, hosts_measured, hosts_model, hosts_predicted, hosts_program

        yield SimpleNamespace(
            cases=cases,
            measured=hosts_measured,
            model=hosts_model,
            predicted=hosts_predicted,
            program=hosts_program,
        )


def sends(**kinds):
    """`kind=(how often, bytes)`."""
    names = {kind.replace("_", "-"): pair for kind, pair in kinds.items()}
    count = {kind: pair[0] for kind, pair in names.items()}
    return {"count": count, "bytes": {kind: pair[1] for kind, pair in names.items()}}


B, L = 9_000_000, 64
FAST = sends(all_reduce=(27, B))
GATHERED = sends(all_gather=(27, L * B))
SCATTERED = sends(all_to_all=(27, B), all_gather=(27, B))  # on 64 hosts, a shard on each

# The formulas by hand.


@pytest.mark.parametrize(
    ("collectives", "milliseconds"), [(FAST, 14.175), (GATHERED, 453.6), (SCATTERED, 14.175)]
)
def test_bytes_over_bandwidth(hosts, collectives, milliseconds):
    """63 / 64 of 18 MB, 576 MB and 18 MB, at 1.25 GB/s."""
    network = hosts.model.Network(10.0, 0.0)
    found = hosts.model.network_seconds(collectives, 64, network)
    assert 1e3 * found == pytest.approx(milliseconds)
    ten_times = hosts.model.network_seconds(collectives, 64, hosts.model.Network(100.0, 0.0))
    assert ten_times == pytest.approx(found / 10)


def test_an_all_reduce_between_two_sends_half_twice(hosts):
    assert hosts.model.sent_bytes(FAST, 2) == B
    assert hosts.model.sent_bytes(GATHERED, 2) == 32 * B
    assert hosts.model.sent_bytes(FAST, 1) == 0


@pytest.mark.parametrize(
    ("num_hosts", "messages"), [(1, 0), (2, 54), (4, 108), (5, 162), (8, 162), (64, 324)]
)
def test_messages_are_twice_the_height_of_a_tree(hosts, num_hosts, messages):
    assert hosts.model.num_messages(FAST, num_hosts) == messages
    assert hosts.model.num_messages(SCATTERED, num_hosts) == messages
    assert hosts.model.num_messages(GATHERED, num_hosts) == messages / 2
    network = hosts.model.Network(1e9, 20.0)
    seconds = hosts.model.network_seconds(FAST, num_hosts, network)
    assert seconds == pytest.approx(20e-6 * messages, abs=1e-9)


def test_efficiency(hosts):
    assert hosts.model.strong(0.080, 4, 0.0) == 1.0
    assert hosts.model.strong(0.080, 4, 0.020) == pytest.approx(0.5)  # 20 and 20 ms
    assert hosts.model.weak(0.080, 0.020) == pytest.approx(0.8)


def test_a_row_for_each_number_of_hosts_and_network(hosts):
    networks = [hosts.model.Network(10.0, 0.0), hosts.model.Network(10.0, 50.0)]
    rows = hosts.model.predict(0.071, {1: sends(), 64: FAST}, networks)
    assert [(row["hosts"], row["latency_microseconds"]) for row in rows] == [
        *((1, 0.0), (1, 50.0), (64, 0.0), (64, 50.0))
    ]
    assert [row["strong"] for row in rows[:2]] == [row["weak"] for row in rows[:2]] == [1.0, 1.0]
    # 71 ms / 64 are 1.109 ms, beside 14.175 ms of bytes and 324 x 50 us of messages.
    assert rows[2]["strong"] == pytest.approx(1.109375 / (1.109375 + 14.175))
    assert rows[3]["strong"] == pytest.approx(1.109375 / (1.109375 + 14.175 + 16.2))
    assert rows[3]["weak"] == pytest.approx(71 / (71 + 14.175 + 16.2))


def test_an_unknown_collective_is_not_left_out(hosts):
    with pytest.raises(KeyError):
        hosts.model.sent_bytes(sends(collective_permute=(1, 8)), 2)


# What is counted.


def test_what_hosts_send_is_counted_in_their_program(hosts):
    """Weights and biases by hand: 16 observations, 8 units, 2 logits, 1 value; 4 gradient steps."""
    gradient = 4 * ((16 * 8 + 8) + (8 * 2 + 2) + (16 * 8 + 8) + (8 * 1 + 1))

    def count(num_hosts, reproducible):
        found = hosts.program.count(
            hosts.cases.TINY, num_hosts, num_shards=8, reproducible=reproducible
        )
        assert found.is_exact
        return found

    fast = count(2, False)
    # A gradient step 1, an epoch 2, an update 2 (test_ppo.py).
    assert fast.count == Counter({"all-reduce": 4 + 2 * 2 + 2})
    assert 4 * gradient < fast.bytes["all-reduce"] < 1.1 * 4 * gradient
    reproducible = count(2, True)
    assert set(reproducible.count) == {"all-gather"}
    assert 8 * 4 * gradient < reproducible.bytes["all-gather"] < 1.1 * 8 * 4 * gradient
    assert count(1, True).count == Counter()


def test_the_parts_that_are_measured_leave_no_device_without_an_environment(hosts):
    config = hosts.predicted.Predict(hosts=(1, 4, 8, 16), devices=2)
    jobs = hosts.predicted.jobs(config, hosts.cases.TINY)  # 16 environments
    assert {name: job.case.num_envs for name, job in jobs.items()} == {
        **{"fast": 16, "reproducible": 16},
        **{"1": 16, "4": 4, "8": 2},
    }
    assert (jobs["fast"].num_shards, jobs["8"].num_shards) == (64, 2)
    assert [job.reproducible for job in jobs.values()] == [False, True, False, False, False]


def test_the_table_says_that_it_is_predicted(hosts, monkeypatch, capsys):
    monkeypatch.setattr(
        hosts.predicted,
        "count",
        lambda case, n, **how: SimpleNamespace(**(FAST if n > 1 else sends())),
    )
    config = hosts.predicted.Predict(hosts=(1, 64), step_milliseconds=71.0)
    result = hosts.predicted.measure(config, lambda words: None)
    for table in hosts.predicted.tables(result):
        Console(width=160).print(table)
    printed = capsys.readouterr().out
    assert printed.count("PREDICTED") == 4  # two modes, two latencies
    assert "an update takes 71.0 ms on one host" in printed
    last = [cell.strip() for cell in printed.splitlines()[-2].strip("│ ").split("│")]
    # 71 / 64 ms and 14.175, 1.4175 or 0.354 ms, and 324 x 50 us.
    assert last == ["64", "16.9 MiB", "324", "4%", "6%", "6%", "70%", "80%", "81%"]


def test_processes_are_started_without_what_this_one_was_started_by(hosts, monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    found = hosts.measured.environment()
    assert "JAX_PROCESS_ID" not in found
    assert found["JAX_PLATFORMS"] == "cpu"


def test_speeds_are_compared_round_by_round(hosts, tmp_path, monkeypatch):
    speeds = {"1 process x 2 devices": [7.0, 100.0, 50.0, 200.0]}
    speeds["2 processes x 1 device"] = [7.0, 90.0, 40.0, 190.0]
    order = []

    def train(way, case, updates, run_dir):
        order.append((way[0], updates))
        return speeds[way].pop(0)

    monkeypatch.setattr(hosts.measured, "train", train)
    config = hosts.measured.Measure(updates=60, repetitions=3)
    result = hosts.measured.measure(config, tmp_path, lambda words: None)
    assert order == [("1", 2), ("2", 2), *[("1", 60), ("2", 60)] * 3]  # the first compiles
    assert result["ratio"] == {"median": 0.9, "min": 0.8, "max": 0.95}
    assert "0.90 (0.80 to 0.95) times the speed" in hosts.measured.tables(result)[1]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["measure", "predict"])
def test_it_runs(mode, tmp_path):
    file, picture = tmp_path / "a.json", tmp_path / "a.png"
    command = [sys.executable, str(EXPERIMENTS / "hosts.py"), mode, "--smoke"]
    command += ["--json", str(file), "--plot", str(picture)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 5_000
    content = json.loads(file.read_text())
    assert content["mode"] == f"hosts_{mode}"
    if mode == "measure":
        assert 0 < content["result"]["ratio"]["median"] < 10
    else:
        row = content["result"]["predicted"]["fast"][-1]
        assert 0 < row["strong"] < row["weak"] < 1
        assert list(content["result"]["part_seconds"]) == ["1", "2"]
