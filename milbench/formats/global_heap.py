"""Global heap: where an HDF5 file keeps the text of its attributes, and which links it has to other files.

The library walks through the heap from object to object. If a part of it was zeroed, as a crash or a network file system
can leave a file, a step has no length and the library never comes back (seen with HDF5 2.0.0). So the steps are walked
here before.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from milbench.errors import FeatureFileError
from milbench.formats.unchanged import once_per_content

SIGNATURE, HEAP = b"\x89HDF\r\n\x1a\n", b"GCOL\x01\0\0\0"
HEADER_BYTES = 16
"""Of a heap and of an object in it alike."""

END_BYTES = 65_536
"""Looked at from either end of a file. Attributes are written first or last; to look further would read the features."""

PLACE_OF_LENGTHS = {0: 14, 1: 14, 2: 10, 3: 10}
"""Byte that tells how many bytes a length has, by the version of the file's first block."""


def refuse_endless_heap(path: Path) -> None:
    """Raise for an HDF5 file that the library would never come back from.

    Raises
    ------
    FeatureFileError : a heap in it leads nowhere.
    OSError : it cannot be read.
    """
    if _is_endless(path):
        raise FeatureFileError(f"{path} is damaged: a part of it holds nothing but zeros. Extract this slide again.")


@once_per_content
def _is_endless(path: Path) -> bool:
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        ends = [file.read(END_BYTES)]
        file.seek(max(size - END_BYTES, END_BYTES))
        ends.append(file.read(END_BYTES))
    return _has_long_lengths(ends[0]) and any(_leads_nowhere(heap) for end in ends for heap in _heaps(end))


def _has_long_lengths(start: bytes) -> bool:
    """Whether lengths have 8 bytes, as everywhere but in files of purposely small ones."""
    place = PLACE_OF_LENGTHS.get(start[8], 0) if start.startswith(SIGNATURE) and len(start) > 14 else 0
    return bool(place) and start[place] == 8


def _heaps(content: bytes) -> Iterator[bytes]:
    """Each heap in `content`, cut off where `content` ends."""
    start = (
        content.find(HEAP) if content.rfind(HEAP) >= 0 else -1
    )  # mostly there is none, which `rfind` finds six times as fast
    while start >= 0 and start + HEADER_BYTES <= len(content):
        (size,) = struct.unpack_from("<Q", content, start + 8)
        yield content[start : min(start + size, len(content))]
        start = content.find(HEAP, start + 1)


def _leads_nowhere(heap: bytes) -> bool:
    """Whether a step from one object to the next has no length. Object 0 is what is free, its header included."""
    place = HEADER_BYTES
    while place + HEADER_BYTES <= len(heap):
        (index,), (size,) = struct.unpack_from("<H", heap, place), struct.unpack_from("<Q", heap, place + 8)
        step = (size if index == 0 else HEADER_BYTES + -(-size // 8) * 8) % 2**64
        if step == 0:
            return True
        place += step
    return False
