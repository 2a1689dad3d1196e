"""Culprit: the training slide whose values are out of all proportion, where a training loss is no longer finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median

from torch import Tensor

from milbench.bag import largest_value
from milbench.cohorts.cohort import Cohort

OUT_OF_PROPORTION = 1000
"""How many times the largest value of a slide must be that of a usual slide."""


def culprit_of(cohort: Cohort, bags: Iterable[str], features: Callable[[str], Tensor]) -> str:
    """Sentence on the slide of training bags; a bag of several slides is read slide by slide, since one of them has the values.

    Parameters
    ----------
    features : of a bag.
    """
    if cohort.of_slides is None:
        return culprit(bags, features, cohort.files)
    load, members = cohort.of_slides.load, cohort.members
    slides = [slide for bag in bags for slide in members[bag]]
    return culprit(slides, lambda slide: load(slide).features, cohort.files)


def culprit(slides: Iterable[str], features: Callable[[str], Tensor], files: Mapping[str, Path]) -> str:
    """A sentence that names the slide with absurd values, its file and what to do; empty if no slide has any.

    Every training bag is read once more: this is asked only where a training has failed.
    """
    largest = {slide: largest_value(features(slide)) for slide in slides}
    if not largest:
        return ""
    worst, usual = max(largest, key=largest.__getitem__), median(largest.values())
    if largest[worst] <= OUT_OF_PROPORTION * usual:
        return ""
    where = f" ({files[worst]})" if worst in files else ""
    return (
        f"Slide {worst}{where} holds values up to {largest[worst]:.3g}, where a usual slide's largest is {usual:.3g}. "
        "Extract it again before you change settings."
    )
