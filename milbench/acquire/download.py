"""A file from a server, complete and verified, or not there at all."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import requests
from urllib3.exceptions import HTTPError

from milbench.acquire import http
from milbench.acquire.http import Http, refuse_bad_status
from milbench.errors import AcquireError

CHUNK_BYTES = 1 << 16


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
    """Fetch `url` into `wanted.path`; a broken transfer goes on at the byte where it stopped, now or next time.

    Raises
    ------
    AcquireError : no answer, a refusal, another size or another SHA-256. The file is then not there.
    """
    part = wanted.path.with_name(wanted.path.name + ".part")
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(client.retries + 1):
        if _size(part) > wanted.bytes:
            part.unlink()
        if _size(part) == wanted.bytes:
            break
        time.sleep(http.BACKOFF_SECONDS * (2**attempt - 1))
        _go_on(client, url, part, wanted.bytes, headers or {}, advance)
    _accept(url, part, wanted)


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _go_on(
    client: Http, url: str, part: Path, size: int, headers: Mapping[str, str], advance: Callable[[int], None]
) -> None:
    """Append what the server sends until it ends or breaks; a server that ignores Range starts over."""
    have = _size(part)
    ranged = {"Range": f"bytes={have}-"} if have else {}
    # "identity": sizes, ranges and hashes are those of the file, not of a compressed transfer
    with client.send("GET", url, headers={"Accept-Encoding": "identity", **headers, **ranged}, stream=True) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()
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
    left = most + 1
    try:
        # read1 hands over what has come; iter_content would lose the last, half chunk of a broken transfer
        while left > 0 and (chunk := response.raw.read1(min(CHUNK_BYTES, left))):
            write(chunk)
            advance(len(chunk))
            left -= len(chunk)
    except HTTPError:  # what has come is in the file; the caller counts and asks for the rest
        return


def _continues(response: requests.Response, have: int) -> bool:
    partial = response.status_code == requests.codes.partial_content
    return partial and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _accept(url: str, part: Path, wanted: Wanted) -> None:
    if _size(part) < wanted.bytes:
        raise AcquireError(
            f"{url} broke off after {_size(part)} of {wanted.bytes} bytes. {http.MEND} The next try goes on from there."
        )
    found = file_sha256(part)
    if _size(part) != wanted.bytes or found != wanted.sha256:
        size = _size(part)
        part.unlink()
        raise AcquireError(
            f"{url} sent another file than expected: {'more than ' * (size > wanted.bytes)}{wanted.bytes} bytes with "
            f"SHA-256 {found}, expected {wanted.sha256}. It was thrown away. Try again; if it stays so, the file has "
            "changed at its source."
        )
    part.replace(wanted.path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
