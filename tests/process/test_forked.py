"""Tasks shared out among copies of a process: all are done once they can be, and errors are those of one process."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from milbench.process import forked
from milbench.process.forked import Task, begun, share_out


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have left threads behind; these tasks use nothing of theirs."""
    monkeypatch.setattr(forked, "_may_copy", lambda: True)


def writes(path: Path) -> Callable[[], object]:
    return lambda: path.write_text(str(os.getpid()))


@pytest.mark.parametrize("n_processes", [1, 2, 3, 8])
def test_every_task_is_done(tmp_path: Path, n_processes: int) -> None:
    share_out([Task(f"{n}", writes(tmp_path / f"{n}")) for n in range(7)], n_processes)
    assert sorted(path.name for path in tmp_path.iterdir()) == list("0123456")


def test_copies_do_their_part(tmp_path: Path) -> None:
    reader, writer = os.pipe()

    def waits_for_the_others() -> None:
        os.read(reader, 1)

    def lets_them_go() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        os.write(writer, b"xx")

    share_out([Task("waits", waits_for_the_others), Task("goes on", lets_them_go)], 2)
    assert (tmp_path / "pid").exists(), "one process alone would wait for ever"


def test_a_copy_works_while_this_process_does_something_else(tmp_path: Path) -> None:
    with begun([Task("a", writes(tmp_path / "a"))], 2):
        while not (tmp_path / "a").exists():  # for ever, if nobody else wrote it
            pass
    assert (tmp_path / "a").read_text() != str(os.getpid())


@pytest.mark.parametrize("n_processes", [1, 2])
def test_what_was_begun_is_done_when_the_block_is_left(tmp_path: Path, n_processes: int) -> None:
    tasks = [Task(f"{n}", writes(tmp_path / f"{n}")) for n in range(5)]
    with begun(tasks, n_processes):
        if n_processes == 1:
            assert not list(tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 5


def test_an_error_in_the_block_ends_the_copies(tmp_path: Path) -> None:
    def waits() -> None:
        (tmp_path / "part").write_text(str(os.getpid()))
        (tmp_path / "part").rename(tmp_path / "pid")
        signal.pause()

    def fails_meanwhile() -> None:
        with begun([Task("waits", waits)], 2):
            while not (tmp_path / "pid").exists():
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_meanwhile()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("n_processes", [1, 2, 4])
def test_the_first_error_is_raised_as_it_is_and_names_its_task(tmp_path: Path, n_processes: int) -> None:
    def fails() -> None:
        raise OSError(28, "No space left on device", "box.png")

    def fails_too() -> None:
        raise ValueError("later")

    tasks = [Task("figure roc", writes(tmp_path / "roc")), Task("figure box", fails), Task("figure gain", fails_too)]
    with pytest.raises(OSError, match="No space left") as raised:
        share_out(tasks, n_processes)
    assert (raised.value.errno, raised.value.filename) == (28, "box.png")
    assert raised.value.__notes__ == ["while making figure box"]


def test_what_a_killed_copy_left_is_done_here(tmp_path: Path) -> None:
    home = os.getpid()

    def dies_elsewhere(path: Path) -> None:
        if os.getpid() != home:
            os.kill(os.getpid(), signal.SIGKILL)
        path.write_text("done")

    share_out([Task(f"{n}", lambda n=n: dies_elsewhere(tmp_path / f"{n}")) for n in range(5)], 3)
    assert len(list(tmp_path.iterdir())) == 5


def test_without_processes_one_does_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses() -> int:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuses)
    share_out([Task(f"{n}", writes(tmp_path / f"{n}")) for n in range(3)], 4)
    assert {path.read_text() for path in tmp_path.iterdir()} == {str(os.getpid())}


def test_without_more_open_files_one_does_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe", refuses)
    share_out([Task(f"{n}", writes(tmp_path / f"{n}")) for n in range(3)], 4)
    assert {path.read_text() for path in tmp_path.iterdir()} == {str(os.getpid())}


def test_an_interrupted_process_ends_its_copies(tmp_path: Path) -> None:
    home = os.getpid()

    def never_ends_elsewhere() -> None:
        if os.getpid() == home:
            while not (tmp_path / "pid").exists():
                pass
            raise KeyboardInterrupt
        (tmp_path / "part").write_text(str(os.getpid()))
        (tmp_path / "part").rename(tmp_path / "pid")
        signal.pause()

    with pytest.raises(KeyboardInterrupt):
        share_out([Task(f"{n}", never_ends_elsewhere) for n in range(2)], 2)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_process_with_another_thread_makes_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        share_out([Task(f"{n}", writes(tmp_path / f"{n}")) for n in range(4)], 2)
    finally:
        stop.set()
        thread.join()
    assert {path.read_text() for path in tmp_path.iterdir()} == {str(os.getpid())}


def test_a_process_whose_children_vanish_by_themselves_makes_no_copy() -> None:
    """Some services start programs with an ignored SIGCHLD, which they inherit."""
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from milbench.process.forked import Task, share_out\n"
        "share_out([Task(str(n), lambda: os.write(1, f'{os.getpid()} '.encode())) for n in range(6)], 3)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    done_by = ended.stdout.split()
    assert (len(done_by), len(set(done_by))) == (6, 1)
