"""GeoJSON: one polygon per patch in level-0 pixels, with the maps' values as measurements, as QuPath imports it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milbench.heatmap.maps import Map, SlideMaps
from milbench.heatmap.places import PIXELS, Places
from milbench.store.files import writing
from milbench.visible import visible_line

DIGITS = 6
"""Significant digits of a measurement."""


def write_geojson(slide: SlideMaps, path: Path, origin: tuple[int, int] = (0, 0)) -> Path | None:
    """`path`, a FeatureCollection in the order of the patches; None for the reasons of `why_no_polygons`.

    QuPath takes every feature as a detection: Measure > Show measurement maps colours them.

    Parameters
    ----------
    origin : level-0 pixel that the viewer calls (0, 0): QuPath crops a slide to its bounds and counts from there.
    """
    if why_no_polygons(slide.places):
        return None
    with writing(path.parent):
        temporary = path.with_name(f".{path.name}.part")
        with temporary.open("w", encoding="utf-8") as file:
            file.write('{"type": "FeatureCollection", "features": [\n')
            for index, feature in enumerate(_features(slide, origin)):
                file.write(("" if index == 0 else ",\n") + json.dumps(feature, allow_nan=False))
            file.write("\n]}\n")
        temporary.replace(path)
    return path


def why_no_polygons(places: Places) -> str:
    """Why no polygon of a patch can be drawn; empty if it can."""
    if places.unit != PIXELS:
        return f"its coordinates are in '{places.unit}', not in level-0 pixels"
    if places.is_doubtful:
        return (
            f"nothing tells the patch size, and {places.agreement:.0%} of its patches bear out a guess "
            f"({places.patch_size:g} px). State it with --patch-size, or with `patch_size:` in cohort.yaml"
        )
    return ""


def _features(slide: SlideMaps, origin: tuple[int, int]) -> Iterator[dict[str, Any]]:
    names, columns = measurements(slide)
    places = replace(slide.places, corners=slide.places.corners - origin)
    for corners, values in zip(polygons(places), columns, strict=True):
        yield {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [corners]},
            "properties": {"objectType": "detection", "measurements": dict(zip(names, values, strict=True))},
        }


def polygons(places: Places) -> Iterator[list[list[float]]]:
    """Closed ring of every patch, from its top-left corner."""
    size = _plain(places.patch_size)
    for x, y in places.corners.tolist():
        left, top = _plain(x), _plain(y)
        right, bottom = left + size, top + size
        yield [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def measurements(slide: SlideMaps) -> tuple[list[str], list[list[float]]]:
    """Names, and one row of values per patch: every map's own value and its percentile rank, and the truth."""
    names: list[str] = []
    columns: list[NDArray[Any]] = []
    for drawn in slide.maps:
        names += [measurement_name(slide, drawn), f"{measurement_name(slide, drawn)}, rank"]
        columns += [drawn.values, drawn.scaled("rank")]
    if slide.truth is not None:
        names.append(visible_line(f"{slide.task}: truth"))
        columns.append(slide.truth.astype(float))
    rows = np.stack(columns, axis=1).tolist()
    return names, [[float(f"{value:.{DIGITS}g}") for value in row] for row in rows]


def measurement_name(slide: SlideMaps, drawn: Map) -> str:
    """E.g. "TP53: M4 attention"; an expert's map belongs to no task."""
    named = f"{drawn.title} {drawn.name}"
    return visible_line(f"{slide.task}: {named}" if drawn.name == "attention" else named)


def _plain(value: float) -> float:
    """A whole number without its .0, for a shorter file."""
    return int(value) if float(value).is_integer() else value
