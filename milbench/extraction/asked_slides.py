"""Asked slides: what the words of a command name, each slide once, in the order of ids."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from milbench.errors import UsageError, unknown_name
from milbench.extraction.plan import SlideFile
from milbench.visible import shortened, visible_line

LIST = ".txt"
LEAST_MICRONS, MOST_MICRONS = 0.02, 20.0


def asked_slides(places: Sequence[Path], microns: Mapping[str, float]) -> list[SlideFile]:
    """Slides in folders, slide files, and lists of either in a text file, one path per line.

    Parameters
    ----------
    microns : microns per pixel of level 0 by slide id, where the user tells them.

    Raises
    ------
    UsageError : a path is not there, two files have one id, no slide is found, or microns are told for none.
    DataError : a folder holds no slides, or two with one id.
    """
    found: dict[str, Path] = {}
    for place in places:
        for each in _listed(place) if place.suffix.lower() == LIST else [place]:
            for slide_id, path in _slides_at(each).items():
                other = found.setdefault(slide_id, path)
                if other.resolve() != path.resolve():
                    raise UsageError(f"{other} and {path} would both be slide '{slide_id}'. Rename one of them.")
    if not found:
        raise UsageError(
            f"no slides in {', '.join(map(str, places))}. Name a folder of slides, slide files, or a {LIST} list."
        )
    for slide_id in microns:
        if slide_id not in found:
            raise unknown_name("slide of --mpp-of", slide_id, found)
    return [SlideFile(slide_id, found[slide_id], microns.get(slide_id)) for slide_id in sorted(found)]


def _listed(path: Path) -> list[Path]:
    """Paths in a list; those that are not absolute begin at the list's folder."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a list of slides: {error}.") from error
    listed = {number: path.parent / line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    missing = {number: slide for number, slide in listed.items() if not slide.exists()}
    if missing:
        number, slide = next(iter(missing.items()))
        more = f" Of {len(listed)} paths in it, {len(missing)} are not there." if len(missing) > 1 else ""
        raise UsageError(
            f"{path}, line {number}: {shortened(visible_line(str(slide)))} does not exist.{more} A list holds one path per line; those "
            "that are not absolute begin at the list's folder."
        )
    return list(listed.values())


def _slides_at(path: Path) -> dict[str, Path]:
    from milbench.slides import find_slides, slide_id_of

    if path.is_dir():
        return find_slides(path)
    if not path.exists():
        raise UsageError(f"{path} does not exist. Check the path.")
    return {slide_id_of(path): path}


def told_microns(words: Sequence[str]) -> dict[str, float]:
    """Microns per pixel by slide id, from words such as `slide=0.25` or `slides.csv` with columns slide_id and mpp.

    Raises
    ------
    UsageError : a word is neither, a number cannot be that of a slide, or two are told of one slide.
    """
    told: dict[str, float] = {}
    for word in words:
        slide_id, equals, text = word.rpartition("=")
        for name, value in [(slide_id, _microns(word, text))] if equals else _from_table(Path(word)):
            if told.setdefault(name, value) != value:
                raise UsageError(
                    f"--mpp-of tells {told[name]:g} and {value:g} of slide '{name}'. Leave one of them out."
                )
    return told


def _from_table(path: Path) -> list[tuple[str, float]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"--mpp-of takes slide=0.25, or a CSV with the columns slide_id and mpp; {path} is neither ({error})."
        ) from error
    if not {"slide_id", "mpp"} <= set(columns):
        raise UsageError(f"{path} has the columns {', '.join(columns) or '(none)'}; expected slide_id and mpp.")
    return [(row["slide_id"] or "", _microns(f"{path}, slide {row['slide_id']}", row["mpp"] or "")) for row in rows]


def _microns(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST_MICRONS <= value <= MOST_MICRONS:
        raise UsageError(
            f"--mpp-of: {where}: expected microns per pixel from {LEAST_MICRONS:g} to {MOST_MICRONS:g}, got '{text}'."
        )
    return value
