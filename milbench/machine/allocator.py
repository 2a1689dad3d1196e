"""How the C library keeps memory that was freed, in a process that trains: glibc's defaults suit neither speed nor budgets.

They return the top of the heap to the system after most steps and fault it in again in the next one, page by page; and they
keep large blocks, once some were freed, in a heap that the bags of a cohort tear into pieces.
"""

from __future__ import annotations

import ctypes
import platform

MEBIBYTE = 2**20

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's `mallopt`, from its malloc.h."""

MAPPED_IN_MEMORY = 32 * MEBIBYTE
"""The most that glibc allows on 64-bit systems: blocks from here on are mapped, each by itself, and unmapped when freed."""

MAPPED_FROM_DISK = 8 * MEBIBYTE
"""Size of mapped blocks if bags come and go: bags of HDF5 cannot be mapped from their files and would leave holes in a heap between what
outlives them. Pages that are mapped anew for every bag cost time, so this size is not the usual one."""

KEPT = 512 * MEBIBYTE
KEPT_FROM_DISK = 64 * MEBIBYTE
"""Free memory at the top of the heap that is not returned."""

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
        MMAP_THRESHOLD: MAPPED_FROM_DISK if from_disk else MAPPED_IN_MEMORY,
        TRIM_THRESHOLD: KEPT_FROM_DISK if from_disk else KEPT,
        TOP_PAD: GROWTH,
    }
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())
