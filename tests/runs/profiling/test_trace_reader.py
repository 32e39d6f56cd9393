"""Traces and programs made by hand, whose time is known."""

import types
import warnings

import jax
import pytest

from jaxdrl.runs.profiling.trace_reader import (
    OTHER,
    WAITING,
    WINDOW,
    measure,
    stage_of,
    stages_of_program,
)

STAGES = ["rollout", "rollout/policy", "gradients", "all-reduce"]

PROGRAM = """\
HloModule jit_step, is_scheduled=true

%fused (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  %a = f32[2]{0} add(%p, %p), metadata={op_name="jit(step)/gradients/add"}
  %b = f32[2]{0} add(%a, %p), metadata={op_name="jit(step)/rollout/add"}
  ROOT %c = f32[2]{0} add(%b, %p), metadata={op_name="jit(step)/transpose(jvp(gradients))/mul"}
}

%body (q: (s32[], f32[2])) -> (s32[], f32[2]) {
  %q = (s32[], f32[2]{0}) parameter(0)
  %copy.1 = f32[2]{0} copy(%q)
  ROOT %dot.1 = f32[2]{0} dot(%copy.1), metadata={op_name="jit(step)/rollout/while/vmap(policy)/dot"}
}

%branch.1 (q: f32[2]) -> f32[2] {
  ROOT %copy.2 = f32[2]{0} copy(%q)
}

%branch.2 (q: f32[2]) -> f32[2] {
  ROOT %copy.3 = f32[2]{0} copy(%q)
}

ENTRY %main (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0), metadata={op_name="rollout_x"}
  %fusion.1 = f32[2]{0} fusion(%x), kind=kLoop, calls=%fused
  %while.1 = f32[2]{0} while(%fusion.1), condition=%cond, body=%body, metadata={op_name="jit(step)/rollout/while"}
  %conditional.1 = f32[2]{0} conditional(%x), branch_computations={%branch.1, %branch.2}, metadata={op_name="jit(step)/gradients/all-reduce/cond"}
  ROOT %copy.4 = f32[2]{0} copy(%conditional.1)
}
"""  # noqa: E501


@pytest.mark.parametrize(
    ("op_name", "stage"),
    [
        ("jit(step)/rollout/add", "rollout"),
        ("jit(step)/jit(main)/vmap(rollout)/while/body/policy/dot", "rollout/policy"),
        ("jit(rollout)/rollout/policy/dot", "rollout/policy"),
        ("jit(step)/policy/dot", None),
        ("jit(step)/gradients/policy/dot", "gradients"),
        ("jit(step)/transpose(jvp(gradients))/all-reduce/psum", "all-reduce"),
        ("jit(step)/rollouts/add", None),
        ("", None),
    ],
)
def test_the_innermost_scope_counts(op_name, stage):
    assert stage_of(op_name, STAGES) == stage


def test_every_instruction_has_the_stage_of_its_name_or_of_what_is_around_it():
    found = stages_of_program(PROGRAM, STAGES)
    assert found["dot.1"] == "rollout/policy"
    assert found["copy.1"] == found["while.1"] == "rollout"  # of the loop that it is in
    assert found["fusion.1"] == "gradients"  # of most of it
    assert found["copy.2"] == found["copy.3"] == "all-reduce"
    assert found["copy.4"] == found["x"] == OTHER


def write_trace(path, planes):
    """`{plane: {line: [(name, start ns, end ns, stats)]}}` as an `.xplane.pb` file."""
    stats = ["hlo_op", "hlo_module", "run_id", "device_ordinal"]
    described = "".join(
        f'stat_metadata {{ key: {i} value {{ id: {i} name: "{name}" }} }}\n'
        for i, name in enumerate(stats, 1)
    )
    text = ""
    for plane, lines in planes.items():
        names = sorted({event[0] for events in lines.values() for event in events})
        text += f'planes {{ name: "{plane}"\n{described}'
        for i, name in enumerate(names, 1):
            text += f'event_metadata {{ key: {i} value {{ id: {i} name: "{name}" }} }}\n'
        for line, events in lines.items():
            text += f'lines {{ name: "{line}" timestamp_ns: 1000\n'
            for name, start, end, own in events:
                text += f"events {{ metadata_id: {names.index(name) + 1} "
                text += f"offset_ps: {1000 * start} duration_ps: {1000 * (end - start)} "
                for key, value in own.items():
                    kind = f'str_value: "{value}"'
                    text += f"stats {{ metadata_id: {stats.index(key) + 1} {kind} }} "
                text += "}\n"
            text += "}\n"
        text += "}\n"
    path.write_bytes(jax.profiler.ProfileData.text_proto_to_serialized_xspace(text))
    return path


