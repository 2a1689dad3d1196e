"""Coordinates: whether the slides of a cohort have places that a model can use, as far as headers tell."""

from __future__ import annotations

from milbench.cohorts.cohort import Cohort
from milbench.labels.finding import some


def why_without_coords(cohort: Cohort) -> str:
    """Which slides have no coordinates that can be used, and why; empty if all have. Values are not read.

    Every slide's header is asked. If nothing lies on disk, the first slide speaks for all.

    Raises
    ------
    FeatureFileError : a file cannot be read.
    """
    by_slide = cohort.by_slide
    slides = by_slide.slides["slide_id"].tolist()
    if by_slide.header is None:
        bag = by_slide.load(slides[0])
        return _told({} if bag.coords is not None else {slides[0]: bag.coords_problem}, 1)
    headers = {slide: by_slide.header(slide) for slide in slides}
    return _told(
        {slide: header.coords_problem for slide, header in headers.items() if not header.unit or header.coords_problem},
        len(slides),
    )


def _told(without: dict[str, str], n_slides: int) -> str:
    if not without:
        return ""
    problem = next(filter(None, without.values()), "")
    why = f"; {problem}" if problem else ""
    of_all = (
        f"none of the {n_slides} slides has any"
        if len(without) == n_slides > 1
        else f"{len(without)} of {n_slides} slides have none"
    )
    return f"{of_all} that can be used ({some(list(without))}{why})"
