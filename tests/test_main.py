"""The command as a process: it ends with its exit code, and after a stop it ends for certain."""

import subprocess
import sys
import time

from commands_for_tests import environment

HANGS = """
import threading
from milbench import __main__ as module
module.LEAVE_SECONDS = 1.0
module.main = lambda: {code}
threading.Thread(target=threading.Event().wait, args=({seconds},)).start()
module.command()
"""


def ended(code: int, seconds: float) -> tuple[int, float]:
    """Exit code, and seconds it took, of a command whose pool waits for so long at its end."""
    begun = time.monotonic()
    script = HANGS.format(code=code, seconds=seconds)
    done = subprocess.run([sys.executable, "-c", script], env=environment(), timeout=60, check=False)
    return done.returncode, time.monotonic() - begun


def test_a_stopped_command_does_not_wait_for_what_hangs() -> None:
    code, seconds = ended(130, 50.0)
    assert code == 130
    assert seconds < 40


def test_any_other_command_ends_in_its_own_time() -> None:
    assert ended(3, 3.0)[0] == 3
