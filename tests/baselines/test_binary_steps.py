"""Binary tasks are learned as before models answered other kinds, so finished trials stay right."""

import json
from pathlib import Path

import pytest
from baselines_for_tests import MODELS
from binary_steps import CASES, figures

KEPT = json.loads((Path(__file__).parent / "binary_steps.json").read_text())


def test_every_model_has_its_figures() -> None:
    assert KEPT.keys() == CASES.keys()
    assert {name for name, _ in CASES.values()} == set(MODELS)


@pytest.mark.parametrize("case", CASES)
def test_three_steps_on_binary_tasks_give_the_figures_that_they_gave(case: str) -> None:
    assert figures(case) == pytest.approx(KEPT[case], rel=1e-9)
