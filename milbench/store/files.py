"""Files of a run: written whole or not at all, and one clear message where the system or the content refuses."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from milbench.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd


def read(path: Path, parse: Any) -> Any:
    """What `parse` makes of the file's text.

    Raises
    ------
    StoreError : the file cannot be read, or `parse` does not understand it.
    """
    try:
        return parse(path.read_text())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}. Check the file and its rights.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete it and start the same command again.") from error


def text_table(text: str) -> pd.DataFrame:
    """A CSV with every cell as text: ids keep their zeros and are never taken for numbers."""
    import pandas as pd

    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def json_bytes(value: Any) -> bytes:
    """JSON with sorted keys: the same value makes the same bytes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the system's refusals to write into one clear message."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}. "
            "Free space or choose another place (--run, --out), then give the same command again. "
            "Finished trials are kept."
        ) from error


@contextmanager
def as_os_error() -> Iterator[None]:
    """Turn what safetensors raises where the disk is full into what everything else raises there."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` with `content`, on disk before the rename, so that no reader sees half of it."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(final: Path, temporary: Path) -> Iterator[Path]:
    """`temporary`, an empty folder to fill: it takes the place of `final` by one rename, or is deleted on an error."""
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in temporary.iterdir():
            _sync(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            shutil.rmtree(final)
        temporary.replace(final)
        _sync(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
