"""Answers: none without an end, none that is kept and cannot be used."""

import json
import time
import tracemalloc
from pathlib import Path

import pytest
from fake_server import FakeServer

from milbench.acquire import http
from milbench.acquire.http import Http, pause_after
from milbench.errors import AcquireError


def ask(server: FakeServer, cache: Path | None = None, *, retries: int = 0) -> object:
    with Http(timeout=0.3, retries=retries, cache=cache) as client:
        return client.json(f"{server.url}/answer")


@pytest.mark.parametrize("status", [200, 302, 404, 503])
def test_an_answer_without_end_is_cut_off(server: FakeServer, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(http, "MOST_BYTES_OF_AN_ANSWER", 3_000_000)
    server.fail("/answer", *[("endless", status)] * 50)
    tracemalloc.start()
    with pytest.raises(AcquireError, match=r"more than 3\.0 MB|answered 404|answered 503|Exceeded 30 redirects"):
        ask(server)
    assert tracemalloc.get_traced_memory()[1] < 30_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("how", [("drip", 200), ("drip", 503), "drip head"], ids=str)
def test_an_answer_that_drips_ends_at_the_deadline(server: FakeServer, how: object) -> None:
    server.fail("/answer", how)
    began = time.monotonic()
    with pytest.raises(AcquireError, match=r"/answer (was not done after 0\.6 s|broke off|answered 503)"):
        ask(server)
    assert time.monotonic() - began < 3


def test_an_error_page_without_end_is_not_read_between_two_tries(server: FakeServer) -> None:
    server.fail("/answer", ("endless", 503))
    server.files["/answer"] = b"[]"
    assert ask(server, retries=1) == []


def test_all_answers_of_a_command_have_one_limit(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BYTES_OF_ALL_ANSWERS", 1000)
    server.files["/answer"] = json.dumps(["x" * 600]).encode()
    with Http(timeout=0.3, retries=0) as client:
        client.json(f"{server.url}/answer")
        with pytest.raises(AcquireError, match="answered more than"):
            client.json(f"{server.url}/answer")


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff\xfe", b"<html>", b"1" * 5000, b""], ids=lambda b: str(b[:6]))
def test_an_answer_that_is_no_json_is_quoted(server: FakeServer, body: bytes) -> None:
    server.files["/answer"] = body
    with pytest.raises(AcquireError, match="instead of JSON"):
        ask(server)


def test_an_answer_that_was_kept_and_cannot_be_used_is_asked_for_again(server: FakeServer, tmp_path: Path) -> None:
    server.files["/answer"] = b"[1]"
    assert ask(server, tmp_path) == [1]
    (kept,) = tmp_path.iterdir()
    for damaged in ("", "[]", '{"answer"', "[" * 100_000):
        kept.write_text(damaged)
        assert ask(server, tmp_path) == [1]
    assert len(server.asked) == 5
    assert ask(server, tmp_path) == [1]
    assert len(server.asked) == 5
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize(
    ("value", "kind"), [("7157", int), (True, int), (None, int), (["x"], str), ("a\nb", str), ("\x1b[31m", str)]
)
def test_a_field_of_another_type_is_named(server: FakeServer, value: object, kind: type) -> None:
    server.files["/answer"] = json.dumps([{"field": value}]).encode()
    with Http(retries=0) as client, pytest.raises(AcquireError, match=r"'field' is .* in an answer; expected") as told:
        client.rows(f"{server.url}/answer", {"field": kind})
    assert str(told.value).isprintable()


def test_pauses_grow_to_a_minute_and_no_further() -> None:
    assert pause_after(0) < pause_after(3) < pause_after(10_000) == http.LONGEST_WAIT_SECONDS


@pytest.mark.parametrize(
    "address", ["http://[::1", "http://\udcff/", f"http://{'a' * 3000}/", "http://a b/"], ids=ascii
)
def test_an_address_that_cannot_be_asked_is_told_and_not_tried_again(address: str) -> None:
    with Http(timeout=0.3, retries=3) as client, pytest.raises(AcquireError, match="cannot be reached"):
        client.json(address)


def test_a_redirection_to_no_address_is_told(server: FakeServer) -> None:
    server.fail("/answer", ("to", "http://[::1"))
    with pytest.raises(AcquireError, match=r"/answer cannot be reached, one try \(.*IPv6"):
        ask(server)
