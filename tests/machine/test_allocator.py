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
blocks = [allocate({size}) for _ in range({n})]
full = psutil.Process().memory_info().rss
del blocks
print((full - psutil.Process().memory_info().rss) // 2**20)
"""


def freed_mebibytes(n: int, size: int, *, from_disk: bool) -> int:
    """Of `n` blocks of `size` MiB, what a process gives back to the system when it frees them."""
    code = FREED.format(from_disk=from_disk, n=n, size=size)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
@pytest.mark.parametrize(("n", "size"), [(20, 16), (10, 64)])
def test_large_blocks_return_to_the_system_only_where_bags_come_and_go(n: int, size: int) -> None:
    assert freed_mebibytes(n, size, from_disk=True) > n * size - 20
    assert freed_mebibytes(n, size, from_disk=False) < 20


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    assert not tune_allocator(from_disk=True)
