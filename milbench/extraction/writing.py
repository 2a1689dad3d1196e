"""Writing: what the system refuses to write, as one clear message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from milbench.errors import StoreError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Inside, files are written into `folder`.

    Raises
    ------
    StoreError : the system refuses, such as where the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}. Free space or name another --out, then give the same "
            "command again. Finished slides are kept."
        ) from error
