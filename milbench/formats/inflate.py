"""Inflate: what a deflate stream of known length holds, by libdeflate (the package `deflate`), or by zlib where that is missing.

libdeflate takes a whole stream at once, in 0.3 to 0.6 of zlib's CPU time. Both work outside of Python's lock, look at
the checksum and give the same bytes.
"""

from __future__ import annotations

import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterable
from io import BytesIO
from itertools import repeat
from typing import Any

import numpy as np

try:
    import deflate as _libdeflate
except ImportError:
    _libdeflate = None

deflate: Any = _libdeflate
"""The package, or None where it is missing."""

MOST_INFLATED = 1032
"""Bytes per stored byte that deflate never exceeds."""

MOST_AT_ONCE = 2**32 - 1
"""The package reads a length modulo 2^32, without an error (0.9.0)."""

LOCAL_HEADER, LOCAL_BYTES = b"PK\x03\x04", 30
"""How the entry of an archive begins, and bytes before its name."""

ENCRYPTED = 1
"""Bit of an entry's flags."""

SHORT = 16_384
"""Bytes of a stream that takes no longer to inflate than a few steps of Python would, if another thread holds the lock."""

Buffer = memoryview | bytes | bytearray

_own = threading.local()


class DamagedStream(ValueError):
    """A stream that is damaged, cut off, or holds more or fewer bytes than it should."""


def inflated(content: Buffer, n_bytes: int) -> Buffer:
    """The `n_bytes` that a zlib stream holds, its checksum looked at; memory is set aside for what `content` can hold at most.

    Raises
    ------
    DamagedStream : it is no such stream.
    """
    most = min(n_bytes, MOST_INFLATED * len(content))
    try:
        if deflate is None or most > MOST_AT_ONCE:
            raw: Buffer = zlib.decompress(content, bufsize=most)
        else:
            raw = deflate.zlib_decompress(content, most)
    except _errors() as error:
        raise DamagedStream(str(error)) from error
    if len(raw) != n_bytes:
        raise DamagedStream(f"{len(raw)} bytes instead of {n_bytes}")
    return raw


def inflate_into(memory: memoryview, contents: Iterable[Buffer], n_streams: int, n_bytes: int) -> None:
    """Put what `n_streams` streams hold, `n_bytes` each, one behind the other into `memory`; what reaches beyond it is dropped.

    Short streams go through one call, in few steps of Python: threads wait for each other in these.

    Raises
    ------
    DamagedStream : one is damaged, or they hold other numbers of bytes. `memory` may hold parts of them.
    """
    if deflate is None or n_bytes > SHORT:
        starts = range(0, n_streams * n_bytes, n_bytes)
        for start, content in zip(starts, contents, strict=True):
            part = memory[start : start + n_bytes]
            part[:] = memoryview(inflated(content, n_bytes))[: len(part)]
        return
    together = _together()
    together.seek(0)
    try:
        together.writelines(map(deflate.zlib_decompress, contents, repeat(n_bytes, n_streams)))
    except deflate.DeflateError as error:
        raise DamagedStream(str(error)) from error
    if together.tell() != n_streams * n_bytes:  # none holds more than `n_bytes`, so that one holds fewer
        raise DamagedStream("a stream holds too few bytes")
    together.seek(0)
    together.readinto(memory[: n_streams * n_bytes])  # it still holds more, if it held more before


def _together() -> BytesIO:
    """Memory of this thread that grows with its use. It is filled in C, unlike an array."""
    if not hasattr(_own, "together"):
        _own.together = BytesIO()
    kept: BytesIO = _own.together
    return kept


def _errors() -> tuple[type[Exception], ...]:
    return (zlib.error,) if deflate is None else (zlib.error, deflate.DeflateError)


def inflated_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytearray | None:
    """All bytes of an archive's entry, its checksum looked at; None = let `zipfile` read it, which says what is wrong."""
    is_known = entry.compress_type == zipfile.ZIP_DEFLATED and not entry.flag_bits & ENCRYPTED
    is_possible = 0 < entry.file_size <= min(MOST_AT_ONCE, MOST_INFLATED * entry.compress_size)
    if deflate is None or archive.fp is None or not (is_known and is_possible):
        return None
    before = archive.fp.tell()
    try:
        archive.fp.seek(entry.header_offset)
        header = archive.fp.read(LOCAL_BYTES)
        if len(header) < LOCAL_BYTES or not header.startswith(LOCAL_HEADER):
            return None
        archive.fp.seek(sum(struct.unpack_from("<HH", header, 26)), 1)  # the name, and what else is told of it
        if entry.compress_size > os.fstat(archive.fp.fileno()).st_size:
            return None
        content = np.empty(entry.compress_size, np.uint8)  # NumPy asks for large pages, which `read` does not
        if archive.fp.readinto(content.data) != len(content):  # type: ignore[attr-defined]
            return None
        raw: bytearray = deflate.deflate_decompress(content.data, entry.file_size)
    except deflate.DeflateError:
        return None
    finally:
        archive.fp.seek(before)
    return raw if len(raw) == entry.file_size and deflate.crc32(raw) == entry.CRC else None
