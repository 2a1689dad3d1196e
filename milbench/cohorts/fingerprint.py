"""Fingerprint: a cohort's identity, made of its labels and of the ends of its feature files.

What lies between the ends is told by `content.py` and `record.py`, which leave the trials of older runs their identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from os.path import relpath
from pathlib import Path

import pandas as pd

from milbench.endpoints.endpoint import Endpoint
from milbench.errors import FeatureFileError
from milbench.formats import FeatureFolder
from milbench.formats.linked import files_of
from milbench.special_files import refuse_special
from milbench.store.identity import canonical_json

FINGERPRINT_BYTES = 65_536
"""Bytes read from either end of a feature file: enough to notice another extraction without reading terabytes."""


def fingerprint(slides: pd.DataFrame, folder: FeatureFolder, endpoints: Mapping[str, Endpoint]) -> str:
    """SHA-256 of labels, and of every feature file's size, first and last bytes; paths do not enter.

    Parameters
    ----------
    endpoints : what tasks ask that are not binary: the same numbers are other labels if classes have another order.
    """
    digest = hashlib.sha256(slides.to_csv(index=False, lineterminator="\n").encode() + folder.read_anew.encode())
    if endpoints:
        digest.update(canonical_json({task: endpoint.as_dict() for task, endpoint in endpoints.items()}).encode())
    files = folder.paths
    for slide in slides["slide_id"]:
        try:
            digest.update(f"{slide}\0".encode() + file_ends(files[slide]))
        except OSError as error:
            raise FeatureFileError(
                f"{files[slide]} cannot be read: {error.strerror}. Check the file and its rights."
            ) from error
    return digest.hexdigest()


def file_ends(path: Path) -> bytes:
    """Size, first and last bytes of a file, or a hash of them for each file of a store; a pipe or a device is refused."""
    refuse_special(path, FeatureFileError)
    if path.is_dir():
        return b"".join(_named_ends(path, file) for file in files_of(path))
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(FINGERPRINT_BYTES)
        file.seek(max(size - FINGERPRINT_BYTES, 0))
        return f"{size}\0".encode() + first + file.read(FINGERPRINT_BYTES)


def _named_ends(store: Path, file: Path) -> bytes:
    """Where a file lies in its store, and a hash of its ends."""
    return f"{relpath(file, store)}\0".encode() + hashlib.sha256(file_ends(file)).digest()
