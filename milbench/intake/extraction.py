"""Extraction: slides of a cohort whose features were not made alike, as far as their files tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from milbench.formats import SlideHeader
from milbench.formats.scale import is_one_scale
from milbench.labels.finding import ERROR, NOTE, WARNING, Finding, some
from milbench.store.feature_facts import HASH_DIGITS
from milbench.visible import visible_line

LONGEST_VALUE, MOST_VALUES = 60, 6
"""Letters of an encoder's name, and values of a trait, that a finding shows."""

Headers = Mapping[str, SlideHeader]

ONE_ENCODER = (
    "Numbers of two encoders mean different things. Point `features:` to one extraction, or extract the others again with "
    "the encoder of the most."
)
TO_DECLARE = "If all are of one encoder, say so with `encoder:` in cohort.yaml. Else extract them again."
ONE_SCALE = "Extract the whole cohort at one magnification."


class Trait(NamedTuple):
    """What should be the same in all files of a cohort.

    Attributes
    ----------
    name : in words.
    value : of a file; None or empty = the file does not tell.
    severity, fix : of the finding if it differs.
    """

    name: str
    value: Callable[[SlideHeader], object]
    severity: str
    fix: str


ENCODERS = (
    Trait("encoder", lambda header: header.encoder.casefold(), ERROR, ONE_ENCODER),
    Trait("encoder's weights", lambda header: header.weights_sha256[:HASH_DIGITS], ERROR, ONE_ENCODER),
)
SCALES = (
    Trait("mpp", lambda header: header.mpp, WARNING, ONE_SCALE),
    Trait("magnification", lambda header: header.magnification, WARNING, ONE_SCALE),
)
OTHERS = (
    Trait("width", lambda header: header.width, ERROR, "Use one encoder for the whole cohort."),
    Trait("dtype", lambda header: header.dtype, WARNING, "Extract alike, or `milbench data pack` them to one dtype."),
    Trait("normalisation", lambda header: header.transform, WARNING, "Extract the whole cohort with one transform."),
    Trait("unit of coordinates", lambda header: header.unit or "no coordinates", NOTE,
          "If a slide has none, models that need coordinates leave the cohort out."),
)  # fmt: skip


def extraction_findings(headers: Headers) -> list[Finding]:
    """Traits that differ among slides, and what is declared of the files and cannot be.

    Two encoders, or two hashes of weights, are an error. Scales count as one within 2 %.
    """
    found = [_encoders(headers, trait) for trait in ENCODERS]
    found += [_mixed(headers, trait) for trait in SCALES if not _is_one_scale(headers, trait)]
    found += [_mixed(headers, trait) for trait in OTHERS]
    return [*(finding for finding in found if finding is not None), *_declared(headers)]


def _encoders(headers: Headers, trait: Trait) -> Finding | None:
    slides: dict[object, list[str]] = {}
    for slide, header in headers.items():
        slides.setdefault(trait.value(header), []).append(slide)
    unknown = slides.pop("", [])
    groups = sorted(slides.items(), key=lambda group: -len(group[1]))
    if len(groups) > 1:
        told = "; ".join(f"{_shown(value)}: {some_slides(members)}" for value, members in groups)
        return Finding(trait.severity, f"{len(groups)} {_plural(trait.name)} in one cohort: {told}", trait.fix)
    if groups and unknown:
        n_told = len(groups[0][1])
        what = f"{some_slides(unknown)}: the {trait.name} is not stored, for the other {n_told} it is {_shown(groups[0][0])}"
        return Finding(WARNING, what, TO_DECLARE)
    return None


def _plural(name: str) -> str:
    return name if name.endswith("weights") else f"{name}s"


def _is_one_scale(headers: Headers, trait: Trait) -> bool:
    """Whether all files tell the trait, within 2 % the same, or none does."""
    told = [value for header in headers.values() if isinstance(value := trait.value(header), (int, float))]
    return not told or (len(told) == len(headers) and is_one_scale(told))


def _mixed(headers: Headers, trait: Trait) -> Finding | None:
    counts = Counter(map(trait.value, headers.values()))
    if len(counts) < 2:
        return None
    common = counts.most_common(1)[0][0]
    others = [slide for slide, header in headers.items() if trait.value(header) != common]
    shown = [f"{_shown(value)} ({n})" for value, n in counts.most_common()]
    return Finding(
        trait.severity, f"mixed {trait.name}: {some(shown, MOST_VALUES)}; the rarer: {some_slides(others)}", trait.fix
    )


def _declared(headers: Headers) -> list[Finding]:
    """What features.json or cohort.yaml says against the files, or says in no usable way; the first stands for all."""
    odd = {slide: header.facts_problem for slide, header in headers.items() if header.facts_problem}
    if not odd:
        return []
    what = f"{some_slides(list(odd))}: {visible_line(next(iter(odd.values())))}"
    return [Finding(WARNING, what, "What a file says goes first. Correct what is declared.")]


def _shown(value: object) -> str:
    """A value of a header in one short line: a file may hold any text."""
    number = f"{value:.4g}" if isinstance(value, float) and not value.is_integer() else str(value)
    text = visible_line(number) if value else "not stored"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def some_slides(slides: Sequence[str]) -> str:
    """Number and first names of slides."""
    return f"{len(slides)} slide{'s' * (len(slides) != 1)} ({some(slides)})"
