"""`python -m milbench` is the command `milbench`."""

import atexit
import os
import sys
from contextlib import suppress
from threading import Timer

from milbench.commands.cli import main
from milbench.commands.command import EXIT_INTERRUPTED

LEAVE_SECONDS = 10.0
"""How long a stopped command may clean up. A signal that comes at the wrong moment can leave a pool waiting for ever."""

LINGER_SECONDS = 30.0
"""How long a finished command may. A thread that a model has started, and that never ends, would keep the process for ever."""


def command() -> None:
    """Run the command and end this process with its exit code."""
    codes: list[int] = []
    if _is_first_at_exit():
        atexit.register(_end, codes)
    codes.append(code := main())
    leave = Timer(LEAVE_SECONDS if code == EXIT_INTERRUPTED else LINGER_SECONDS, os._exit, [code])
    leave.daemon = True
    leave.start()
    sys.exit(code)


def _is_first_at_exit() -> bool:
    """Whether nobody wants to be called when Python ends; what is registered later is called sooner than what was before."""
    count = getattr(atexit, "_ncallbacks", None)  # CPython's
    return count is not None and count() == 0


def _end(codes: list[int]) -> None:
    """End the process, last of all; Python would take every module apart, for a twentieth of a second with what a report imports."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, nobody reads it, it is closed
            stream.flush()
    for code in codes:  # none if the command was not to return
        os._exit(code)


if __name__ == "__main__":
    command()
