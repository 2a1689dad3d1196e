"""Pictures: panels and GeoJSON of the slides that were asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.heatmap.models import loaded_models
from milbench.commands.terminal import say
from milbench.names import LONGEST_FOLDER, file_stem, folder_name, plain_name

if TYPE_CHECKING:
    from milbench.heatmap.maps import Scale, SlideMaps
    from milbench.heatmap.render import Drawing
    from milbench.heatmap.stored import RunCohort

LONGEST_STEM = LONGEST_FOLDER - 20
"""Bytes of a file's name before its ending, and before what marks it while it is written."""


def draw(cohort: RunCohort, names: Sequence[str], fold: int, out: Path, options: argparse.Namespace) -> None:
    """Write a panel of the slides asked for, and GeoJSON of each."""
    from milbench.heatmap.asked import chosen_class
    from milbench.heatmap.attention import slide_maps
    from milbench.heatmap.choose import chosen_slides
    from milbench.heatmap.maps import SCALES
    from milbench.heatmap.stored import check_task

    task = check_task(cohort, options.task or cohort.tasks[0])
    words = [options.slide] if options.slide else [part for word in options.slides for part in word.split(",")]
    asked = chosen_class(task, cohort.cohort.endpoint(task), options.class_name)
    if asked.class_name and options.class_name is None:
        say(f"class: {asked.class_name}. --class names another: {', '.join(asked.endpoint.classes)}")
    chosen = chosen_slides(cohort, words, names[0], asked, fold)
    size: float | None = options.patch_size
    models = loaded_models(cohort, names, task, fold, all_wanted=options.models is None)
    slides = [
        drawn
        for pick in chosen
        for drawn in slide_maps(
            cohort, pick.slide_id, asked, models, experts=options.experts, caption=pick.caption, patch_size=size
        )
    ]
    say(f"scale: {options.scale}, {SCALES[options.scale]}")
    _describe(slides[0])
    _write(slides, out, options)


def _describe(slide: SlideMaps) -> None:
    for kind, titles in _kinds(slide).items():
        say(f"{', '.join(titles)}: {kind}")


def _kinds(slide: SlideMaps) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for drawn in slide.maps:
        if drawn.name == "attention":
            kinds.setdefault(drawn.kind, []).append(drawn.title)
    return kinds


def _write(slides: Sequence[SlideMaps], out: Path, options: argparse.Namespace) -> None:
    from milbench.heatmap.render import panel, save_panel
    from milbench.store.files import writing

    drawings = [_drawing(slide, options.wsi) for slide in slides]
    scale: Scale = options.scale
    task = folder_name(slides[0].task)
    stem = _stem(f"{options.slide}_{task}" if options.slide else f"{slides[0].dataset}_{task}_slides")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        paths = save_panel(panel(drawings, scale, options.smooth), out / stem)
    for drawing in drawings:
        if drawing.maps.caption:
            say(f"{drawing.maps.patient or drawing.maps.slide_id}: {drawing.maps.caption}")
        paths += _polygons(drawing, out)
    for path in paths:
        say(str(path))


def _stem(name: str) -> str:
    """The name of a file without its ending, for which there must be room."""
    return file_stem(name) if len(name.encode(errors="surrogateescape")) <= LONGEST_STEM else plain_name(name)


def _polygons(drawing: Drawing, out: Path) -> list[Path]:
    """The slide's GeoJSON, if its places are sure enough; says what they rest on."""
    from milbench.heatmap.geojson import why_no_polygons, write_geojson

    slide, places = drawing.maps, drawing.maps.places
    if places.is_guessed:
        say(
            f"{slide.slide_id}: patch size {places.patch_size:g} {places.unit}, the commonest distance between neighbouring "
            "patches; nothing states it (--patch-size or `patch_size:` in cohort.yaml would)"
        )
    origin = drawing.picture.bounds if drawing.picture else (0, 0)
    stem = _stem(f"{slide.slide_id}_{folder_name(slide.task)}")
    written = write_geojson(slide, out / f"{stem}.geojson", origin)
    if written is None:
        say(f"no GeoJSON of {slide.slide_id}: {why_no_polygons(places)}")
        return []
    if origin != (0, 0):
        say(f"{written.name} counts from the slide's bounds {origin}: QuPath crops the slide to them")
    return [written]


def _drawing(slide: SlideMaps, wsi: Path | None) -> Drawing:
    from milbench.heatmap.render import Drawing
    from milbench.heatmap.slide import find_slide, read_slide

    if wsi is None:
        return Drawing(slide)
    return Drawing(slide, read_slide(find_slide(wsi, slide.slide_id), slide.places))
