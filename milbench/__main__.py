"""`python -m milbench` is the command `milbench`."""

import os
import sys
from threading import Timer

from milbench.commands.cli import main
from milbench.commands.command import EXIT_INTERRUPTED

LEAVE_SECONDS = 10.0
"""How long a stopped command may clean up. A signal that comes at the wrong moment can leave a pool waiting for ever."""

LINGER_SECONDS = 30.0
"""How long a finished command may. A thread that a model has started, and that never ends, would keep the process for ever."""


def command() -> None:
    """Run the command and end this process with its exit code."""
    code = main()
    leave = Timer(LEAVE_SECONDS if code == EXIT_INTERRUPTED else LINGER_SECONDS, os._exit, [code])
    leave.daemon = True
    leave.start()
    sys.exit(code)


if __name__ == "__main__":
    command()
