"""A file from a server, complete and verified, or not there at all."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import requests
from urllib3.exceptions import HTTPError

from milbench.acquire import http
from milbench.acquire.http import Http, chunks, refuse_bad_status
from milbench.errors import AcquireError
from milbench.machine.deadline import Deadline
from milbench.special_files import refuse_special

PART = ".part"
"""End of the name of a file that is being fetched."""
PAGE_BEGINS = (b"<!doctype html", b"<html")
LEFTOVER_SECONDS = 24 * 3600
"""Nobody writes into a part for so long: a command ends before."""


class Wanted(NamedTuple):
    """A file as it must be."""

    path: Path
    bytes: int
    sha256: str


def is_complete(wanted: Wanted) -> bool:
    """Whether the file is there with the right size and hash."""
    path = wanted.path
    return path.is_file() and path.stat().st_size == wanted.bytes and file_sha256(path) == wanted.sha256


def download(
    client: Http,
    url: str,
    wanted: Wanted,
    *,
    headers: Mapping[str, str] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Fetch `url` into `wanted.path`; a transfer that breaks goes on at the byte where it stopped.

    At most one byte more than wanted is read per try, and `client.deadline` says when all tries end.

    Raises
    ------
    AcquireError : no answer, a refusal, too slow, another size or another SHA-256. Nothing is then left of the file.
    """
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own: two commands may fetch the same file at once
    part = wanted.path.with_name(f".{wanted.path.name}.{uuid.uuid4().hex}{PART}")
    deadline = client.deadline(wanted.bytes)
    try:
        for attempt in range(client.retries + 1):
            if _size(part) > wanted.bytes:
                part.unlink()
            if part.exists() and _size(part) == wanted.bytes:
                break
            if attempt:
                time.sleep(min(http.pause_after(attempt - 1), deadline.left()))
            _go_on(client, url, part, wanted.bytes, deadline, headers or {}, advance)
        _accept(url, part, wanted)
    finally:
        part.unlink(missing_ok=True)


def clear_leftovers(folder: Path) -> None:
    """Delete the parts that killed commands left in `folder`."""
    for path in folder.glob(f"*{PART}"):
        with suppress(OSError):  # another command may be at it, and it is in nobody's way
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes; raises `AcquireError` for a pipe or a device, which may have no end."""
    refuse_special(path, AcquireError)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _go_on(
    client: Http,
    url: str,
    part: Path,
    size: int,
    deadline: Deadline,
    headers: Mapping[str, str],
    advance: Callable[[int], None],
) -> None:
    """Append what the server sends until it ends or breaks; a server that ignores Range starts over."""
    have = _size(part)
    ranged = {"Range": f"bytes={have}-"} if have else {}
    # "identity": sizes, ranges and hashes are those of the file, not of a compressed transfer
    asked = {"Accept-Encoding": "identity", **headers, **ranged}
    with client.answer("GET", url, deadline, headers=asked) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink(missing_ok=True)
            return
        refuse_bad_status(response)
        if have and not _continues(response, have):
            advance(-have)
            have = 0
        with part.open("ab" if have else "wb") as file:
            _copy(response, file.write, size - have, advance)


def _copy(
    response: requests.Response, write: Callable[[bytes], int], most: int, advance: Callable[[int], None]
) -> None:
    """Write the body, one byte beyond `most` at the utmost: enough to tell that it is too long."""
    # a transfer that breaks: what has come is in the file, and the caller counts and asks for the rest
    with suppress(HTTPError):
        for chunk in chunks(response, most + 1, decoded=False):
            write(chunk)
            advance(len(chunk))


def _continues(response: requests.Response, have: int) -> bool:
    partial = response.status_code == requests.codes.partial_content
    return partial and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _accept(url: str, part: Path, wanted: Wanted) -> None:
    if _is_page(part):
        raise AcquireError(
            f"{url} sent a web page instead of the file, perhaps of a log-in or a proxy. It was deleted. Check the "
            "address, and give the same command again."
        )
    if _size(part) < wanted.bytes:
        raise AcquireError(f"{url} broke off after {_size(part)} of {wanted.bytes} bytes. {http.MEND}")
    found = file_sha256(part)
    if _size(part) != wanted.bytes or found != wanted.sha256:
        raise AcquireError(
            f"{url} sent another file than expected: {'more than ' * (_size(part) > wanted.bytes)}{wanted.bytes} bytes "
            f"with SHA-256 {found}, expected {wanted.sha256}. It was deleted. Try again; if it stays so, the file has "
            "changed at its source."
        )
    part.replace(wanted.path)


def _is_page(path: Path) -> bool:
    """Whether a file is HTML by its first bytes: no file that is fetched here is."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.read(100).lstrip().lower().startswith(PAGE_BEGINS)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
