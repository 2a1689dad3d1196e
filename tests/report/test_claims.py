"""The paper's claims on studies whose truth is known: each claim can be held, not held, and left untold with a reason."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from claims_for_tests import GENES, SCOPE, Skill, skilled_run

from milbench.report import claims
from milbench.report.attention_claim import Attention
from milbench.report.claim_stores import Scope, Stores
from milbench.report.claim_tables import claim_frame, claim_tables
from milbench.report.claims import CLAIMS, judge_claims
from milbench.report.study import write_study
from milbench.report.study_runs import StudyRuns
from milbench.report.tables import to_latex, to_markdown
from milbench.report.verdicts import Claim, Verdict
from milbench.store.run import Run

DRAWS = 400
HELD, NOT_HELD, UNTOLD = Verdict.HELD, Verdict.NOT_HELD, Verdict.UNTOLD
SINGLES: dict[str, Skill] = {"mean_pooling": 0.6, "amil": 0.8}
Make = Callable[..., Run]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run of the cohorts "one" and "two", by the skills of M4 there and of what else is named."""

    def make_run(name: str = "main", *, one: Skill, two: Skill | None = None, **more: object) -> Run:
        skills = {"one": {**SINGLES, "m4": one}} | ({"two": {**SINGLES, "m4": two}} if two is not None else {})
        return skilled_run(tmp_path / name, skills, **more)  # type: ignore[arg-type]

    return make_run


def judged(claim: Callable[[Stores], Claim], study: StudyRuns | Run, scope: Scope = SCOPE) -> Claim:
    runs = study if isinstance(study, StudyRuns) else StudyRuns(study)
    return claim(Stores(runs.snapshot(), scope, DRAWS))


ALL_ABOVE, EQUAL_TO_AMIL, BELOW_ON_G2 = 1.2, 0.8, {"G1": 1.2, "G2": 0.2, "G3": 1.2, "G4": 1.2}


@pytest.mark.parametrize(
    ("claim", "one", "two", "verdict"),
    [
        (claims.best_everywhere, 1.1, 1.1, HELD),
        (claims.best_everywhere, 1.2, 0.4, NOT_HELD),
        (claims.best_everywhere, 1.2, EQUAL_TO_AMIL, UNTOLD),
        (claims.largest_gains, 1.2, 0.9, HELD),
        (claims.largest_gains, 0.9, 1.2, NOT_HELD),
        (claims.largest_gains, 1.2, 1.2, UNTOLD),
        (claims.above_on_every_gene, ALL_ABOVE, 0.8, HELD),
        (claims.above_on_every_gene, BELOW_ON_G2, 0.8, NOT_HELD),
        (claims.above_on_every_gene, EQUAL_TO_AMIL, 0.8, UNTOLD),
        (claims.rare_genes_gain, {**BELOW_ON_G2, "G4": 1.1}, 0.8, HELD),
        (claims.rare_genes_gain, {**BELOW_ON_G2, "G4": 0.5}, 0.8, NOT_HELD),
    ],
)
def test_a_claim_on_m4_and_the_single_task_models_gets_the_verdict_that_its_making_implies(
    make: Make, claim: Callable[[Stores], Claim], one: Skill, two: float, verdict: Verdict
) -> None:
    found = judged(claim, make(one=one, two=two))
    assert found.verdict is verdict, found
    assert bool(found.why) is (verdict is UNTOLD)


def test_a_gain_of_the_claimed_size_is_excluded_where_it_is_real_but_far_smaller(make: Make) -> None:
    found = judged(claims.best_everywhere, make(one=0.86, two=0.86))
    by_text = {statement.text: statement for statement in found.statements}
    size = by_text["by about this much on average"]
    assert by_text["best on average"].verdict is HELD, "it is above"
    assert size.value > 0
    assert size.high < size.paper == 0.04
    assert size.verdict is NOT_HELD, "but not by that much"


def test_a_rare_gene_with_too_few_patients_cannot_be_told_and_the_reason_says_so(make: Make) -> None:
    found = judged(claims.rare_genes_gain, make(one=1.2, two=0.8, patients=20))
    assert found.verdict is UNTOLD
    assert "too few test patients" in found.why
    assert not np.isnan(found.statements[0].value), "the number stands although its interval is missing"


