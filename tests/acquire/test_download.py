"""A file is complete and verified, or not there."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_server import FakeServer

from milbench.acquire.download import LEFTOVER_SECONDS, Wanted, clear_leftovers, download, is_complete
from milbench.acquire.http import COMMAND_SECONDS, Http
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


def test_a_transfer_that_keeps_breaking_leaves_nothing_behind(server: FakeServer, wanted: Wanted) -> None:
    server.fail("/f", "truncate")
    with pytest.raises(AcquireError, match=f"broke off after {len(BODY) // 2} of {len(BODY)} bytes"):
        fetch(server, wanted, retries=0)
    assert not list(wanted.path.parent.iterdir())
    fetch(server, wanted)
    assert is_complete(wanted)


@pytest.mark.parametrize("status", [200, 302, 404, 503])
def test_a_body_without_end_is_read_no_further_than_the_file_is_long(
    server: FakeServer, wanted: Wanted, status: int
) -> None:
    server.fail("/f", *[("endless", status)] * 50)
    began = time.monotonic()
    with pytest.raises(AcquireError, match=r"sent another file|answered 404|answered 503|Exceeded 30 redirects"):
        fetch(server, wanted, retries=0)
    assert time.monotonic() - began < 5
    assert not list(wanted.path.parent.iterdir())
    # what fits into the buffers of both ends, per request: requests follows thirty redirections
    assert server.sent_without_end < 20_000_000 * len(server.asked)
    assert server.sent_without_end < 20_000_000 or status == 302


@pytest.mark.parametrize("how", [("drip", 200), ("drip", 302), ("drip", 404), ("drip", 503), "drip head"], ids=str)
def test_a_drip_that_is_never_silent_ends_at_the_deadline(server: FakeServer, wanted: Wanted, how: object) -> None:
    server.fail("/f", *[how] * 50)
    began = time.monotonic()
    with pytest.raises(
        AcquireError, match=r"was not done after 1\.\d+ s|answered 404|answered 503|Exceeded 30 redirects"
    ):
        fetch(server, wanted, retries=0)
    assert time.monotonic() - began < 5
    assert not list(wanted.path.parent.iterdir())


def test_the_deadline_counts_all_tries_and_pauses_and_the_size_of_the_file() -> None:
    with Http(timeout=60, retries=5) as client:
        assert client.deadline().seconds == pytest.approx(6 * 120 + 5 * 60, abs=1)
        assert client.deadline(50_000_000).seconds == pytest.approx(6 * 120 + 5 * 60 + 5000, abs=1)
        assert client.deadline(10**12).seconds == pytest.approx(COMMAND_SECONDS, abs=1)


def test_what_a_killed_command_left_is_deleted_once_nobody_can_be_at_it(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".a.pt.1.part", ".b.pt.2.part", "a.pt"))
    for path in (old, new, other):
        path.write_text("x")
    os.utime(old, (time.time() - 2 * LEFTOVER_SECONDS,) * 2)
    clear_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == [new, other]


def test_two_commands_may_fetch_one_file_at_once(server: FakeServer, wanted: Wanted) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: fetch(server, wanted), range(4))) == [len(BODY)] * 4
    assert is_complete(wanted)
    assert [path.name for path in wanted.path.parent.iterdir()] == ["f.pt"]


def test_a_server_that_ignores_the_range_starts_over(server: FakeServer, wanted: Wanted) -> None:
    server.fail("/f", "truncate", BODY)
    assert fetch(server, wanted) == len(BODY)
    assert is_complete(wanted)


def test_a_range_that_is_refused_starts_over(server: FakeServer, wanted: Wanted) -> None:
    server.fail("/f", "truncate", 416)
    fetch(server, wanted)
    assert is_complete(wanted)


@pytest.mark.parametrize("sent", [b"x" * len(BODY), BODY + b"x", BODY * 2], ids=["hash", "longer", "twice"])
def test_another_file_is_deleted(server: FakeServer, wanted: Wanted, sent: bytes) -> None:
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


def test_a_web_page_in_the_place_of_a_file_is_called_one(server: FakeServer, wanted: Wanted) -> None:
    server.files["/f"] = b"<!DOCTYPE html><html>Sign in</html>"
    with pytest.raises(AcquireError, match="sent a web page instead of the file, perhaps of a log-in or a proxy"):
        fetch(server, wanted, retries=0)
    assert not list(wanted.path.parent.iterdir())
