"""Seal: `checksums.sha256`, one line per file as `sha256sum` writes it, and the hash of that file, which a paper can print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from milbench.bundles.difference import Difference
from milbench.bundles.layout import CHECKSUMS
from milbench.store.files import file_sha256

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def files_in(root: Path) -> list[str]:
    """Names of all files below a folder with forward slashes, sorted; the checksums' own file is left out."""
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != CHECKSUMS)


def write_checksums(root: Path) -> str:
    """Write the checksums of every file in the folder; the seal."""
    lines = [f"{file_sha256(root / name)}  {name}\n" for name in files_in(root)]
    (root / CHECKSUMS).write_text("".join(lines), encoding="utf-8", newline="\n")
    return seal_of(root)


def seal_of(root: Path) -> str:
    """SHA-256 of the checksums: it changes with every byte of every file. "" if there are no checksums."""
    return file_sha256(root / CHECKSUMS) if (root / CHECKSUMS).is_file() else ""


def checksum_differences(root: Path) -> Iterator[Difference]:
    """Files that are missing, that nobody lists, or that hold other bytes than listed."""
    try:
        listed = _listed((root / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        yield Difference(CHECKSUMS, f"cannot be read ({error}), so no file could be held against it")
        return
    found = files_in(root)
    for name in sorted(listed.keys() - set(found)):
        yield Difference(name, f"is missing; {CHECKSUMS} lists it")
    for name in found:
        if name not in listed:
            yield Difference(name, f"is not listed in {CHECKSUMS}")
        elif file_sha256(root / name) != listed[name]:
            yield Difference(name, f"holds other bytes than {CHECKSUMS} says")


def _listed(text: str) -> dict[str, str]:
    """SHA-256 by name; raises `ValueError`."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            raise ValueError(f"line {number} is not a new file's")
        found[match[2]] = match[1]
    return found