ABLATION = ("amil", "mmoe_amil", "mmoe_mp_amil", "m4")


@pytest.mark.parametrize(
    ("one", "two", "verdict"),
    [
        ((0.8, 0.9, 1.0, 1.1), (0.8, 0.5, 0.9, 1.1), HELD),
        ((0.8, 0.9, 1.0, 0.6), (0.8, 0.5, 0.9, 0.6), NOT_HELD),
        ((0.8, 0.9, 1.0, 1.0), (0.8, 0.5, 0.9, 0.9), UNTOLD),
    ],
)
def test_each_part_adds_where_every_step_of_the_ablation_goes_up_and_the_first_alone_fails_somewhere(
    tmp_path: Path, one: tuple[float, ...], two: tuple[float, ...], verdict: Verdict
) -> None:
    skills = {name: dict(zip(ABLATION, values, strict=True)) for name, values in {"one": one, "two": two}.items()}
    assert judged(claims.each_part_adds, skilled_run(tmp_path / "main", skills)).verdict is verdict


def test_that_mmoe_alone_is_not_enough_is_contradicted_where_it_beats_amil_everywhere(tmp_path: Path) -> None:
    skills = {name: dict(zip(ABLATION, (0.5, 0.9, 1.0, 1.1), strict=True)) for name in ("one", "two")}
    first, *others = judged(claims.each_part_adds, skilled_run(tmp_path / "main", skills)).statements
    assert first.verdict is NOT_HELD
    assert {statement.verdict for statement in others} == {HELD}


@pytest.mark.parametrize(
    ("five", "others", "verdict"),
    [(1.05, 1.0, HELD), (1.05, 0.3, NOT_HELD), (1.0, 1.0, UNTOLD)],
)
def test_the_number_of_experts_hardly_matters_where_all_are_near_and_five_a_little_ahead(
    make: Make, five: float, others: float, verdict: Verdict
) -> None:
    runs = {number: make(f"experts-{number}", one=others, experts=number) for number in (1, 9)}
    assert judged(claims.experts_hardly_matter, StudyRuns(make(one=five), runs)).verdict is verdict


@pytest.mark.parametrize(
    ("four", "verdict"),
    [
        ({"G1": 0.4, "G2": 1.3, "G3": 1.0, "G4": 1.0}, HELD),
        ({"G1": 1.8, "G2": 1.3, "G3": 1.0, "G4": 1.0}, NOT_HELD),
        ({"G1": 0.4, "G2": 0.9, "G3": 1.0, "G4": 1.0}, UNTOLD),
    ],
)
def test_more_tasks_help_frequent_genes_up_to_a_number_and_rare_ones_beyond(
    make: Make, four: Skill, verdict: Verdict
) -> None:
    runs = {
        1: make("tasks-1", one={"G1": 1.0}, tasks=GENES[:1]),
        2: make("tasks-2", one={"G1": 1.3, "G2": 0.9}, tasks=GENES[:2]),
    }
    found = judged(claims.ten_tasks_best, StudyRuns(make(one=four), tasks=runs))
    assert found.verdict is verdict, found


def test_a_number_of_tasks_that_no_run_has_is_named(make: Make) -> None:
    scope = replace(SCOPE, numbers=(2, 4, 15))
    runs = {2: make("tasks-2", one={"G1": 1.0, "G2": 1.0}, tasks=GENES[:2])}
    found = judged(claims.ten_tasks_best, StudyRuns(make(one=1.2), tasks=runs), scope)
    assert found.verdict is UNTOLD
    assert found.why == "not in the stores: M4 with 15 tasks of one"
    assert sum(statement.verdict is HELD for statement in found.statements) == 2, "what can be told is told"


def seen(m4: float, amil: float, shared: float) -> Attention:
    rng = np.random.default_rng(0)
    places = [(fold, f"p{i}", f"s{i}") for fold in range(3) for i in range(30)]
    hard = {slide: rng.normal(0, 0.1) for _, _, slide in places}
    truth = [
        ("toy", model, "A", fold, patient, slide, skill + hard[slide] + rng.normal(0, 0.01))
        for model, skill in (("m4", m4), ("amil", amil))
        for fold, patient, slide in places
    ]
    experts = [
        ("toy", "m4", fold, patient, slide, 0.2 + 0.8 * shared + rng.normal(0, 0.05), 0.2)
        for fold, patient, slide in places
    ]
    return Attention(
        pd.DataFrame(truth, columns=["dataset", "model", "task", "fold", "patient_id", "slide_id", "auroc"]),
        pd.DataFrame(experts, columns=["dataset", "model", "fold", "patient_id", "slide_id", "overlap", "chance"]),
    )


