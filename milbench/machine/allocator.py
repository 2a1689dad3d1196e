"""How the C library keeps memory that was freed, in a process that trains: glibc's defaults suit neither speed nor budgets.

They return the top of the heap to the system after most steps and fault it in again in the next one, page by page. They also
map each block of more than 32 MiB by itself and unmap it when it is freed, so the largest bags would start every step with fresh pages: a
seventh of a step's time, and more on a virtual machine whose host takes freed memory back at once. And they keep large
blocks, once some were freed, in a heap that bags which come and go tear into pieces.
"""

from __future__ import annotations

import ctypes
import platform

MEBIBYTE = 2**20

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
"""Parameters of glibc's `mallopt`, from its malloc.h."""

NONE_MAPPED, MANY_MAPPED = 0, 2**16
"""Most blocks that are mapped, each by itself, and unmapped when freed. If all bags stay, only steps free memory, and each step makes like
results in like order: the heap stays whole, so none is mapped. The other is glibc's default."""

MAPPED_IN_MEMORY = 32 * MEBIBYTE
"""The highest size of mapped blocks that glibc allows on 64-bit systems: of threads whose heap is not the main one."""

MAPPED_FROM_DISK = 8 * MEBIBYTE
"""Size of mapped blocks if bags come and go: bags of HDF5 cannot be mapped from their files and would leave holes in a heap between what
outlives them. Pages that are mapped anew for every bag cost time, so this size is not the usual one."""

KEPT = 2**31 - 1
KEPT_FROM_DISK = 64 * MEBIBYTE
"""Free memory at the top of the heap that is not returned. The first is the most that `mallopt` takes, 2 GiB: a step of M4 on 50,000 patches
frees 1.3 GiB. It does not raise a process's peak, because the next step takes this memory first."""

GROWTH = 32 * MEBIBYTE
"""Bytes by which the heap grows at least."""


def tune_allocator(*, from_disk: bool) -> bool:
    """Keep what steps free for the next step; `from_disk` returns large blocks at once instead, as bags come and go.

    False where there is no glibc (macOS, Windows, musl): nothing is changed there.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {
        MMAP_MAX: MANY_MAPPED if from_disk else NONE_MAPPED,
        MMAP_THRESHOLD: MAPPED_FROM_DISK if from_disk else MAPPED_IN_MEMORY,
        TRIM_THRESHOLD: KEPT_FROM_DISK if from_disk else KEPT,
        TOP_PAD: GROWTH,
    }
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())
