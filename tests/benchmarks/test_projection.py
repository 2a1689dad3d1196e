"""The laptop's hours in docs/scaling.md follow from the committed seconds of each model."""

import argparse

from places import ROOT
from projection import makespan, read_timings, study

LAPTOP = 2
"""Workers."""


def test_the_page_says_the_hours_of_the_committed_timings() -> None:
    options = argparse.Namespace(patches=4000, width=2048)
    _, timings = read_timings(ROOT / "benchmarks" / "results" / "projection_cpu.json", options)
    hours = makespan(study(timings), LAPTOP) / 3600
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert f"| a laptop of two cores, float32, 4,000 patches per slide | {hours:,.0f} " in page
