"""Archive: a bundle as a zip. It is written so that the same files give the same bytes, and opened as a stranger's."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from milbench.bundles.layout import CHECKSUMS, HEADER
from milbench.bundles.seal import files_in
from milbench.errors import StoreError
from milbench.names import is_folder_name
from milbench.special_files import refuse_special

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the zip: the first that the format knows."""
PLAIN_FILE = (stat.S_IFREG | 0o644) << 16

MOST_FILES = 500_000
MOST_BYTES = 64_000_000_000
"""Of all files together, unpacked."""
LARGEST_RATIO = 200
FREE_RATIO_BYTES = 50_000_000
"""A file that unpacks to more than this, and to more than `LARGEST_RATIO` times its packed size, is no table of ours."""
DEEPEST = 12
UNIX = 3


def write_zip(root: Path, target: Path) -> None:
    """Pack the folder: names sorted, one time, one mode, so that equal files give equal bytes; raises `OSError`."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in [*files_in(root), CHECKSUMS]:
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, PLAIN_FILE, UNIX
            with (root / name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as packed:
                shutil.copyfileobj(source, packed, 1 << 20)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of a bundle, which is `path` itself or, of a zip, a temporary one that goes afterwards.

    Raises
    ------
    StoreError : it is no bundle, or holds what no bundle holds: links, special files, names that lead elsewhere.
    """
    refuse_special(path, StoreError)
    if path.is_dir():
        _refuse_odd_files(path)
        yield _top(path, path)
        return
    if not path.is_file():
        raise StoreError(f"{path} is not there. Name a bundle: a folder or a zip that `milbench bundle` wrote.")
    with tempfile.TemporaryDirectory(prefix="milbench-bundle-") as folder:
        _unpack(path, Path(folder))
        yield _top(Path(folder), path)


def _top(folder: Path, path: Path) -> Path:
    """The folder that holds `bundle.json`: some programs pack a folder with its name around."""
    if (folder / HEADER).is_file():
        return folder
    inner = list(folder.iterdir())
    if len(inner) == 1 and (inner[0] / HEADER).is_file():
        return inner[0]
    raise StoreError(f"{path} holds no bundle ({HEADER} is missing). Make one with `milbench bundle RUN`.")


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _refuse_odd_entries(path, entries)
            for entry in entries:
                _unpack_one(archive, entry, folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise StoreError(
            f"{path} is no zip that can be read ({error}). Get it again, or unpack it and name the folder."
        ) from error


def _refuse_odd_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """StoreError for what `milbench bundle` never packs. Nothing is written before all entries are known to be harmless."""
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise StoreError(
            f"{path} would unpack to more than {MOST_FILES:,} files or {MOST_BYTES:,} bytes. It was not opened."
        )
    if sum(entry.compress_size for entry in entries) > path.stat().st_size:
        raise StoreError(f"{path} holds files that share their bytes, as no bundle does. It was not opened.")
    seen: set[str] = set()
    for entry in entries:
        if why := _oddness(entry) or ("its name comes twice" if entry.filename.casefold() in seen else ""):
            raise StoreError(f"{path} holds {ascii(entry.filename)[:120]}: {why}. It was not opened.")
        seen.add(entry.filename.casefold())


def _oddness(entry: zipfile.ZipInfo) -> str:
    """Why no bundle holds such an entry; "" if one could."""
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "it is a link or a special file"
    if entry.flag_bits & 0x1:
        return "it is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is packed in an unusual way"
    if entry.file_size > FREE_RATIO_BYTES and entry.file_size > LARGEST_RATIO * entry.compress_size:
        return f"it would unpack to {entry.file_size:,} bytes from {entry.compress_size:,}"
    return "" if _is_inside(entry.filename) else "its name leads out of the folder, or no file can have it"


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= DEEPEST and all(is_folder_name(part) and not set(part) & set('\\:*?"<>|') for part in parts)


def _unpack_one(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Write one file, and no byte more than its entry promises."""
    target = folder.joinpath(*entry.filename.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as packed, target.open("xb") as file:
        while piece := packed.read(1 << 20):
            left -= len(piece)
            if left < 0:
                raise ValueError(f"{entry.filename} unpacks to more than it says")
            file.write(piece)


def _refuse_odd_files(folder: Path) -> None:
    """StoreError for a link or special file anywhere in the folder: checksums must be of what lies there."""
    for number, path in enumerate(folder.rglob("*")):
        if number > MOST_FILES:
            raise StoreError(f"{folder} holds more than {MOST_FILES:,} files, as no bundle does.")
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise StoreError(
                f"{path} is a link or a special file, and no bundle holds one. Put a plain file in its place."
            )
