"""A cohort's source travels to any process, and so does what loads its slides."""

import copy
from pathlib import Path

import pytest

from milbench import datasets
from milbench.datasets import all_datasets
from milbench.datasets.source import CohortSource, SourceLoad

PLUGIN = """
import pandas as pd, torch
from milbench.bag import Bag
from milbench.cohorts.cohort import Cohort
from milbench.datasets import register_dataset

@register_dataset("ones")
def ones():
    with open(__file__ + ".read", "a") as file:
        file.write("x")
    slides = pd.DataFrame({"slide_id": ["a", "b"], "patient_id": ["p", "q"], "t": [0.0, 1.0]})
    return Cohort("ones", slides, ("t",), 3, "v1", lambda slide: Bag(torch.ones(4, 3), slide))
"""


def test_what_loads_slides_of_a_plug_in_s_dataset_travels_as_the_cohort_s_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_CATALOGUE", dict(all_datasets()))
    plugin = tmp_path / "ones.py"
    plugin.write_text(PLUGIN)
    source = CohortSource(name="ones", plugins=(plugin,))
    load = source.load().load
    sent = copy.copy(load)  # by the protocol by which it is sent to a process
    assert sent == SourceLoad(source)
    sent("a")
    assert sent("b").slide_id == load("b").slide_id == "b"
    assert (tmp_path / "ones.py.read").read_text() == "xx"  # the cohort, once here and once where it was sent to
