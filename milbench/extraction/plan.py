"""Plan: from a slide to the patches that will be read from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from milbench.errors import DataError
from milbench.extraction.grid import Corners, corners_of
from milbench.extraction.resolution import Reading, microns_of, reading_of
from milbench.extraction.settings import Settings
from milbench.extraction.sheet import write_sheet
from milbench.extraction.tissue import Tissue, find_tissue, saturation

if TYPE_CHECKING:
    from milbench.slides import Slide


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
        raise DataError(_no_tissue(tissue, settings, f"{sheet.parent.name}/{sheet.name}"))
    size = (slide.levels[0].width, slide.levels[0].height)
    return Plan(asked, corners, reading, (microns.x, microns.y), size, microns.notes)


def _no_tissue(tissue: Tissue, settings: Settings, sheet: str) -> str:
    """That no tissue was found, and what would find some."""
    if not saturation(tissue.picture).any():
        return f"no tissue was found: its picture has no colour ({sheet}), and tissue is told by its colour. Leave the slide out."
    asked = settings.tissue
    threshold = "set otsu=false" if asked.otsu else f"lower saturation={asked.saturation}"
    piece = f" or smallest_piece={asked.smallest_piece:g}" if asked.smallest_piece else ""
    return f"no tissue was found. Look at {sheet}. If there is some, {threshold}{piece} of --tissue; else leave the slide out."
