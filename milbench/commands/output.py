"""Output: standard output and standard error that may be full, closed or ASCII, without a traceback."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

PLAIN = {
    "±": "+/-", "×": "x", "·": "*", "…": "...", "–": "-", "—": "-", "−": "-", "→": "->", "≥": ">=", "≤": "<=", "’": "'",
    "‘": "'", "“": '"', "”": '"', "━": "-", "─": "-", "╺": "-", "╸": "-", "│": "|", "┃": "|", "•": "*", "✓": "+",
}  # fmt: skip
"""Signs that milbench prints, for a terminal that knows only ASCII."""

HANDLER = "milbench_plain"

STREAMS = ("stdin", "stdout", "stderr")
"""By the number that the system gives them."""


class Output:
    """A stream that goes on when it cannot be written: a run must not end because its reader has left.

    Attributes
    ----------
    failure : why the first write failed; None if none did.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Number of characters; all of them, if nothing can be written any more."""
        if self.failure is None:
            try:
                return self.stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self.failure is None:
            try:
                self.stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Send the rest nowhere: Python tries to write what is left when it ends, and would fail once more."""
        self.failure = error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


@contextmanager
def printing() -> Iterator[Output]:
    """Standard output, inside. It and standard error survive a full disk, a closed pipe or stream and an ASCII terminal.

    Nobody can be told that standard error failed; a warning that does not fit must not end a run.
    """
    _replace_closed_streams()
    former = sys.stdout, sys.stderr
    for stream in former:
        _plain_signs(stream)
    output, errors = map(Output, former)
    sys.stdout, sys.stderr = output, errors  # type: ignore[assignment]
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = former


def _replace_closed_streams() -> None:
    """Let what the caller has closed (`>&-`) lead nowhere. Python has no stream there, and the next file that is opened would
    take the number 1: what a library prints would land in a table.
    """
    missing = {name: number for number, name in enumerate(STREAMS) if getattr(sys, name) is None}
    for number in missing.values():  # all numbers are taken before a stream is opened, which would take one itself
        if not _is_open(number):
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    for name, number in missing.items():
        setattr(sys, name, os.fdopen(os.dup(number), "w" if number else "r", encoding="utf-8"))


def _is_open(number: int) -> bool:
    with suppress(OSError):
        os.fstat(number)
        return True
    return False


def _plain_signs(stream: Any) -> None:
    """Let the stream write other signs for those that its encoding does not have."""
    codecs.register_error(HANDLER, _in_plain_signs)
    with suppress(AttributeError, ValueError, OSError):  # a stream of a test or a notebook
        if "utf" not in stream.encoding.lower():
            stream.reconfigure(errors=HANDLER)


def _in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign) or _escaped(sign) for sign in signs), error.end


def _escaped(sign: str) -> str:
    """A box's corner as a plus, any other sign so that it can be recovered."""
    return "+" if "─" <= sign <= "╿" else sign.encode("ascii", "backslashreplace").decode()
