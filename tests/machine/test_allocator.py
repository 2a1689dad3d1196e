"""What glibc keeps of freed memory, seen from outside."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from milbench.machine import allocator
from milbench.machine.allocator import tune_allocator

FREED = """
import os
import psutil
from milbench.machine.allocator import tune_allocator

def allocate(mebibytes):
    block = bytearray(mebibytes * 2**20)  # bytearray clears it: every page is touched
    block[::4096] = b"x" * len(block[::4096])
    return block

assert tune_allocator(from_disk={from_disk})
blocks = [allocate(16) for _ in range(20)]
full = psutil.Process().memory_info().rss
del blocks
print((full - psutil.Process().memory_info().rss) // 2**20)
"""


def freed_mebibytes(*, from_disk: bool) -> int:
    """Of 320 MiB in blocks of 16 MiB, what a process gives back to the system when it frees them."""
    code = FREED.format(from_disk=from_disk)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_large_blocks_return_to_the_system_only_where_bags_come_and_go() -> None:
    assert freed_mebibytes(from_disk=True) > 300
    assert freed_mebibytes(from_disk=False) < 20


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    assert not tune_allocator(from_disk=True)
