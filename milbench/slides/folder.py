"""Folder: which slides lie in it and below, each under its id.

A slide's id is its file's name without the ending. A DICOM series is called after its folder if it lies there alone, or
after its file if it has only one. A scanner's own name for the slide counts only if a file can be called so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from milbench.errors import DataError
from milbench.slides.dicom import Instance, is_dicom, largest, sorted_out

OME_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.btf", ".ome.tf2", ".ome.tf8")
SUFFIXES = (
    *OME_SUFFIXES,
    *(".svs", ".ndpi", ".mrxs", ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".dcm"),
    *(".scn", ".bif", ".czi", ".vms", ".vmu", ".svslide"),
)
"""Endings of slides, in small letters; an id is cut before the first that fits."""


MOST_NAME_BYTES = 200
"""Of an id that DICOM tells: systems take 255 for a file with its ending."""


class FoundSlide(NamedTuple):
    """A slide's file (of a DICOM series its largest) under its id."""

    slide_id: str
    path: Path


def slide_id_of(path: Path) -> str:
    """The file's name without its ending.

    >>> slide_id_of(Path("TCGA-01.A.ome.tif"))
    'TCGA-01.A'
    """
    return path.name[: len(path.name) - len(suffix_of(path))]


def suffix_of(path: Path) -> str:
    """The ending of `SUFFIXES` that `path` has; empty if none."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def find_slides(folder: Path) -> dict[str, Path]:
    """File of every slide in `folder` and below, by slide id, in the order of ids; `folder` may be one slide's file.

    Hidden files and the data folders of MRXS are left out. Of a DICOM series the path is its largest file.

    Raises
    ------
    UsageError : there are DICOM files, and the extra is not installed.
    DataError : there is no folder, no slide in it, or one id in two places.
    """
    if folder.is_file():
        return {slide_id_of(folder): folder}
    if not folder.is_dir():
        raise DataError(f"the folder of slides {folder} does not exist.")
    found: dict[str, Path] = {}
    for slide_id, path in slides_below(folder):
        if slide_id in found:
            raise DataError(
                f"slide '{slide_id}' lies in two places: {found[slide_id]} and {path}. Move or rename one of them."
            )
        found[slide_id] = path
    if not found:
        raise DataError(f"{folder} holds no slides. Expected files that end in {', '.join(SUFFIXES)}.")
    return dict(sorted(found.items()))


def slides_below(folder: Path) -> Iterator[FoundSlide]:
    """Every slide in `folder` and below, folder by folder; an id may come twice."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        known = os.stat(place)  # noqa: PTH116 - links may lead in a circle
        if (known.st_dev, known.st_ino) in seen:
            folders.clear()
            continue
        seen.add((known.st_dev, known.st_ino))
        data_of_mrxs = {name[: -len(".mrxs")] for name in names if name.lower().endswith(".mrxs")}
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in data_of_mrxs)
        files = [Path(place) / name for name in sorted(names) if not name.startswith(".")]
        yield from _slides_among(files, Path(place), is_root=Path(place) == folder)


def _refuse(error: OSError) -> None:
    raise DataError(
        f"{error.filename} cannot be looked through: {error.strerror}. Check its rights, or move it away."
    ) from error


def _slides_among(files: Sequence[Path], place: Path, *, is_root: bool) -> Iterator[FoundSlide]:
    dicom = {path for path in files if suffix_of(path) in (".dcm", "") and path.is_file() and is_dicom(path)}
    series, damaged = sorted_out(sorted(dicom))
    # damaged files are kept: opening says what is wrong with them
    left = [path for path in files if suffix_of(path) and (path not in dicom or path in damaged)]
    others = [FoundSlide(slide_id_of(path), path) for path in left]
    yield from others
    if len(series) == 1 and not others and not (is_root and len(series[0]) == 1):
        yield FoundSlide(place.resolve().name, largest(series[0]).path)
    else:
        yield from (FoundSlide(name, largest(each).path) for name, each in zip(_names(series), series, strict=True))


def _names(series: Sequence[Sequence[Instance]]) -> list[str]:
    """Ids of series that share a folder: the only file's name, else the scanner's name for the slide, else the UID."""
    counts = Counter(each[0].container for each in series)
    return [_name(each, is_only=counts[each[0].container] == 1) for each in series]


def _name(series: Sequence[Instance], *, is_only: bool) -> str:
    told = [series[0].container if is_only else "", series[0].series] if len(series) > 1 else []
    return next(filter(_can_be_a_file, told), slide_id_of(largest(series).path))


def _can_be_a_file(name: str) -> bool:
    """Whether files can be called so: a specimen's number may be "S21/123", and a slash would lead to another folder."""
    is_plain = name.isprintable() and not set(name) & {"/", "\\"}
    return (
        bool(name) and is_plain and not name.startswith(".") and len(name.encode(errors="replace")) <= MOST_NAME_BYTES
    )