def op(name, start, end, device=0, call=7, module="jit_step"):
    own = {"hlo_op": name, "hlo_module": module, "device_ordinal": device, "run_id": call}
    return name, start, end, {k: v for k, v in own.items() if v is not None}


def window(start, end):
    return WINDOW, start, end, {}


def ns(path, planes):
    found, num_devices = measure(write_trace(path, planes), PROGRAM, STAGES)
    return {name: round(1e9 * value, 3) for name, value in found.items() if value}, num_devices


def test_what_holds_others_counts_only_by_them(tmp_path):
    events = [
        op("while.1", 0, 60),
        op("dot.1", 0, 20),
        op("copy.1", 20, 50),
        op("fusion.1", 60, 90),
    ]
    host = {"python": [window(0, 100)], "pool": events}
    # The pause of 10 within the loop is that of the copy before it; at the end the host is late.
    expected = {"rollout/policy": 20.0, "rollout": 40.0, "gradients": 30.0, WAITING: 10.0}
    assert ns(tmp_path / "a.xplane.pb", {"/host:CPU": host}) == (expected, 1)


def test_two_threads_of_a_device_share_a_moment(tmp_path):
    host = {
        "python": [window(0, 100)],
        "pool/1": [op("dot.1", 0, 100)],
        "pool/2": [op("fusion.1", 50, 100)],
    }
    expected = {"rollout/policy": 75.0, "gradients": 25.0}
    assert ns(tmp_path / "a.xplane.pb", {"/host:CPU": host}) == (expected, 1)


def test_pauses_between_calls_and_at_the_ends_are_waiting(tmp_path):
    events = [
        *(op("dot.1", 10, 30, call=1), op("fusion.1", 35, 40, call=1)),
        op("dot.1", 60, 80, call=2),
        op("dot.1", 300, 400, call=3),  # after the window
    ]
    host = {"python": [window(0, 100)], "pool": events}
    expected = {"rollout/policy": 45.0, "gradients": 5.0, WAITING: 10.0 + 20.0 + 20.0}
    assert ns(tmp_path / "a.xplane.pb", {"/host:CPU": host}) == (expected, 1)


def test_devices_are_averaged_and_other_programs_are_other(tmp_path):
    events = [op("dot.1", 0, 100, device=0), op("dot.1", 100, 140, device=1)]
    events += [op("dot.1", 140, 200, device=1, module="jit_copy")]
    host = {"python": [window(0, 200)], "pool": events}
    found = ns(tmp_path / "a.xplane.pb", {"/host:CPU": host})
    assert found == ({"rollout/policy": 70.0, OTHER: 30.0, WAITING: 100.0}, 2)


def test_a_device_with_a_plane_of_its_own(tmp_path):
    planes = {
        "/host:CPU": {"python": [window(0, 100), op("dot.1", 0, 5)]},  # the host's launch
        "/device:GPU:0": {
            "Stream #1": [op("dot.1", 10, 30, None, None), op("dot.1", 40, 50, None, None)]
        },
        "/device:GPU:1": {"Stream #1": [op("fusion.1", 10, 40, None, None)]},
    }
    expected = {"rollout/policy": 15.0, "gradients": 15.0, WAITING: 70.0}
    assert ns(tmp_path / "a.xplane.pb", planes) == (expected, 2)


def test_a_trace_without_operations_says_nothing(tmp_path):
    planes = {"/host:CPU": {"python": [window(0, 100)]}}
    assert ns(tmp_path / "a.xplane.pb", planes) == ({}, 0)


@pytest.mark.parametrize(
    ("words", "is_let_through"),
    [("builtin type event_stats has no __module__ attribute", True), ("events will go", False)],
)
def test_the_warning_that_would_abort_is_let_through_alone(monkeypatch, words, is_let_through):
    """As Python 3.12 gives it to the reader in C++, which takes no error for an answer."""

    def from_file(path):
        warnings.warn(words, DeprecationWarning, stacklevel=1)
        return types.SimpleNamespace(planes=[])

    monkeypatch.setattr(jax.profiler, "ProfileData", types.SimpleNamespace(from_file=from_file))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if is_let_through:
            assert measure("a.xplane.pb", PROGRAM, STAGES) == ({}, 0)
        else:
            with pytest.raises(DeprecationWarning, match=words):
                measure("a.xplane.pb", PROGRAM, STAGES)
