"""Slides that were not extracted alike are found from their headers, and two encoders are an error."""

import re

import pytest

from milbench.formats import SlideHeader
from milbench.intake.extraction import extraction_findings

PLAIN = SlideHeader(5, 8, "float16", "level-0 px", 512.0, "uni", mpp=0.5, weights_sha256="ab" * 32, transform="x")


def found(*changes: dict[str, object]) -> list[str]:
    """Findings of four slides like `PLAIN`, and of one with each of these changes."""
    headers = {f"s{n}": PLAIN for n in range(4)} | {
        f"t{n}": PLAIN._replace(**change) for n, change in enumerate(changes)
    }
    return [str(finding) for finding in extraction_findings(headers)]


def test_slides_that_were_extracted_alike_are_not_mentioned() -> None:
    assert found({}, {"encoder": "UNI"}, {"mpp": 0.5021}, {"patch_size": 511.0}, {"n_patches": 9}) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"encoder": "conch"}, r"error: 2 encoders in one cohort: uni: 4 slides \(s0, s1, s2, \.\.\.\); conch: 1 slide \(t0\)\. .* Point `features:`"),
        ({"weights_sha256": "cd" * 32}, r"error: 2 encoder's weights in one cohort: abababababab: 4 slides .*; cdcdcdcdcdcd: 1 slide \(t0\)"),
        ({"encoder": ""}, r"warning: 1 slide \(t0\): the encoder is not stored, for the other 4 it is uni\. .*`encoder:` in cohort\.yaml"),
        ({"mpp": 0.25}, r"warning: mixed mpp: 0\.5 \(4\), 0\.25 \(1\); the rarer: 1 slide \(t0\)\. Extract the whole cohort at one"),
        ({"mpp": None}, r"warning: mixed mpp: 0\.5 \(4\), not stored \(1\)"),
        ({"magnification": 20.0}, r"warning: mixed magnification: not stored \(4\), 20\.0 \(1\)"),
        ({"transform": "y"}, r"warning: mixed normalisation: x \(4\), y \(1\)"),
        ({"width": 9}, r"error: mixed width: 8 \(4\), 9 \(1\)"),
        ({"facts_problem": "a is b\n"}, r"warning: 1 slide \(t0\): a is b\\n\. What a file says goes first\."),
    ],
)  # fmt: skip
def test_a_slide_that_differs_is_named_with_what_to_do(change: dict[str, object], expected: str) -> None:
    (line,) = found(change)
    assert re.match(expected, line)


def test_a_cohort_that_tells_nothing_has_no_finding() -> None:
    assert extraction_findings({f"s{n}": SlideHeader(5, 8, "float32", "level-0 px") for n in range(3)}) == []


def test_many_values_make_a_short_line() -> None:
    (line,) = found(*({"mpp": 1.0 + n} for n in range(40)))
    assert len(line) < 300
