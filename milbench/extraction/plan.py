"""Plan: from a slide to the patches that will be read from it."""

from __future__ import annotations

from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from milbench.errors import DataError
from milbench.extraction.grid import Corners, corners_of
from milbench.extraction.resolution import Reading, microns_of, reading_of
from milbench.extraction.settings import Settings, TissueSettings
from milbench.extraction.sheet import write_sheet
from milbench.extraction.tissue import REFERENCE_MICRONS, Tissue, find_tissue, largest_piece, saturation, smoothed

if TYPE_CHECKING:
    from milbench.slides import Slide

LEAST_TOLD = 0.001
"""Of an area in a message."""


class SlideFile(NamedTuple):
    """A slide that is asked for.

    Attributes
    ----------
    mpp : microns per pixel of level 0 that the user told; None = as the file tells.
    """

    slide_id: str
    path: Path
    mpp: float | None = None


class Plan(NamedTuple):
    """What is read from a slide.

    Attributes
    ----------
    corners : int64 [N, 2], x and y in level-0 pixels, in the order of the rows of features.
    mpp, size : of level 0, (x, y) and (width, height).
    notes : what is to be said of the slide.
    """

    slide: SlideFile
    corners: Corners
    reading: Reading
    mpp: tuple[float, float]
    size: tuple[int, int]
    notes: tuple[str, ...]


def plan_of(slide: Slide, asked: SlideFile, settings: Settings, sheet: Path) -> Plan:
    """Patches of an open slide; its contact sheet is written to `sheet`, also if it has no tissue.

    Raises
    ------
    DataError : nobody tells the slide's resolution, it is too coarse or unreadable, or there is no tissue.
    StoreError : the sheet cannot be written.
    """
    microns = microns_of(slide, asked.slide_id, asked.mpp, settings)
    reading = reading_of(slide, microns, settings)
    tissue = find_tissue(slide, microns.mean, settings.tissue)
    corners = corners_of(tissue, reading, slide.bounds, settings)
    write_sheet(sheet, tissue, corners, reading.patch_size_level0)
    if not len(corners):
        raise DataError(_no_tissue(tissue, microns.mean, settings.tissue, f"{sheet.parent.name}/{sheet.name}"))
    size = (slide.levels[0].width, slide.levels[0].height)
    return Plan(asked, corners, reading, (microns.x, microns.y), size, microns.notes)


def _no_tissue(tissue: Tissue, microns_per_pixel: float, asked: TissueSettings, sheet: str) -> str:
    """That no patch lies in tissue, why, and what would find some."""
    if not saturation(tissue.picture).any():
        return f"no tissue was found: its picture has no colour ({sheet}), and tissue is told by its colour. Leave the slide out."
    largest = largest_piece(tissue, microns_per_pixel, asked)
    if not largest:
        why, fix = _too_pale(int(smoothed(tissue.picture, asked).max()), asked)
    elif largest <= asked.smallest_piece:
        why = f"the largest piece has {_area(largest)}, and pieces up to {_area(asked.smallest_piece)} are left out"
        fix = f"give --tissue smallest_piece={_below(largest):g}"
    else:
        why = f"the largest piece has {_area(largest)}, but no patch lies in it by the rule {asked.rule}"
        fix = "give a smaller --patch, a smaller --step or another --tissue rule"
    return (
        f"no tissue was found: {why}. Look at {sheet}. If there is tissue, {fix}, with another --out if this one holds features, "
        "since a folder has one setting for all slides; else leave the slide out."
    )


def _too_pale(highest: int, asked: TissueSettings) -> tuple[str, str]:
    if asked.otsu:
        return "Otsu's method finds no colour that stands out", "give --tissue otsu=false"
    return (
        f"no place is coloured enough: tissue has a saturation above {asked.saturation} (of 255), and the strongest here has {highest}",
        "give a lower --tissue saturation",
    )


def _area(squares: float) -> str:
    """An area in mm², and in the squares that `smallest_piece` is counted in."""
    return f"{_plain(squares * (REFERENCE_MICRONS / 1000) ** 2)} mm² ({_plain(squares)} patches of 128 x 128 µm)"


def _plain(value: float) -> str:
    """Two digits without an exponent."""
    if 0 < value < LEAST_TOLD:
        return f"less than {LEAST_TOLD:g}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _below(squares: float) -> float:
    """A number of one digit that is a little smaller."""
    unit = 10.0 ** floor(log10(squares))
    return floor(squares / unit * 0.99) * unit or 0.9 * unit
