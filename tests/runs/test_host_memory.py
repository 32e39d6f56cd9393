"""Free memory within control groups, as a made-up /proc and /sys have it."""

import pytest

from jaxdrl.runs.host_memory import free_host_memory

GIB = 2**30


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def host(root, cgroup, available=64 * GIB):
    write(root, {"proc/self/cgroup": cgroup})
    meminfo = f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable:   {available // 1024} kB"
    write(root, {"proc/meminfo": meminfo})


def group(root, path, limit, used, idle=0, version=2):
    """A control group with its limit and use."""
    if version == 2:
        names = "memory.max", "memory.current", "inactive_file"
        top = root / "sys/fs/cgroup" / path
    else:
        names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        top = root / "sys/fs/cgroup/memory" / path
    write(top, {names[0]: limit, names[1]: used, "memory.stat": f"anon 1\n{names[2]} {idle}"})


def test_without_control_groups_it_is_what_the_host_has(tmp_path):
    host(tmp_path, "0::/")
    assert free_host_memory(tmp_path) == 64 * GIB
    (tmp_path / "proc/self/cgroup").unlink()
    assert free_host_memory(tmp_path) == 64 * GIB


@pytest.mark.parametrize("tightest", ["job", "job/step", "job/step/task", ""])
@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_group_counts_wherever_it_is_in_the_tree(tmp_path, version, tightest):
    host(tmp_path, {2: "0::/job/step/task", 1: "7:cpu:/\n5:memory,hugetlb:/job/step/task"}[version])
    unlimited = "max" if version == 2 else 2**63 - 4096
    for path in ("", "job", "job/step", "job/step/task"):
        limit = 8 * GIB if path == tightest else unlimited
        group(tmp_path, path, limit, 3 * GIB, version=version)
    group(tmp_path, "another", GIB, 0, version=version)  # which does not hold this process
    assert free_host_memory(tmp_path) == 5 * GIB


def test_of_two_limits_the_one_that_leaves_less_counts(tmp_path):
    host(tmp_path, "0::/a/b")
    group(tmp_path, "a", 8 * GIB, 7 * GIB)
    group(tmp_path, "a/b", 4 * GIB, 2 * GIB)
    assert free_host_memory(tmp_path) == GIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_that_sees_only_its_own_group_has_its_limit(tmp_path, version):
    host(tmp_path, {2: "0::/kubepods/pod1/abc", 1: "4:memory:/docker/abc"}[version])
    group(tmp_path, "", 2 * GIB, GIB, version=version)
    assert free_host_memory(tmp_path) == GIB


@pytest.mark.parametrize("version", [1, 2])
def test_idle_file_cache_is_free_and_more_than_the_limit_is_none(tmp_path, version):
    host(tmp_path, {2: "0::/", 1: "4:memory:/"}[version])
    group(tmp_path, "", 4 * GIB, 4 * GIB, idle=3 * GIB, version=version)
    assert free_host_memory(tmp_path) == 3 * GIB
    group(tmp_path, "", 4 * GIB, 5 * GIB, version=version)
    assert free_host_memory(tmp_path) == 0


def test_both_versions_side_by_side(tmp_path):
    host(tmp_path, "5:memory:/x\n0::/y")
    group(tmp_path, "x", 8 * GIB, 0, version=1)
    write(tmp_path / "sys/fs/cgroup/unified/y", {"cgroup.procs": "1"})
    assert free_host_memory(tmp_path) == 8 * GIB


def test_what_cannot_be_read_is_left_out(tmp_path):
    host(tmp_path, "no such\n\n0::/../../..\n0::/a")
    group(tmp_path, "a", "many", "few")
    assert free_host_memory(tmp_path) == 64 * GIB
