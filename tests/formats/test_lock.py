"""A lock is free in a process that was forked, whatever another thread did with it at that moment."""

from __future__ import annotations

import os
import threading
import time

import pytest

from milbench.formats import chunks, parts, tensors, unchanged
from milbench.formats.lock import lock_free_after_fork

LOCKS = {
    "a new one": lock_free_after_fork(),
    "chunks": chunks._remembering,
    "parts": parts._starting,
    "tensors": tensors._LOADING,
    "unchanged": unchanged._remembering,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("name", LOCKS)
def test_a_fork_waits_for_a_thread_that_holds_a_lock_and_the_copy_finds_it_free(name: str) -> None:
    lock, is_held, order = LOCKS[name], threading.Event(), []

    def hold() -> None:
        with lock:
            is_held.set()
            time.sleep(0.05)
            order.append("given back")

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_held.wait(10)
    if not (process := os.fork()):
        os._exit(0 if order and lock.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    thread.join()
    assert order == ["given back"]
    assert not lock.locked()
