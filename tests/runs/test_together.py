"""What the processes of a run agree on before it; several of them in threads that share a store."""

import dataclasses
import functools
import json
import os
import threading
import types

import jax
import pytest

from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import with_settings
from jaxdrl.distributed.hosts import Hosts, first_difference
from jaxdrl.distributed.store import local_store
from jaxdrl.errors import ConfigError
from jaxdrl.runs import together
from jaxdrl.runs.changes import Changes
from jaxdrl.runs.locking import claim
from jaxdrl.runs.memory import MemoryBudget, MemoryEstimate
from pretended import in_each, three_hosts
from small_runs import CARTPOLE


@pytest.fixture
def three():
    return three_hosts()


class Asked(Hosts):
    """A process of two that notes what has to be the same in both."""

    def require_same(self, what, value):
        self.value = json.loads(json.dumps(value))


def has_to_be_same(experiment=CARTPOLE, *arguments):
    hosts = Asked(names=["a", "b"])
    together.require_same_run(hosts, experiment, *arguments or [[]])
    return hosts.value


def differing(one, other):
    found = first_difference(one, other)
    return None if found is None else found[0]


def test_a_single_process_has_nobody_to_agree_with(tmp_path):
    alone = Hosts(local_store()._replace(set=pytest.fail, wait=pytest.fail))
    experiment = dataclasses.replace(CARTPOLE, debug_nans=True)
    together.require_same_run(alone, experiment, [])
    together.require_one_part(alone, sweep(wave_size=2))
    assert together.least_memory(alone, budget(7)) == budget(7)
    session = types.SimpleNamespace(hosts=alone, warn=pytest.fail)
    with together.claim_together(tmp_path / "run", session) as claimed:
        assert claimed is not None
        with pytest.raises(ConfigError), claim(tmp_path / "run"):
            pytest.fail("two writers")


def test_runs_that_are_started_alike_are_accepted(three):
    ask = functools.partial(together.require_same_run, experiment=CARTPOLE, overrides=["env"])
    assert in_each(three, ask) == [None] * 3


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("seed", {"seed": 1}),
        ("learning_rate", {"learning_rate": 0.5}),
        ("total_env_steps", {"total_env_steps": 900}),
        ("stuck_after", {"stuck_after": 9.0}),
    ],
)
def test_a_setting_that_differs_is_refused_by_all(three, field, settings):
    def ask(hosts):
        own = settings if hosts.index == 2 else {}
        together.require_same_run(hosts, with_settings(CARTPOLE, **own), [])

    errors = in_each(three, ask)
    assert all(isinstance(error, ConfigError) for error in errors)
    (words,) = {str(error) for error in errors}
    assert f"{field} = {next(iter(settings.values()))!r} in process 2 on host b, and " in words
    assert words.endswith(f"in process 0 on host a; start all processes with the same {field}")


def test_versions_that_differ_are_refused_by_all(three, monkeypatch):
    own = threading.local()
    monkeypatch.setattr(together, "versions", lambda: {"python": "3.11", "jax": own.jax})

    def ask(hosts):
        own.jax = "0.11.2" if hosts.index == 1 else "0.10.2"
        together.require_same_run(hosts, CARTPOLE, [])

    words = "jax = '0.11.2' in process 1 on host b, and '0.10.2' in process 0 on host a; "
    words += "start all processes with the same jax"
    assert {str(error) for error in in_each(three, ask)} == {words}


@pytest.mark.parametrize("name", ["XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS"])
def test_variables_that_change_the_program_have_to_be_the_same(monkeypatch, name):
    one = has_to_be_same()
    monkeypatch.setenv(name, "--other")
    assert differing(one, has_to_be_same()) == name


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_default_matmul_precision", "highest"), ("jax_default_prng_impl", "rbg")],
)
def test_flags_of_jax_that_change_the_program_have_to_be_the_same(name, value):
    one, before = has_to_be_same(), jax.config.values[name]
    jax.config.update(name, value)
    try:
        assert differing(one, has_to_be_same()) == name
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize("reproducible", [False, True])
def test_the_processor_counts_only_where_bits_are_promised(monkeypatch, reproducible):
    experiment = with_settings(CARTPOLE, reproducible=reproducible)
    one = has_to_be_same(experiment)
    monkeypatch.setattr(together, "processor", lambda: "another")
    assert differing(one, has_to_be_same(experiment)) == ("processor" if reproducible else None)


def test_a_directory_is_the_same_by_any_of_its_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = [
        has_to_be_same(dataclasses.replace(CARTPOLE, run_dir=run_dir))
        for run_dir in (tmp_path / "run", "run", "other")
    ]
    assert differing(*values[:2]) is None
    assert differing(*values[1:]) == "run_dir"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("devices", Changes(devices=4)),
        ("total_env_steps", Changes(total_env_steps=900)),
        ("keep_schedule", Changes(keep_schedule=True)),
        ("checkpoint", Changes(checkpoint="best")),
    ],
)
def test_what_is_changed_has_to_be_the_same(field, changes):
    assert differing(has_to_be_same(), has_to_be_same(CARTPOLE, [], changes)) == field
    others = changes._replace(**{field: {"devices": 8, "checkpoint": 3}.get(field, 1700)})
    both = [has_to_be_same(CARTPOLE, [], one) for one in (changes, others)]
    assert differing(*both) == field
    assert differing(has_to_be_same(), has_to_be_same(CARTPOLE, ["env"])) == "overrides"


