"""Coordinates: whether the slides of a cohort have places that a model can use, as far as headers tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from milbench.cohorts.cohort import Cohort
from milbench.formats import SlideHeader
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
    return why_without(slides, by_slide.header)


def why_without(slides: Sequence[str], header: Callable[[str], SlideHeader]) -> str:
    """The same of slides whose headers are asked; raises `FeatureFileError` if a file cannot be read."""
    headers = {slide: header(slide) for slide in slides}
    without = {slide: each.coords_problem for slide, each in headers.items() if not each.unit or each.coords_problem}
    return _told(without, len(slides))


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
