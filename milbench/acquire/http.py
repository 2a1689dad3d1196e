"""One HTTP client for every server: limits of time and bytes, back-off, and one kind of error that says where.

Nothing is read before it is known how much of it at most, and nothing is waited for without an end.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from types import MappingProxyType, TracebackType
from typing import Any

import requests
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util.retry import Retry

import milbench
from milbench.errors import AcquireError
from milbench.machine.deadline import Deadline, within
from milbench.machine.sizes import bytes_text
from milbench.store.files import write_atomically

RETRIED = (408, 429, 500, 502, 503, 504)
"""Answers that may be another a moment later; Retry-After is obeyed where the server gives it."""
BACKOFF_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
SLOWEST_BYTES_PER_SECOND = 10_000
"""A file of known size gets this much more time, beside that of its tries."""
COMMAND_SECONDS = 6 * 3600.0
"""All that one client asks for; what is finished by then is kept."""

CHUNK_BYTES = 1 << 16
MOST_BYTES_OF_AN_ANSWER = 30_000_000
"""Where nobody has pinned the size, whatever the server says of it: the longest known answer has about 10 MB. Decoded, a
list of empty lists takes 24 times its bytes of JSON, and must fit into 1 GB."""
MOST_BYTES_OF_ALL_ANSWERS = 1_000_000_000
MOST_BYTES_OF_AN_ERROR = 10_000
WORDS_OF_AN_ANSWER = 300

Fields = Mapping[str, type]
"""Fields that every object of an answer must have, and of which type they are."""
NO_FIELDS: Fields = MappingProxyType({})
WORD_OF = {str: "text without control characters", int: "a whole number", list: "a list", dict: "an object"}

POINTLESS_AGAIN = (requests.TooManyRedirects, ValueError)
"""ValueError: an address or a header, perhaps named by the server, that cannot be asked; not all of them are requests' own."""

MEND = "Check the connection and give the same command again: what has come is kept."


