"""What containers and batch jobs allow, and that milbench counts on no more."""

from pathlib import Path

import psutil
import pytest

from milbench.process import control_groups
from milbench.process.control_groups import Limits, limits_of_groups
from milbench.process.cores import usable_cores
from milbench.process.memory import free_memory, total_memory


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_limits_of_version_2_and_of_the_groups_above(tmp_path: Path) -> None:
    mine, job = write(tmp_path / "mine", "0::/slurm/job_7/step_0\n"), tmp_path / "slurm" / "job_7"
    write(job / "memory.max", "16000000000\n")
    write(job / "memory.current", "5000000000\n")
    write(job / "memory.stat", "anon 1000000000\ninactive_file 3000000000\nactive_file 1000000000\n")
    write(job / "step_0" / "memory.max", "max\n")
    write(tmp_path / "slurm" / "cpu.max", "150000 100000\n")
    assert limits_of_groups(mine, tmp_path) == Limits(1.5, 16_000_000_000, 14_000_000_000)


def test_limits_of_version_1_in_a_container_that_shows_its_own_group_as_the_root(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine", "4:memory:/docker/x\n1:cpu,cpuacct:/docker/x\n")
    write(tmp_path / "memory" / "memory.limit_in_bytes", "2000000000\n")
    write(tmp_path / "memory" / "memory.usage_in_bytes", "1500000000\n")
    write(tmp_path / "memory" / "memory.stat", "inactive_file 1\ntotal_inactive_file 500000000\n")
    write(tmp_path / "memory" / "docker" / "x" / "memory.limit_in_bytes", "9223372036854771712\n")
    write(tmp_path / "cpu,cpuacct" / "cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "cpu,cpuacct" / "cpu.cfs_period_us", "100000\n")
    assert limits_of_groups(mine, tmp_path) == Limits(None, 2_000_000_000, 1_000_000_000)


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert limits_of_groups(tmp_path / "none", tmp_path) == Limits()


@pytest.mark.parametrize(("cores", "expected"), [(None, 3), (1.5, 1), (0.2, 1), (64.0, 3)])
def test_workers_are_no_more_than_a_container_may_use(
    monkeypatch: pytest.MonkeyPatch, cores: float | None, expected: int
) -> None:
    monkeypatch.setattr(control_groups, "limits_of_groups", lambda: Limits(cores))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert usable_cores() == expected


def test_memory_is_no_more_than_a_job_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "limits_of_groups", lambda: Limits(None, 2000, 500))
    assert (total_memory(), free_memory()) == (2000, 500)
    monkeypatch.setattr(control_groups, "limits_of_groups", Limits)
    assert total_memory() == psutil.virtual_memory().total