def test_nan_is_not_looked_for_in_several_processes():
    experiment = dataclasses.replace(CARTPOLE, debug_nans=True)
    works = "debug_nans = True: looks for NaN in one process alone; run it in one process: "
    with pytest.raises(ConfigError, match=f"^{works}JAXDRL_HOSTS=off$"):
        has_to_be_same(experiment)


def sweep(**fields):
    ranges = {"learning_rate": "log:1e-4:1e-2"}
    return dataclasses.replace(CARTPOLE, sweep=Sweep(ranges, members=4, **fields))


def test_sweeps_in_parts_are_refused(three):
    for accepted in (CARTPOLE, sweep()):
        assert together.require_one_part(three[1], accepted) is None
    works = "is of parts that one process trains in turn; run it so with JAXDRL_HOSTS=off"
    with pytest.raises(ConfigError) as caught:
        together.require_one_part(three[1], sweep(wave_size=2))
    assert str(caught.value) == f"sweep.wave_size = 2: {works}, or with fewer members"
    with pytest.raises(ConfigError) as caught:
        together.require_one_part(three[1], sweep(shapes={"num_steps": "8,16"}))
    assert str(caught.value) == f"sweep.shapes: {works}"


def claimed_in_each(hosts, run_dir_of):
    """What each process claims in its directory, or its error; and what they warn of."""
    warned = []

    def call(each):
        session = types.SimpleNamespace(hosts=each, warn=warned.append)
        with together.claim_together(run_dir_of(each.index), session) as claimed:
            each.gather("claimed", True)  # nobody leaves before all have seen it
            return claimed is not None

    return in_each(hosts, call), warned


def test_process_0_claims_a_directory_that_all_see(three, tmp_path):
    links = [tmp_path / name for name in ("zero", "one", "two")]
    links[0].mkdir()
    for link in links[1:]:
        link.symlink_to(links[0])
    assert claimed_in_each(three, lambda i: links[i]) == ([True, False, False], [])
    assert claimed_in_each(three, lambda i: links[0]) == ([True, False, False], [])  # free again


def test_a_directory_that_is_seen_late_is_seen(three, tmp_path):
    there = tmp_path / "there"
    timer = threading.Timer(0.3, os.symlink, (tmp_path / "run", there))
    timer.start()
    found, _ = claimed_in_each(three, lambda i: tmp_path / "run" if i == 0 else there)
    assert found == [True, False, False]
    timer.join()


@pytest.mark.parametrize("is_stale", [False, True])
def test_a_directory_that_is_not_shared_is_refused_with_the_process(
    three, tmp_path, monkeypatch, is_stale
):
    monkeypatch.setattr(together, "SECONDS_TO_SEE", 0.2)
    shared, own = tmp_path / "shared", tmp_path / "own"
    if is_stale:  # of another run
        own.mkdir()
        (own / ".lock").write_text("process 1 on another")
    errors, _ = claimed_in_each(three, lambda i: own if i == 2 else shared)
    for index, error in enumerate(errors):
        assert isinstance(error, ConfigError)
        assert str(error) == (
            f"run_dir = {str(own if index == 2 else shared)!r}: process 2 on host b does not see "
            "what process 0 on host a writes to it; name a directory that all hosts share"
        )
    assert own.exists() == is_stale  # nothing is made there


def test_a_directory_that_another_run_writes_to_is_refused_by_all(three, tmp_path):
    with claim(tmp_path):
        errors, _ = claimed_in_each(three, lambda i: tmp_path)
    assert all(isinstance(error, ConfigError) for error in errors)
    assert [str(error) for error in errors[1:]] == [f"process 0 on host a: {errors[0]}"] * 2


def budget(free):
    return MemoryBudget(MemoryEstimate(1, 2, 3, 4, is_counted=False), free)


@pytest.mark.parametrize(
    ("platform", "free", "least"),
    [
        ("cpu", (100, 300, 160), 80),  # two processes share the memory of host b
        ("gpu", (100, 300, 160), 100),
        ("cpu", (70, None, 160), 70),
        ("gpu", (None, None, None), None),
    ],
)
def test_a_run_gets_the_memory_of_the_process_that_has_least(
    three, monkeypatch, platform, free, least
):
    monkeypatch.setattr(jax, "local_devices", lambda: [types.SimpleNamespace(platform=platform)])
    found = in_each(three, lambda each: together.least_memory(each, budget(free[each.index])))
    assert found == [budget(least)] * 3
