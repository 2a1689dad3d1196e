"""What a copy of this process leaves in memory is there for the process at home, and nothing stays open."""

import os

import pytest

from milbench.process.forked import Task, begun
from milbench.process.told import rooms_to_tell


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Descriptors of all rooms, in order."""
    found, usual = [], os.memfd_create

    def keep(name: str) -> int:
        found.append(usual(name))
        return found[-1]

    monkeypatch.setattr(os, "memfd_create", keep)
    return found


def test_what_a_copy_writes_is_read_here_whole_and_in_parts(opened: list[int]) -> None:
    content = os.urandom(300_000)  # more than a pipe holds
    with rooms_to_tell(2) as (first, second):
        with begun([Task("tell", lambda: first.write([b"head", content]))], 2):
            pass
        assert first.read(0) == b"head" + content
        assert first.read(0, 4) == b"head"
        assert first.read(4) == content
        assert second.read(0) == b""
    assert not any(map(is_open, opened))


def test_what_is_written_last_counts(opened: list[int]) -> None:
    with rooms_to_tell(1) as (room,):
        room.write([b"a long text"])
        room.write([b"short"])
        assert room.read(0) == b"short"
    assert len(opened) == 1


@pytest.mark.parametrize(
    "error", [AttributeError("no such function"), OSError(24, "Too many open files"), OSError(38, "Not implemented")]
)
def test_there_are_all_rooms_or_none(monkeypatch: pytest.MonkeyPatch, opened: list[int], error: Exception) -> None:
    usual = os.memfd_create

    def refused(name: str) -> int:
        if len(opened) == 2:
            raise error
        return usual(name)

    monkeypatch.setattr(os, "memfd_create", refused)
    with rooms_to_tell(3) as rooms:
        assert list(rooms) == []
        assert not any(map(is_open, opened))  # before others ask for files
    assert len(opened) == 2


def test_an_error_closes_rooms(opened: list[int]) -> None:
    with pytest.raises(ZeroDivisionError), rooms_to_tell(2):
        raise ZeroDivisionError
    assert len(opened) == 2
    assert not any(map(is_open, opened))
