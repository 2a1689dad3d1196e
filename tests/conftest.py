"""A small folder cohort on disk, and the command line run as a user runs it."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torchvision_operators  # noqa: F401  before anything imports torchvision
from commands_for_tests import Milbench, environment
from digits_once import made_once_per_seed
from fake_server import FakeServer, running
from folders_for_tests import make_folder_cohort
from quick_disk import disks_do_not_wait
from ready_process import ReadyProcess

from milbench.datasets import digits


def pytest_sessionstart() -> None:
    """Collecting the tests makes no garbage worth looking for."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Each training looks for garbage: among what it made, and not among all tests and imports, which takes a second."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What milbench caches, in tests and in processes that they start, lies with the tests' other files.

    Matplotlib's list of fonts, which takes seconds to make, stays where it is.
    """
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patched:
        if "MPLCONFIGDIR" not in os.environ:
            patched.setenv("MPLCONFIGDIR", str(usual / "matplotlib"))
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _disks_do_not_wait() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        disks_do_not_wait(patched)
        yield


@pytest.fixture(scope="session", autouse=True)
def _digits_are_made_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(digits, "make_digits", made_once_per_seed(digits.make_digits))
        yield


@pytest.fixture(scope="session")
def ready_process() -> Iterator[ReadyProcess]:
    """A process with all imports done, whose copies are processes that begin at once."""
    ready = ReadyProcess(environment())
    yield ready
    ready.close()


@pytest.fixture(scope="session", autouse=True)
def _tried_in_copies(ready_process: ReadyProcess) -> Iterator[None]:
    """Models of plug-ins are tried in copies of the ready process, unless a test asks for the `fresh_interpreter`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("milbench.runs.tryout.subprocess", ready_process.for_tryouts())
        yield


@pytest.fixture
def fresh_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of plug-ins are tried as a user's `milbench run` tries them: in a new interpreter."""
    monkeypatch.setattr("milbench.runs.tryout.subprocess", subprocess)


@pytest.fixture
def cohort_folder(tmp_path: Path) -> Path:
    return make_folder_cohort(tmp_path / "toy")


@pytest.fixture
def milbench(tmp_path: Path, ready_process: ReadyProcess) -> Milbench:
    """`milbench(words...)` in a fresh working directory, as a process of its own."""

    def call(*words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return ready_process.run(("milbench", *words), cwd=tmp_path, env=environment(), timeout=timeout)

    return call


@pytest.fixture
def milbench_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Milbench:
    """As `milbench`, but inside the tests' process: ten times faster where no worker is started."""
    from milbench.commands.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        try:
            code = main(words)
        except SystemExit as stop:  # --help
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, printed.out, printed.err)

    return call


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server on this machine for what is fetched from others, and no pause between two tries."""
    monkeypatch.setattr("milbench.acquire.http.BACKOFF_SECONDS", 0)
    monkeypatch.delenv("MILBENCH_DATA", raising=False)
    with running() as fake:
        yield fake