class Http:
    """A session that tries again after a broken connection, a 429 or a 5xx; close it with `with`.

    POST is tried again too: every POST here only asks.

    Parameters
    ----------
    timeout : seconds without a byte after which a server counts as silent.
    retries : further tries after the first.
    cache : folder that keeps every JSON answer, so that a stopped command goes on where it was. Plain JSON files,
        since the usual caching library pickles.
    """

    def __init__(self, *, timeout: float = 60.0, retries: int = 5, cache: Path | None = None) -> None:
        self.timeout, self.retries, self.cache = timeout, retries, cache
        self._command = Deadline(COMMAND_SECONDS)
        self._bytes_left = MOST_BYTES_OF_ALL_ANSWERS
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"milbench/{milbench.__version__}"
        self._session.hooks["response"].append(_close_redirect)

    def __enter__(self) -> Http:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def deadline(self, size: int = 0) -> Deadline:
        """The end of one answer of `size` bytes, all its tries and pauses together."""
        tries = 2 * self.timeout * (self.retries + 1) + LONGEST_WAIT_SECONDS * self.retries
        return Deadline(min(tries + size / SLOWEST_BYTES_PER_SECOND, self._command.left()))

    @contextmanager
    def answer(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[requests.Response]:
        """The answer, whatever its status, its body still to be read; its connection is cut off at the deadline.

        Raises
        ------
        AcquireError : no answer after the last try, or none before the deadline.
        """
        response = self._try_until(method, url, deadline, body=body, headers=headers)
        cut = Timer(deadline.left(), _cut_off, [response])
        cut.daemon = True
        cut.start()
        try:
            yield response
        finally:
            cut.cancel()
            response.close()
        if deadline.has_passed():
            raise self._too_slow(url, deadline)

    def _try_until(self, method: str, url: str, deadline: Deadline, **question: Any) -> requests.Response:
        """The first answer that another try would not better, or the last one."""
        for attempt in range(self.retries + 1):
            is_last = attempt == self.retries
            try:
                response = self._try_once(method, url, deadline, **question)
            except requests.Timeout as error:
                if is_last:
                    raise AcquireError(f"{url} was silent for {self.timeout:g} s, {self._tries()}. {MEND}") from error
                pause = pause_after(attempt)
            except (requests.RequestException, ValueError) as error:
                if is_last or isinstance(error, POINTLESS_AGAIN):
                    raise AcquireError(f"{url} cannot be reached, {self._tries()} ({_cause(error)}). {MEND}") from error
                pause = pause_after(attempt)
            else:
                if is_last or response.status_code not in RETRIED:
                    return response
                response.close()  # unread: an error's page may have no end either
                pause = max(pause_after(attempt), _pause_asked_for(response))
            time.sleep(min(pause, deadline.left()))
        raise AssertionError("the last try returns or raises")

    def _try_once(self, method: str, url: str, deadline: Deadline, *, body: Any, headers: Any) -> requests.Response:
        def ask() -> requests.Response:
            return self._session.request(
                method, url, json=body, headers=headers, stream=True, timeout=(CONNECT_SECONDS, self.timeout)
            )

        try:
            return within(deadline.left(), ask)
        except TimeoutError as error:
            raise self._too_slow(url, deadline) from error

    def _too_slow(self, url: str, deadline: Deadline) -> AcquireError:
        return AcquireError(
            f"{url} was not done after {deadline.seconds:.4g} s, which is the limit of one answer. {MEND} "
            "If the connection is slow, give --timeout more seconds."
        )

    def json(
        self,
        url: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        check: Callable[[Any], object] = lambda _: None,
    ) -> Any:
        """Decoded JSON of a GET, or of a POST if there is a `body`; from the cache where it is known.

        `check` raises if the answer cannot be used, and comes first: such an answer is not kept.
        """
        path = self._kept(url, body)
        known = _known(path, check)
        if known is not None:
            return known
        answer = self._ask(url, body, headers)
        check(answer)
        if path:
            _write(path, {"url": url, "body": body, "answer": answer})
        return answer

    def rows(self, url: str, needed: Fields, body: Any = None) -> list[dict[str, Any]]:
        """As `json`, where the answer must be a list of objects that all have the `needed` fields."""
        answer: list[dict[str, Any]] = self.json(url, body, check=lambda answer: rows_of(url, answer, needed))
        return answer

    def _ask(self, url: str, body: Any, headers: Mapping[str, str] | None) -> Any:
        method, deadline = "GET" if body is None else "POST", self.deadline()
        with self.answer(method, url, deadline, body=body, headers=headers) as response:
            refuse_bad_status(response)
            content = self._content(url, response)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            start = content[:80].decode("utf-8", "replace")
            raise AcquireError(
                f"{url} answered {response.headers.get('Content-Type', 'something')} instead of JSON: "
                f"{start!r}. Is a proxy or a log-in page in between, or the address another server's?"
            ) from error

    def _content(self, url: str, response: requests.Response) -> bytes:
        """The body, whose size nobody has pinned."""
        most = min(MOST_BYTES_OF_AN_ANSWER, self._bytes_left)
        content = read_body(response, most + 1)
        if len(content) > most:
            raise AcquireError(
                f"{url} answered more than {bytes_text(most)}, and was cut off there: no answer that milbench asks "
                "for is as long. Is it the right address of the right server?"
            )
        self._bytes_left -= len(content)
        return content

    def _kept(self, url: str, body: Any) -> Path | None:
        if self.cache is None:
            return None
        question = json.dumps([url, body], sort_keys=True)
        return self.cache / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"

    def _tries(self) -> str:
        return f"{self.retries + 1} tries" if self.retries else "one try"


def chunks(response: requests.Response, most: int, *, decoded: bool = True) -> Iterator[bytes]:
    """The body as it comes, `most` bytes of it at the utmost.

    Raises
    ------
    HTTPError : the transfer broke off.
    """
    left = most
    # read1 hands over what has come; iter_content would lose the last, half chunk of a broken transfer
    while left > 0 and (chunk := response.raw.read1(min(CHUNK_BYTES, left), decode_content=decoded)):
        yield chunk
        left -= len(chunk)


def read_body(response: requests.Response, most: int) -> bytes:
    """The body, or its first `most` bytes.

    Raises
    ------
    AcquireError : the transfer broke off.
    """
    content = bytearray()
    try:
        for chunk in chunks(response, most):
            content += chunk
    except (HTTPError, OSError, ValueError) as error:
        raise AcquireError(f"{response.url} broke off after {len(content)} bytes. {MEND}") from error
    return bytes(content)


def refuse_bad_status(response: requests.Response) -> None:
    """Raise an AcquireError with the server's own words unless the status is 2xx."""
    if response.ok:
        return
    mends = {
        401: "It wants a log-in: use the public instance.",
        403: "It refuses: a log-in, a used-up quota or a controlled file.",
        404: "Check the name, and the address of the server.",
        429: "It asks for patience: wait a few minutes and give the same command again.",
    }
    mend = mends.get(response.status_code, MEND if response.status_code >= 500 else "Check what was asked for.")
    raise AcquireError(f"{response.url} answered {response.status_code}{_words(response)}. {mend}")


def rows_of(url: str, answer: Any, needed: Fields, optional: Fields = NO_FIELDS) -> list[dict[str, Any]]:
    """The answer as a list of objects that all have the `needed` fields, or an AcquireError."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise AcquireError(f"{url} answered no list of objects. Is it the right address of the right server?")
    for row in answer:
        for name, kind in {**needed, **optional}.items():
            if name in row:
                _refuse_odd_field(url, name, row[name], kind)
            elif name in needed:
                raise AcquireError(
                    f"{url}: an answer lacks '{name}' (has {ascii(list(row))[:200]}). The server's API differs."
                )
    return answer


def _refuse_odd_field(url: str, name: str, value: Any, kind: type) -> None:
    """Names go into tables and terminals, so that no line break or control character may be in one."""
    is_odd = not isinstance(value, kind) or isinstance(value, bool)
    if is_odd or (isinstance(value, str) and not value.isprintable()):
        raise AcquireError(
            f"{url}: '{name}' is {ascii(value)[:80]} in an answer; expected {WORD_OF[kind]}. The server's API differs."
        )


def pause_after(attempt: int) -> float:
    """Seconds before the next try: doubled each time, and never the same for two clients."""
    doubled = 2.0 ** min(attempt, 16)
    return min(BACKOFF_SECONDS * (doubled + random.random()), LONGEST_WAIT_SECONDS)  # noqa: S311 - no secret


def _pause_asked_for(response: requests.Response) -> float:
    """Seconds of Retry-After; a server that asks for an hour is an error to show, not a silence."""
    with suppress(InvalidHeader, ValueError, OverflowError):
        asked = float(Retry().parse_retry_after(response.headers.get("Retry-After", "0")))
        return float(min(max(asked, 0.0), LONGEST_WAIT_SECONDS))
    return 0.0


def _close_redirect(response: requests.Response, **_: Any) -> None:
    """Drop the body of a redirection: requests would read it to its end, and it may have none."""
    if response.is_redirect:
        response.close()


def _cut_off(response: requests.Response) -> None:
    with suppress(OSError, ValueError, RuntimeError):  # it has just been read to its end
        response.raw.shutdown()


def _words(response: requests.Response) -> str:
    """ ": <the message in the answer>", shortened; "" if there is none."""
    try:
        text = read_body(response, MOST_BYTES_OF_AN_ERROR).decode("utf-8", "replace").strip()
    except AcquireError:
        return ""
    try:
        told = json.loads(text)
        text = str(told.get("message") or told.get("warnings") or text) if isinstance(told, dict) else text
    except (ValueError, RecursionError):
        text = "" if text.startswith("<") else text
    return f": {text[:WORDS_OF_AN_ANSWER]}".rstrip(".") if text else ""


def _cause(error: Exception) -> str:
    reason = getattr(error.args[0], "reason", error) if error.args else error
    return str(reason).rpartition(">: ")[2][:WORDS_OF_AN_ANSWER] or type(error).__name__


def _known(path: Path | None, check: Callable[[Any], object]) -> Any:
    """The answer that an earlier command kept; None where there is none that can be used."""
    if path is None or not path.exists():
        return None
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))["answer"]
        check(answer)
    except (ValueError, KeyError, TypeError, RecursionError, AcquireError):  # damaged or changed: ask again
        path.unlink()
        return None
    return answer


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content).encode())
