"""Unusable features: what the headers of a cohort's slides tell before anything trains."""

from __future__ import annotations

from collections.abc import Sequence

from milbench.cohorts.cohort import Cohort
from milbench.errors import FeatureFileError
from milbench.intake.check import coords_text


def refuse_unusable(cohort: Cohort) -> list[str]:
    """A note on the slides whose coordinates cannot be used, which training does not need; empty if all can.

    Raises
    ------
    FeatureFileError : a slide with a label cannot be trained on, by its header: damaged, empty, of another width.
    """
    if cohort.header is None:
        return []
    odd: dict[str, str] = {}
    messages = []
    known = cohort.slides[list(cohort.tasks)].notna().any(axis=1)
    for slide in cohort.slides.loc[known, "slide_id"]:
        try:
            if problem := cohort.header(slide).coords_problem:
                odd[slide] = problem
        except FeatureFileError as error:
            messages.append(str(error))
    if messages:
        raise FeatureFileError(_all_at_once(cohort.name, messages))
    return [f"{cohort.name}: {coords_text(odd)}"] if odd else []


def _all_at_once(name: str, messages: Sequence[str]) -> str:
    if len(messages) == 1:
        return messages[0]
    return f"{messages[0]} {len(messages) - 1} more slides of '{name}' cannot be used. `milbench data check` lists all of them."
