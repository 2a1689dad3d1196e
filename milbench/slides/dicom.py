"""DICOM: files that are one slide together. Each level is a file, and a series is all files of one SeriesInstanceUID."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from milbench.errors import DataError, UsageError
from milbench.slides.slide import SlideFacts, SourceError

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of a VL Whole Slide Microscopy image."""

WANTED = [
    *("SOPClassUID", "SeriesInstanceUID", "ContainerIdentifier", "ImageType"),
    *("TotalPixelMatrixColumns", "TotalPixelMatrixRows"),
]
"""What is read of a file's head."""

MOST_MICRONS_TIMES_POWER = 16.0
"""Microns per pixel times the objective's power. Scanners have 5 to 12; the second level of a 0.5 µm, 20x slide has 20."""


class Instance(NamedTuple):
    """One file of a series: a level, a label, a macro picture."""

    path: Path
    series: str
    container: str  # the slide's name as the scanner knew it; empty = not told
    is_level: bool
    pixels: int


class DicomFiles(NamedTuple):
    """What DICOM files hold: `series`, one per slide, and files whose head does not tell what they are."""

    series: list[list[Instance]]
    damaged: list[Path]


def is_dicom(path: Path) -> bool:
    """Whether the file starts as DICOM files do, whatever it is called."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def slide_file(folder: Path) -> Path:
    """The largest file of the one series in `folder`: OpenSlide opens files, not folders.

    Raises
    ------
    DataError : the folder holds no series, or more than one.
    """
    found = sorted_out(path for path in sorted(folder.iterdir()) if path.is_file() and is_dicom(path)).series
    if not found:
        raise DataError(f"{folder} is a folder without a DICOM slide. Name the slide's file.")
    if len(found) > 1:
        names = ", ".join(str(largest(series).path.name) for series in found)
        raise DataError(f"{folder} holds {len(found)} DICOM slides. Name a file of one of them, for instance: {names}.")
    return largest(found[0]).path


def largest(series: Iterable[Instance]) -> Instance:
    """The level with most pixels, which is level 0 unless that is missing."""
    return max(series, key=lambda instance: (instance.is_level, instance.pixels))


def sorted_out(paths: Iterable[Path]) -> DicomFiles:
    """DICOM files slide by slide; other kinds of pictures, and series of labels only, are left out.

    Raises
    ------
    UsageError : the extra is not installed.
    """
    found: dict[str, list[Instance]] = {}
    damaged = []
    for path in paths:
        head = _head(path)
        if head.get("SOPClassUID") == WHOLE_SLIDE and head.get("SeriesInstanceUID"):
            found.setdefault(str(head.SeriesInstanceUID), []).append(_instance(path, head))
        elif not head.get("SOPClassUID"):
            damaged.append(path)
    return DicomFiles([each for each in found.values() if any(file.is_level for file in each)], damaged)


def _instance(path: Path, head: Any) -> Instance:
    pixels = int(head.get("TotalPixelMatrixColumns") or 0) * int(head.get("TotalPixelMatrixRows") or 0)
    is_level = "VOLUME" in (head.get("ImageType") or ())
    return Instance(path, str(head.SeriesInstanceUID), str(head.get("ContainerIdentifier") or ""), is_level, pixels)


def _head(path: Path) -> Any:
    """What the file tells of its slide, by name; nothing if it is damaged."""
    try:
        import pydicom
    except ImportError as error:
        raise UsageError(
            f"{path} is DICOM, which is sorted into slides with pydicom, which is not installed ({error}). "
            "Install it with: pip install 'milbench[wsi]'"
        ) from error
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=WANTED)
    except Exception:  # noqa: BLE001 - a damaged head makes pydicom fail in any way
        return {}


def refuse_incomplete(facts: SlideFacts, properties: Mapping[str, str]) -> None:
    """Refuse a series without its largest file, which OpenSlide opens as a smaller slide with larger pixels.

    Raises
    ------
    SourceError : level 0 says that it was made from a larger one, or its pixels are too large for the objective.
    """
    level, power = facts.levels[0], facts.magnification or 0
    microns = min(facts.microns_per_pixel or (0.0,))
    resampled = properties.get("dicom.ImageType[3]") == "RESAMPLED"
    if resampled or microns * power > MOST_MICRONS_TIMES_POWER:
        why = "says that it was made from a larger one" if resampled else f"has {microns:g} µm per pixel at {power:g}x"
        raise SourceError(
            f"its series is incomplete. The largest file is {level.width} × {level.height} pixels and {why}. "
            "Put all files of the series into one folder"
        )
