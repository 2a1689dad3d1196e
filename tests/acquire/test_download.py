"""A file is complete and verified, or not there."""

import hashlib
from pathlib import Path

import pytest
from fake_server import FakeServer

from milbench.acquire.download import Wanted, download, is_complete
from milbench.acquire.http import Http
from milbench.errors import AcquireError

BODY = bytes(range(256)) * 40


@pytest.fixture
def wanted(server: FakeServer, tmp_path: Path) -> Wanted:
    server.files["/f"] = BODY
    return Wanted(tmp_path / "deep" / "f.pt", len(BODY), hashlib.sha256(BODY).hexdigest())


def fetch(server: FakeServer, wanted: Wanted, *, retries: int = 3) -> int:
    """Bytes that the progress bar was told of."""
    came: list[int] = []
    with Http(timeout=0.3, retries=retries) as client:
        download(client, f"{server.url}/f", wanted, advance=came.append)
    return sum(came)


def test_a_file_is_fetched_and_verified(server: FakeServer, wanted: Wanted) -> None:
    assert fetch(server, wanted) == len(BODY)
    assert is_complete(wanted)
    assert [path.name for path in wanted.path.parent.iterdir()] == ["f.pt"]


@pytest.mark.parametrize("failure", [500, 503, "drop", "slow", 429])
def test_a_server_that_fails_once_is_asked_again(server: FakeServer, wanted: Wanted, failure: int | str) -> None:
    server.fail("/f", failure)
    fetch(server, wanted)
    assert is_complete(wanted)
    assert len(server.asked) == 2


def test_a_truncated_body_goes_on_where_it_broke(server: FakeServer, wanted: Wanted) -> None:
    server.fail("/f", "truncate")
    assert fetch(server, wanted) == len(BODY)
    assert is_complete(wanted)
    assert server.ranges == [f"bytes={len(BODY) // 2}-"]


def test_the_next_command_goes_on_where_the_last_one_broke(server: FakeServer, wanted: Wanted) -> None:
    server.fail("/f", "truncate")
    with pytest.raises(AcquireError, match=f"broke off after {len(BODY) // 2} of {len(BODY)} bytes"):
        fetch(server, wanted, retries=0)
    assert not wanted.path.exists()
    fetch(server, wanted)
    assert is_complete(wanted)
    assert server.ranges == [f"bytes={len(BODY) // 2}-"]


def test_a_server_that_ignores_the_range_starts_over(server: FakeServer, wanted: Wanted) -> None:
    server.fail("/f", "truncate", BODY)
    assert fetch(server, wanted) == len(BODY)
    assert is_complete(wanted)


def test_a_range_that_is_refused_starts_over(server: FakeServer, wanted: Wanted) -> None:
    server.fail("/f", "truncate", 416)
    fetch(server, wanted)
    assert is_complete(wanted)


@pytest.mark.parametrize("sent", [b"x" * len(BODY), BODY + b"x", BODY * 2], ids=["hash", "longer", "twice"])
def test_another_file_is_thrown_away(server: FakeServer, wanted: Wanted, sent: bytes) -> None:
    server.files["/f"] = sent
    with pytest.raises(AcquireError, match="sent another file than expected"):
        fetch(server, wanted)
    assert not list(wanted.path.parent.iterdir())


def test_a_server_that_never_answers_is_named(server: FakeServer, wanted: Wanted) -> None:
    server.fail("/f", *["slow"] * 2)
    with pytest.raises(AcquireError, match=r"/f was silent for 0.3 s, 2 tries|/f cannot be reached, 2 tries"):
        fetch(server, wanted, retries=1)


def test_a_server_that_keeps_failing_is_quoted(server: FakeServer, wanted: Wanted) -> None:
    server.fail("/f", 500, 500)
    with pytest.raises(AcquireError, match=r"answered 500: made to fail with 500\. Check the connection"):
        fetch(server, wanted, retries=1)


def test_a_place_without_a_server_is_named(tmp_path: Path) -> None:
    with Http(retries=0) as client, pytest.raises(AcquireError, match=r"127.0.0.1:9/f cannot be reached, one try"):
        download(client, "http://127.0.0.1:9/f", Wanted(tmp_path / "f", 1, ""))