@pytest.mark.parametrize(
    ("attention", "verdict"),
    [
        (seen(0.9, 0.7, 0.3), HELD),
        (seen(0.7, 0.9, 0.3), NOT_HELD),
        (seen(0.9, 0.7, 0.9), NOT_HELD),
        (seen(0.8, 0.8, 0.3), UNTOLD),
        (Attention(why="no cohort says which patches carry the evidence"), UNTOLD),
    ],
)
def test_attention_is_compared_slide_by_slide_and_experts_by_what_they_share(
    attention: Attention, verdict: Verdict
) -> None:
    found = claims.attention_covers_tumour(Stores(StudyRuns(None), SCOPE, DRAWS, attention))
    assert found.verdict is verdict, found
    assert attention.truth.size or found.why == attention.why


def test_claims_whose_cohorts_or_models_are_not_in_the_stores_cannot_be_told_and_say_why(make: Make) -> None:
    found = judge_claims(StudyRuns(make(one=1.2)), draws=DRAWS)
    assert {claim.verdict for claim in found} == {UNTOLD}
    assert [claim.number for claim in found] == list(range(1, 9))
    reasons = {claim.number: claim.why for claim in found}
    assert reasons[1] == "not in the stores: tcga-gbmlgg, tcga-brca, tcga-crc, tcga-ucec, tcga-luad"
    assert reasons[3] == "not in the stores: tcga-crc, tcga-ucec"
    assert "one number of experts" in reasons[6]
    assert "reproduce fig5" in reasons[8]


def test_a_single_task_model_that_is_missing_may_be_the_best_so_nothing_is_held(make: Make) -> None:
    scope = replace(SCOPE, singles=("mean_pooling", "amil", "dsmil"))
    above = judged(claims.above_on_every_gene, make(one=1.2), scope)
    assert above.verdict is UNTOLD
    assert above.why == "dsmil was not trained on one"
    below = judged(claims.above_on_every_gene, make("other", one=0.2), scope)
    assert below.verdict is NOT_HELD, "one model above M4 is enough"


def test_a_run_of_some_tasks_does_not_speak_for_a_cohort(make: Make) -> None:
    run = make(one=1.2, two=1.2, config={"tasks": ["G1"]})
    found = judged(claims.best_everywhere, run)
    assert found.verdict is UNTOLD
    assert found.why == "the main run holds some of the tasks only"
    assert judged(claims.above_on_every_gene, run).why == found.why


def test_every_claim_is_judged_and_shown_in_latex_markdown_and_as_one_frame(make: Make) -> None:
    found = judge_claims(StudyRuns(make(one=1.2, two=1.2)), draws=DRAWS, scope=SCOPE)
    assert len(found) == len(CLAIMS) == 8
    verdicts, numbers = claim_tables(found)
    assert len(verdicts.rows) == 8
    assert len(numbers.rows) == sum(len(claim.statements) for claim in found)
    assert r"\label{tab:claims}" in to_latex(verdicts)
    assert "| 1. M4 is best on all five cohorts" in to_markdown(verdicts)
    frame = claim_frame(found)
    assert frame is not None
    assert list(frame.loc[frame["claim"] == 3, "n_contrasts"]) == [len(GENES) * 2]
    assert claim_frame([]) is None
    assert claim_tables([]) == []


def test_the_studys_report_holds_the_claims_in_files_and_on_the_page(make: Make, tmp_path: Path) -> None:
    write_study(StudyRuns(make(one=1.2, two=1.2)), ("table2",), tmp_path / "report", draws=50)
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {f"{stem}.{suffix}" for stem in ("claims", "claims_numbers") for suffix in ("tex", "csv", "md")} <= names
    assert r"\input{claims_numbers}" in (tmp_path / "report" / "report.tex").read_text()
    assert "not in the stores: tcga-gbmlgg" in (tmp_path / "report" / "index.html").read_text()
