"""Page cache: a file that will be mapped is held in memory first, and nothing else is touched."""

import errno
import os
from pathlib import Path

import pytest
from quick_disk import FSYNC

from milbench.formats import page_cache
from milbench.formats.page_cache import SMALL, fetch, is_held

CAN_TELL = pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="this system does not tell what it holds")


def forgotten(path: Path) -> None:
    """Have the system drop the file from its memory; skip the test where it does not, as on a tmpfs."""
    with path.open("rb") as file:
        FSYNC(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if held(path) is not False:
        pytest.skip("this file system forgets no files")


def held(path: Path) -> bool | None:
    with path.open("rb") as file:
        return is_held(file.fileno(), path.stat().st_size)


@CAN_TELL
def test_a_file_is_held_in_memory_after_it_was_fetched(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(8 * SMALL))
    forgotten(path)
    fetch(path)
    assert held(path)


@CAN_TELL
def test_a_file_larger_than_the_limit_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(8 * SMALL))
    monkeypatch.setattr(page_cache, "MOST_FETCHED", 7 * SMALL)
    forgotten(path)
    fetch(path)
    assert not held(path)


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opened, it would be waited for
    for name in ("pipe", "none", ".", "a\0"):
        fetch(tmp_path / name)


@CAN_TELL
def test_a_file_system_that_does_not_tell_is_asked_to_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    asked: list[int] = []
    monkeypatch.setattr(os, "preadv", refusing)
    monkeypatch.setattr(os, "posix_fadvise", lambda *told: asked.append(told[-1]))
    (tmp_path / "a").write_bytes(bytes(2 * SMALL))
    fetch(tmp_path / "a")
    assert asked == [os.POSIX_FADV_WILLNEED]
