"""How many cores this process may use: those it is bound to, and the quota of its container."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """The cores this process is bound to, or its quota of CPU time rounded up if that is smaller.

    The quota, as `docker --cpus` and Kubernetes' `limits.cpu` set it, is the smallest one of the
    process's control group and those around it, of version 1 or 2.

    Args:
        root: where /proc and the mounted file systems are looked for.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of CPU time, of each control group that has a limit."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        kind, _, options = after.split(" ", 2)
        inside, point = before.split()[3:5]
        if kind == "cgroup2":
            own = [line.removeprefix("0::") for line in groups if line.startswith("0::")]
        elif kind == "cgroup" and "cpu" in options.split(","):
            own = [
                line.split(":", 2)[2] for line in groups if "cpu" in line.split(":")[1].split(",")
            ]
        else:
            continue
        for group in own:
            for folder in _around(root / point.lstrip("/"), inside, group):
                quota = _quota_2(folder) if kind == "cgroup2" else _quota_1(folder)
                if quota is not None:
                    yield quota


def _around(mounted: Path, inside: str, group: str) -> Iterator[Path]:
    """The folders of a group and of those around it, as far as they can be seen.

    Args:
        mounted: where the part `inside` of the hierarchy is mounted.
    """
    try:
        below = PurePosixPath(group).relative_to(inside)
    except ValueError:  # as in a container that sees the name that its group has outside
        below = PurePosixPath()
    yield mounted
    for depth in range(len(below.parts)):
        yield mounted.joinpath(*below.parts[: depth + 1])


def _quota_2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
