"""Free memory of the host, within the control groups that hold this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MOUNTS = {"": ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory": ("sys/fs/cgroup/memory",)}
"""Where control groups are mounted, by controller; version 2 has one tree for all of them."""

FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Files with limit and use of a group in versions 2 and 1, and its idle cache in memory.stat."""


def free_host_memory(root: Path = Path("/")) -> int | None:
    """Free bytes of the host, or of the tightest control group that holds this process.

    Args:
      root: the directory with proc and sys.
    """
    found = [free_in_group(group) for group in groups(root)]
    found.append(_available(root))
    return min((free for free in found if free is not None), default=None)


def groups(root: Path) -> Iterator[Path]:
    """The directories of the control groups of this process, and of all groups above them.

    A container may see only the tree below its own group, but the path as it is on the host: paths
    that do not exist are left out, and the top of a mount is always there.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        lines = ["0::/", "0:memory:/"]
    for line in lines:
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "none", "")
        for controller, mounts in MOUNTS.items():
            if controller not in controllers.split(","):
                continue
            for top in (root / mount for mount in mounts):
                own = top / path.lstrip("/")
                above = (up for up in own.parents if top in (up, *up.parents))
                yield from (group for group in (own, *above) if group.is_dir())


def free_in_group(group: Path) -> int | None:
    """Bytes below the limit of a control group, None without a limit.

    The idle cache of files counts as used there, but gives way when the memory is needed.
    """
    for limit, used, idle in FILES:
        try:
            free = int((group / limit).read_text()) - int((group / used).read_text())
        except (OSError, ValueError):
            continue  # no such group, or no limit
        return max(0, free + _field(group / "memory.stat", idle, " "))
    return None


def _available(root: Path) -> int | None:
    """Free bytes of the host as a whole."""
    if kilobytes := _field(root / "proc/meminfo", "MemAvailable", ":"):
        return kilobytes * 1024
    if "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _field(path: Path, name: str, separator: str) -> int:
    """A number of a file of names and numbers, 0 where it has none."""
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(separator)
            if key == name:
                return int(value.split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return 0
