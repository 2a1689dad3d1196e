"""`python -m milbench` is the command `milbench`."""

import os
import sys
from threading import Timer

from milbench.commands.cli import main
from milbench.commands.command import EXIT_INTERRUPTED

LEAVE_SECONDS = 10.0
"""How long a stopped command may clean up. A signal that comes at the wrong moment can leave a pool waiting for ever."""


def command() -> None:
    """Run the command and end this process with its exit code."""
    code = main()
    if code == EXIT_INTERRUPTED:
        leave = Timer(LEAVE_SECONDS, os._exit, [code])
        leave.daemon = True
        leave.start()
    sys.exit(code)


if __name__ == "__main__":
    command()
