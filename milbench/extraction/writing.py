"""Writing: what the system refuses to write, as one clear message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from milbench.errors import StoreError
from milbench.store.files import IN_THE_WAY


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
        fix = (
            "Something of another kind stands in its place. Move it away, or name another --out"
            if error.errno in IN_THE_WAY
            else "Free space or name another --out"
        )
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}. {fix}, then give the same command again. Finished slides are kept."
        ) from error
