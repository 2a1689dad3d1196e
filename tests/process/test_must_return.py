"""Code of others that ends the process, or does not come back, is an error."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from milbench.process.must_return import DidNotReturnError, must_return


@pytest.mark.parametrize(
    ("leave", "said"),
    [
        (lambda: sys.exit(0), r"sys\.exit\(0\)"),
        (lambda: sys.exit("bye"), r"sys\.exit\('bye'\)"),
        (lambda: os._exit(7), r"os\._exit\(7\)"),
    ],
)
def test_an_exit_is_an_error_that_says_how(leave: Callable[[], None], said: str) -> None:
    former = os._exit
    with pytest.raises(DidNotReturnError, match=said), must_return(60):
        leave()
    assert os._exit is former


def test_what_takes_too_long_is_stopped_at_its_line() -> None:
    begun = time.monotonic()
    with (
        pytest.raises(
            DidNotReturnError, match=r"not come back after 0\.2 seconds; it stands in line \d+ of .*test_must"
        ),
        must_return(0.2),
    ):
        time.sleep(30)
    assert time.monotonic() - begun < 10


def test_the_error_passes_code_that_catches_every_exception() -> None:
    def persist() -> None:
        while True:
            try:
                time.sleep(30)
            except Exception:  # noqa: BLE001 - what a plug-in may do
                continue

    with pytest.raises(DidNotReturnError), must_return(0.2):
        persist()


def test_outside_the_main_thread_there_is_no_time_limit_and_no_fault() -> None:
    done: list[int] = []

    def work() -> None:
        with must_return(0.01):
            time.sleep(0.05)
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]


def test_other_threads_may_still_end_the_process() -> None:
    code = (
        "import os, threading, time\n"
        "from milbench.process.must_return import no_exit\n"
        "with no_exit():\n"
        "    threading.Thread(target=lambda: os._exit(5)).start()\n"
        "    time.sleep(30)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=25).returncode == 5
