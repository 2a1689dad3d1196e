"""Mutations of a file's bytes: what broken disks, broken downloads and enemies do to a file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from random import Random

HEAD = 2048
"""Bytes in which most formats say what they are."""

ODD = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (
    b"nan",
    b"-1",
    b"99999999999999999999",
    b"[[[[[[[[",
    b"{",
    b'"',
    b"\0\0\0\0",
    b"None",
    b"<f2",
    b"|O",
    b"F8_E4M3",
)


def truncated(content: bytes, random: Random) -> bytes:
    """Without its end."""
    return content[: random.randrange(len(content))]


def flipped(content: bytes, random: Random) -> bytes:
    """With one to eight bits changed, mostly near the front."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 8)):
        changed[_place(content, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def spliced(content: bytes, random: Random) -> bytes:
    """With a piece of itself inserted elsewhere, or in place of what was there."""
    start, length, place = _place(content, random), random.randint(1, 64), _place(content, random)
    piece = content[start : start + length]
    rest = place + (len(piece) if random.random() < 0.5 else 0)
    return content[:place] + piece + content[rest:]


def numbered(content: bytes, random: Random) -> bytes:
    """With a number of 1, 4 or 8 bytes that makes no sense, near the front."""
    place, size = _place(content, random), random.choice((1, 4, 8))
    number = random.choice(ODD if size == 1 else NUMBERS) % 2 ** (8 * size)
    return content[:place] + number.to_bytes(size, "little") + content[place + size :]


def worded(content: bytes, random: Random) -> bytes:
    """With a word in place of what was there, or before it, near the front."""
    place, text = _place(content, random), random.choice(TEXTS)
    return content[:place] + text + content[place + (len(text) if random.random() < 0.7 else 0) :]


def repacked(content: bytes, random: Random) -> bytes:
    """An archive with one member mutated and its checksum right; what is no archive is flipped."""
    if not content.startswith(b"PK"):
        return flipped(content, random)
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(written, "w") as changed:
        names = [name for name in archive.namelist() if archive.getinfo(name).file_size]
        chosen = random.choice(names)
        for name in archive.namelist():
            inner = archive.read(name)
            changed.writestr(name, random.choice(INNER)(inner, random) if name == chosen else inner)
    return written.getvalue()


INNER: tuple[Callable[[bytes, Random], bytes], ...] = (truncated, flipped, spliced, numbered, worded)
MUTATIONS = (*INNER, repacked)


def mutated(content: bytes, seed: int) -> bytes:
    """The content after one to three mutations that the seed chooses."""
    random = Random(seed)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if content:
            content = _tried(random.choice(MUTATIONS), content, random)
    return content


def _tried(mutation: Callable[[bytes, Random], bytes], content: bytes, random: Random) -> bytes:
    try:
        return mutation(content, random)
    except Exception:  # noqa: BLE001 - whatever zipfile raises
        return flipped(content, random)  # what another mutation has broken cannot be packed again


def _place(content: bytes, random: Random) -> int:
    return random.randrange(min(len(content), HEAD) if random.random() < 0.8 else len(content))
