"""Pickled array: the bytes of a NumPy array that `torch.save` wrote, as TRIDENT's `.pt` files hold it.

Pickle of protocol 2, which torch uses, keeps bytes as a text in which every byte is a letter: in UTF-8, bytes from 128 on
take two. To undo that by Python's decoder takes four fifths of a read, and keeps other threads from working meanwhile. Here
the text is undone block by block. Nothing is unpickled: a file must be exactly what NumPy and torch write for an array of
floats, byte for byte. Whatever is not is left to `torch.load`.
"""

from __future__ import annotations

import re
import struct
from math import prod

import numpy as np

NUMBER = rb"(?:K.|M..|J.{4})"
START = re.compile(
    rb"\x80\x02cnumpy\.(?:_core|core)\.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02"
    rb"c_codecs\nencode\nq\x03X\x01\x00\x00\x00bq\x04X\x06\x00\x00\x00latin1q\x05\x86q\x06Rq\x07\x87q\x08Rq\x09"
    rb"\(K\x01(?P<rows>" + NUMBER + rb")(?P<columns>" + NUMBER + rb")\x86q\x0acnumpy\ndtype\nq\x0b"
    rb"X\x02\x00\x00\x00(?P<dtype>f[248])q\x0c\x89\x88\x87q\x0dRq\x0e\(K\x03X\x01\x00\x00\x00<q\x0f"
    rb"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x10b\x89h\x03X(?P<length>.{4})",
    re.DOTALL,
)
"""All up to the text of the bytes: `_reconstruct`, shape, dtype of little-endian floats, rows one behind the other."""

END = b"q\x11h\x05\x86q\x12Rq\x13tq\x14b."
MOST_START = 400
"""Bytes that are looked at to recognise an array: `START` is no longer."""

BLOCK = 1 << 16
"""Bytes of text that are undone at a time, so that what is made of them stays in the cache."""

LEAD_OF_UPPER, LEAD_OF_128 = 0xC3, 0xC2
"""First bytes of the two in which UTF-8 writes 192 to 255, and 128 to 191."""


def array_of(content: memoryview) -> np.ndarray | None:
    """The 2-D array that a pickle holds, in memory of its own; None if it is not exactly one as torch writes it."""
    start = START.match(content[:MOST_START])
    if start is None:
        return None
    (length,) = struct.unpack("<I", start["length"])
    text = content[start.end() : start.end() + length]
    if len(text) != length or bytes(content[start.end() + length :]) != END:
        return None
    shape, dtype = (_number(start["rows"]), _number(start["columns"])), np.dtype(f"<{start['dtype'].decode()}")
    if min(shape) < 0 or not length / 2 <= prod(shape) * dtype.itemsize <= length:
        return None
    array = np.empty(shape, dtype)
    return array if _undo(np.frombuffer(text, np.uint8), array.reshape(-1).view(np.uint8)) else None


def _number(content: bytes) -> int:
    """An integer of one, two or four bytes, as pickle writes it behind a letter."""
    return int.from_bytes(content[1:], "little", signed=content[:1] == b"J")


def _undo(text: np.ndarray, memory: np.ndarray) -> bool:
    """Fill `memory` with the bytes that `text` stands for, in UTF-8; whether it is such a text, and as long."""
    done = place = 0
    while place < len(text):
        block = text[place : place + BLOCK]
        if block[-1] >= LEAD_OF_128 and place + len(block) < len(text):
            block = block[:-1]  # both bytes of a pair in one block
        made = _letters(block)
        if made is None or done + len(made) > len(memory):
            return False
        memory[done : done + len(made)] = made
        done, place = done + len(made), place + len(block)
    return done == len(memory)


def _letters(block: np.ndarray) -> np.ndarray | None:
    """The bytes of one block; None where UTF-8, or this text, would have others."""
    is_lead, is_second = (block | 1) == LEAD_OF_UPPER, (block & 0xC0) == 0x80
    is_whole = np.array_equal(is_lead[:-1], is_second[1:]) and not is_second[0] and not is_lead[-1]
    if not is_whole or not np.array_equal(is_lead, block >= 0xC0):
        return None
    values = block.copy()
    values[1:] += (block[:-1] == LEAD_OF_UPPER).view(np.uint8) << 6
    return np.take(values, np.flatnonzero(~is_lead))
