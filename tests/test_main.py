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


ENDS = """
import atexit, sys
from milbench import __main__ as module

class Global:
    def __del__(self):
        print("taken apart", flush=True)

module.kept = Global()
if sys.argv[1] == "wrapped":
    atexit.register(print, "of a wrapper", flush=True)

def main():
    atexit.register(print, "of the command", flush=True)
    print("said")
    return 3

module.main = main
module.command()
"""


def said_by(how: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", ENDS, how], env=environment(), timeout=60, check=False, stdout=subprocess.PIPE, text=True
    )
    return done.returncode, done.stdout.splitlines()


def test_a_command_ends_without_taking_modules_apart_and_after_all_that_is_left_to_do() -> None:
    """Python would delete what every module holds. A pool, a log or a folder is seen off where it asked for that."""
    assert said_by("alone") == (3, ["said", "of the command"])


def test_whoever_wraps_the_command_is_called_at_its_end() -> None:
    """As a measurement of coverage is, which begins before the command does."""
    code, lines = said_by("wrapped")
    assert code == 3
    assert lines[:3] == ["said", "of the command", "of a wrapper"]
