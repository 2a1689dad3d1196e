"""The page about what models learn shows the shipped verdicts."""

import pandas as pd
from what_models_learn import CLAIMS, PLACE, page

from milbench.probes.catalogue import PROBES


def test_the_page_says_what_the_shipped_table_says() -> None:
    text = PLACE.page.read_text(encoding="utf-8")
    assert PLACE.on(text, page(pd.read_csv(PLACE.result))) == text


def test_claims_speak_of_tests_that_exist() -> None:
    assert {claim.test for claim in CLAIMS} <= set(PROBES)


def test_cheats_and_unsure_verdicts_have_a_mark_and_a_missing_test_has_none() -> None:
    row = {
        "model": "a",
        "model_title": "A",
        "auroc": 0.2,
        "low": 0.1,
        "high": 0.3,
        "best": 1.0,
        "seeds": 3,
        "seconds": 60.0,
    }
    rows = pd.DataFrame(
        [{**row, "test": "presence", "verdict": "cheats"}, {**row, "test": "count", "verdict": "unsure"}]
    )
    first = next(line for line in page(rows).splitlines() if line.startswith("| A |"))
    assert first == "| A | **cheats** | - | - | ? |" + " - |" * 7
