import os

import pytest

from models.cores import usable_cores

CORES = 8
V2 = "30 23 0:26 {inside} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 23 0:30 {inside} /sys/fs/cgroup/cpu,cpuacct rw shared:16 - cgroup cgroup rw,cpu,cpuacct\n"
OTHERS = (
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "31 23 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 cores with control groups: quota files by folder below /sys/fs/cgroup."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)))

    def made(group, files, *, mount=V2, inside="/"):
        proc = tmp_path / "proc/self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text(group)
        (proc / "mountinfo").write_text(OTHERS + mount.format(inside=inside))
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return made


def test_without_a_quota_all_cores_count(machine, tmp_path):
    assert usable_cores(tmp_path / "nothing") == CORES
    assert usable_cores(machine("0::/\n", {"cpu.max": "max 100000\n"})) == CORES


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000", 1), ("200000", 2), ("150000", 2), ("50000", 1), ("1000", 1), ("1600000", CORES)],
)
def test_a_quota_counts_rounded_up_and_never_more_than_there_are(machine, quota, cores):
    assert usable_cores(machine("0::/\n", {"cpu.max": f"{quota} 100000\n"})) == cores


def test_the_smallest_quota_of_the_groups_around_counts(machine):
    root = machine(
        "0::/pods/one/main\n",
        {
            "pods/cpu.max": "400000 100000\n",
            "pods/one/cpu.max": "200000 100000\n",
            "pods/one/main/cpu.max": "max 100000\n",
        },
    )

    assert usable_cores(root) == 2


@pytest.mark.parametrize("group", ["4:cpu,cpuacct:/docker/f00\n", "4:cpuacct,cpu:/docker/f00\n"])
def test_a_quota_of_version_1_counts(machine, group):
    folder = "cpu,cpuacct/docker/f00"
    files = {f"{folder}/cpu.cfs_quota_us": "300000\n", f"{folder}/cpu.cfs_period_us": "100000\n"}

    assert usable_cores(machine(f"1:name=systemd:/\n{group}", files, mount=V1)) == 3


def test_a_container_sees_its_own_group_as_the_root(machine):
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    root = machine("4:cpu,cpuacct:/docker/f00\n", files, mount=V1, inside="/docker/f00")

    assert usable_cores(root) == 1


@pytest.mark.parametrize("quota", ["-1", "", "x", "0"])
def test_what_is_no_quota_limits_nothing(machine, quota):
    files = {"cpu,cpuacct/cpu.cfs_quota_us": quota, "cpu,cpuacct/cpu.cfs_period_us": "100000"}

    assert usable_cores(machine("4:cpu,cpuacct:/\n", files, mount=V1)) == CORES
