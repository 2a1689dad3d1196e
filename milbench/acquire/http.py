"""One HTTP client for every server: time limits, back-off, and one kind of error that says where it happened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from urllib3.util.retry import Retry

import milbench
from milbench.errors import AcquireError

RETRIED = (408, 429, 500, 502, 503, 504)
"""Answers that may be another a moment later; Retry-After is obeyed where the server gives it."""
BACKOFF_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60
CONNECT_SECONDS = 10.0
WORDS_OF_AN_ANSWER = 300

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
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"milbench/{milbench.__version__}"
        adapter = requests.adapters.HTTPAdapter(max_retries=_retry(retries))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def __enter__(self) -> Http:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def send(
        self, method: str, url: str, *, body: Any = None, headers: Mapping[str, str] | None = None, stream: bool = False
    ) -> requests.Response:
        """The answer, whatever its status.

        Raises
        ------
        AcquireError : no answer after the last try.
        """
        try:
            return self._session.request(
                method, url, json=body, headers=headers, stream=stream, timeout=(CONNECT_SECONDS, self.timeout)
            )
        except requests.Timeout as error:
            raise AcquireError(f"{url} was silent for {self.timeout:g} s, {self._tries()}. {MEND}") from error
        except requests.RequestException as error:
            raise AcquireError(f"{url} cannot be reached, {self._tries()} ({_cause(error)}). {MEND}") from error

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
        if path and path.exists():
            try:
                return json.loads(path.read_text(encoding="utf-8"))["answer"]
            except (ValueError, KeyError, TypeError):  # half a file of a crash: ask again
                path.unlink()
        answer = self._ask(url, body, headers)
        check(answer)
        if path:
            _write(path, {"url": url, "body": body, "answer": answer})
        return answer

    def rows(self, url: str, needed: tuple[str, ...], body: Any = None) -> list[dict[str, Any]]:
        """As `json`, where the answer must be a list of objects that all have the `needed` fields."""
        return rows_of(url, self.json(url, body, check=lambda answer: rows_of(url, answer, needed)), needed)

    def _ask(self, url: str, body: Any, headers: Mapping[str, str] | None) -> Any:
        response = self.send("GET" if body is None else "POST", url, body=body, headers=headers)
        refuse_bad_status(response)
        try:
            return response.json()
        except ValueError as error:
            raise AcquireError(
                f"{url} answered {response.headers.get('Content-Type', 'something')} instead of JSON: "
                f"'{response.text[:80]}'. Is a proxy or a log-in page in between, or the address another server's?"
            ) from error

    def _kept(self, url: str, body: Any) -> Path | None:
        if self.cache is None:
            return None
        question = json.dumps([url, body], sort_keys=True)
        return self.cache / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"

    def _tries(self) -> str:
        return f"{self.retries + 1} tries" if self.retries else "one try"


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


def rows_of(url: str, answer: Any, needed: tuple[str, ...]) -> list[dict[str, Any]]:
    """The answer as a list of objects that all have the `needed` fields, or an AcquireError."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise AcquireError(f"{url} answered no list of objects. Is it the right address of the right server?")
    for row in answer:
        for name in needed:
            if name not in row:
                raise AcquireError(f"{url}: an answer lacks '{name}' (has {', '.join(row)}). The server's API differs.")
    return answer


def _retry(retries: int) -> Retry:
    return Retry(
        total=retries,
        backoff_factor=BACKOFF_SECONDS,
        backoff_max=LONGEST_WAIT_SECONDS,
        retry_after_max=LONGEST_WAIT_SECONDS,  # a server that asks for an hour is an error to show, not a silence
        backoff_jitter=BACKOFF_SECONDS,
        status_forcelist=RETRIED,
        allowed_methods=None,
        raise_on_status=False,  # the last answer's own words say more than "too many 500 error responses"
        raise_on_redirect=True,
    )


def _words(response: requests.Response) -> str:
    """ ": <the message in the answer>", shortened; "" if there is none."""
    try:
        text = response.text[:WORDS_OF_AN_ANSWER].strip()
    except requests.RequestException:
        return ""
    try:
        told = response.json()
        text = str(told.get("message") or told.get("warnings") or text) if isinstance(told, dict) else text
    except ValueError:
        text = "" if text.startswith("<") else text
    return f": {text}".rstrip(".") if text else ""


def _cause(error: requests.RequestException) -> str:
    reason = getattr(error.args[0], "reason", error) if error.args else error
    return str(reason).rpartition(">: ")[2][:WORDS_OF_AN_ANSWER] or type(error).__name__


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(path)
