"""Bag names: what a bag of a cohort is, a slide or all slides of a patient, and what texts call it."""

from __future__ import annotations

import re

SLIDE, PATIENT = "slide", "patient"
BAGS = (SLIDE, PATIENT)
"""What `bag:` may say."""


def told_of(bag: str, text: str) -> str:
    """The text, which tells of slides, for bags of another sort.

    >>> told_of("patient", "Every slide counts; a dot grows with its slides.")
    'Every patient counts; a dot grows with its patients.'
    """
    return re.sub(r"\bslide(s?)\b", rf"{bag}\1", text)
