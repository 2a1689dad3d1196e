"""A process that reads feature folders under a limit of memory and time, and tells how each reading ended."""

from __future__ import annotations

import multiprocessing
import resource
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

SECONDS, BYTES = 60, 1_000_000_000
RIGHT, REFUSED, DIED = "right", "refused", "the process died"


class LimitedReader:
    """Reads folders in a child process, which is started anew if it dies or takes longer than `SECONDS`.

    >>> with LimitedReader() as reader: reader.read(folder, "slide")
    """

    def __enter__(self) -> LimitedReader:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def read(self, folder: Path, slide: str) -> str:
        """`RIGHT`, `REFUSED`, or what went wrong: a traceback, a death, or "took too long"."""
        try:
            self.here.send((folder, slide))
            if self.here.poll(SECONDS):
                return str(self.here.recv())
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode
            self._restart()
            return f"{DIED} ({code})"
        self._restart()
        return f"took longer than {SECONDS} s"

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.here, there = context.Pipe()
        self.process = context.Process(target=_serve, args=(there,), daemon=True)
        self.process.start()
        there.close()

    def _stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.here.close()

    def _restart(self) -> None:
        self._stop()
        self._start()


def _serve(there: Connection) -> None:
    from milbench.formats import detect, open_features  # noqa: F401 - torch counts before the limit is set

    warnings.simplefilter("ignore")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, taken + BYTES))
    while True:
        folder, slide = there.recv()
        there.send(_outcome(folder, slide))


def _outcome(folder: Path, slide: str) -> str:
    from milbench.errors import MilbenchError

    try:
        return _read(folder, slide)
    except MilbenchError as error:
        return REFUSED if len(str(error)) < 2000 else f"a message of {len(str(error))} characters"
    except BaseException:  # noqa: BLE001 - the parent tells the test
        return traceback.format_exc()


def _read(folder: Path, slide: str) -> str:
    """`RIGHT` if header and values tell the same, and the values are a bag that a model can take."""
    from milbench.bag import check_features
    from milbench.formats import open_features

    reader = open_features(folder)
    header, loaded = reader.header(slide), reader.load(slide)
    features = check_features(loaded.features, slide)
    told = (header.n_patches, header.width, header.dtype)
    assert told == (*features.shape, str(features.dtype).removeprefix("torch.")), (told, features.shape, features.dtype)
    if loaded.coords is not None:
        assert loaded.coords.shape == (len(features), 2), loaded.coords.shape
        assert bool(loaded.coords.isfinite().all())
    assert loaded.instance_labels is None or len(loaded.instance_labels) == len(features)
    return RIGHT
