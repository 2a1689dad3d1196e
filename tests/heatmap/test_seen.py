"""What trained models look at, as the evidence for the claim on attention."""

from pathlib import Path

import pytest
from weighted_runs_for_tests import TASKS, train, write_cohort

from milbench.heatmap.evaluate import truth_scores
from milbench.heatmap.experts import expert_usage
from milbench.heatmap.seen import NO_TRUTH, attention_seen
from milbench.heatmap.stored import find_cohort
from milbench.report.attention_claim import EXPERTS, TRUTH
from milbench.report.claim_stores import Stores
from milbench.report.claims import attention_covers_tumour
from milbench.report.study_runs import StudyRuns
from milbench.report.verdicts import Verdict
from milbench.store.run import Run

PAIR = ("amil", "m4")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("seen")
    return Run(train(folder, write_cohort(folder / "truth"), models=PAIR))


def test_both_models_are_held_against_the_truth_on_the_same_slides(run: Run) -> None:
    seen = attention_seen(run, "m4", "amil")
    assert tuple(seen.truth.columns) == TRUTH
    keys = ["task", "fold", "slide_id"]
    sides = [seen.truth[seen.truth["model"] == model].sort_values(keys)[keys].to_numpy().tolist() for model in PAIR]
    assert sides[0] == sides[1]
    assert set(seen.truth["task"]) == set(TASKS)
    assert seen.truth["patient_id"].notna().all()
    scores = truth_scores(find_cohort(run, "truth"), PAIR, [0, 1])
    attention = scores[scores["map"] == "attention"]
    assert seen.truth["auroc"].mean() == pytest.approx(attention["auroc"].mean())


def test_what_experts_share_is_what_the_heatmaps_say_of_them(run: Run) -> None:
    seen = attention_seen(run, "m4", "amil")
    assert tuple(seen.experts.columns) == EXPERTS
    (usage,) = expert_usage(find_cohort(run, "truth"), ["m4"], 0)
    first = seen.experts[seen.experts["fold"] == 0]
    assert first["overlap"].mean() == pytest.approx(usage.pairwise)
    assert first["chance"].mean() == pytest.approx(usage.chance)


def test_the_claim_is_judged_on_what_was_seen(run: Run) -> None:
    stores = Stores(StudyRuns(run), draws=200, attention=attention_seen(run, "m4", "amil"))
    claim = attention_covers_tumour(stores)
    assert all(statement.low <= statement.value <= statement.high for statement in claim.statements)


def test_without_truth_or_without_weights_the_reason_is_kept(run: Run, tmp_path: Path) -> None:
    blind = Run(train(tmp_path, write_cohort(tmp_path / "blind", truth=False), models=PAIR))
    assert attention_seen(blind, "m4", "amil").why == NO_TRUTH
    bare = Run(train(tmp_path, write_cohort(tmp_path / "bare"), "--no-weights", models=PAIR))
    seen = attention_seen(bare, "m4", "amil")
    assert "keeps no weights" in seen.why
    claim = attention_covers_tumour(Stores(StudyRuns(bare), draws=200, attention=seen))
    assert claim.verdict is Verdict.UNTOLD
    assert "keeps no weights" in claim.why
