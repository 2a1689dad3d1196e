"""The page as a file: whole, escaped, the same every time, and honest in words."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages_for_tests import known_analysis, known_page, known_scores

from milbench.errors import StoreError
from milbench.report.html import PageData, write_page
from milbench.report.html.page import SCRIPTS, asset, render
from milbench.report.html.payload import blocks, to_json
from milbench.report.html.summary import sentences
from milbench.stats.analysis import Analysis
from milbench.visible import visible

EVIL = "</script><!--<b>&amp;_50%\u2028Ω基因"


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return known_analysis(known_scores())


@pytest.fixture(scope="module")
def page(analysis: Analysis) -> PageData:
    return known_page(analysis)


def data_of(text: str, name: str) -> object:
    found = re.search(rf'<script type="application/json" id="data-{name}">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def test_the_page_is_two_files_and_names_nothing_beyond_them(page: PageData, tmp_path: Path) -> None:
    path = write_page(tmp_path / "report", page)
    assert {file.name for file in path.parent.iterdir()} == {"index.html", "plotly.min.js"}
    assert path.name == "index.html"
    assert (path.parent / "plotly.min.js").read_bytes()[:400].count(b"MIT license")
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", path.read_text())


def test_the_same_data_give_the_same_bytes(analysis: Analysis) -> None:
    assert render(known_page(analysis)) == render(known_page(known_analysis(known_scores())))


def test_names_that_look_like_html_stay_names(analysis: Analysis) -> None:
    frames = {
        name: getattr(analysis, name).replace({"title": {"M4": EVIL}, "task": {"GENE1": EVIL}})
        for name in ("scores", "cells", "cohorts", "overall", "tasks", "against")
    }
    text = render(known_page(replace(analysis, **frames), title=EVIL))
    assert text.count("</script>") == render(known_page(analysis)).count("</script>")
    assert "<title>&lt;/script&gt;&lt;!--&lt;b&gt;&amp;amp;_50%" in text
    assert visible(EVIL) in data_of(text, "core")["cells"]["title"]  # type: ignore[index]


def test_json_between_script_tags_holds_nothing_that_html_reads() -> None:
    text = to_json({"a": EVIL})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": visible(EVIL)}


def test_what_is_not_a_number_is_null(page: PageData) -> None:
    cells = page.analysis.cells.copy()
    cells.loc[cells.index[:3], "score"] = [np.nan, np.inf, -np.inf]
    text = render(replace(page, analysis=replace(page.analysis, cells=cells)))
    assert data_of(text, "core")["cells"]["auroc"][:3] == [None, None, None]  # type: ignore[index]


def test_curves_come_one_entry_a_trial(page: PageData) -> None:
    curves = blocks(page)["curves"]
    assert len(curves) == len(page.curves) / 5
    assert curves[0]["epoch"] == [1, 2, 3, 4, 5]
    assert curves[0]["train_loss"][:2] == [0.7, 0.35]


def test_a_placeholder_in_a_name_is_not_filled(analysis: Analysis) -> None:
    assert "<title>{{SCRIPT}}</title>" in render(known_page(analysis, title="{{SCRIPT}}"))


def test_the_script_writes_no_html_from_names() -> None:
    for name in SCRIPTS:
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttp"):
            assert way not in asset(name), name


def test_a_page_that_cannot_be_written_says_so(page: PageData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write to"):
        write_page(tmp_path / "file" / "report", page)


# ---- the summary in words ------------------------------------------------------------------------


def with_pair(page: PageData, **values: object) -> PageData:
    pairs = page.analysis.pairs.assign(**values)
    return replace(page, analysis=replace(page.analysis, pairs=pairs))


def test_the_summary_says_whether_the_lead_survives(page: PageData) -> None:
    lead = "Its lead over the runner-up, MMoE+MP-AMIL, is"
    survives, falls = (next(s for s in sentences(with_pair(page, p_holm=p)) if lead in s) for p in (0.04, 0.05))
    assert "survives the correction" in survives
    assert "does not survive the correction" in falls
    assert "these data do not tell the two apart" in falls


def test_the_lead_is_first_minus_second_whatever_the_pairs_order(page: PageData) -> None:
    text = next(s for s in sentences(with_pair(page, delta=-0.02, low=-0.05, high=0.01)) if "runner-up" in s)
    assert "is 0.020 [−0.010, 0.050]" in text


def test_few_cohorts_bound_the_sign_flip(page: PageData) -> None:
    assert any("2 cohorts allow no less than 0.5" in sentence for sentence in sentences(page))


def test_one_model_is_compared_with_nothing() -> None:
    text = " ".join(sentences(known_page(known_analysis(known_scores(models=1, cohorts=1)))))
    assert "M4 is the only model" in text
    assert "With one model there is nothing to compare." in text


def test_what_is_missing_is_counted(page: PageData) -> None:
    gaps = replace(page.analysis, incomplete=[("tcga-c0", "m4", 3, 12)], left_out=[("tcga-c0", "GENE1")])
    text = next(s for s in sentences(replace(page, analysis=gaps)) if s.startswith("Not whole"))
    for part in ("others have: 3", "for that: 1", "one class only: 1", "not finished: 1"):
        assert part in text
    whole = replace(page, failures=page.failures.iloc[:0], undefined=page.undefined.iloc[:0])
    assert "Nothing is missing: every model has every cell." in sentences(whole)


def test_no_defined_mean_leads_nowhere() -> None:
    scores = known_scores().assign(score=np.nan)
    text = " ".join(sentences(known_page(known_analysis(scores))))
    assert "none leads" in text


def test_an_untested_lead_is_called_untested(page: PageData) -> None:
    none = replace(page.analysis, pairs=pd.DataFrame(columns=page.analysis.pairs.columns))
    assert any("it was not tested" in sentence for sentence in sentences(replace(page, analysis=none)))
