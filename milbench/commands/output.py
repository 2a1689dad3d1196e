"""Output: standard output that may be full, closed or ASCII, without a traceback."""

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
    """Standard output that survives a full disk, a closed pipe and an ASCII terminal."""
    former = sys.stdout
    output = Output(former)
    _plain_signs(former)
    _plain_signs(sys.stderr)
    sys.stdout = output  # type: ignore[assignment]
    try:
        yield output
    finally:
        output.flush()
        sys.stdout = former


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
