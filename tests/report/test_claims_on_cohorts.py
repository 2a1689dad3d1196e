"""Claims on digits and on simulated cohorts, whose truth is in their files: models that read it, in part or not at all."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from claims_for_tests import SCOPE, Scorer, scored_run, scores_of

from milbench.cohorts.cohort import Cohort
from milbench.commands.cli import main
from milbench.datasets import all_datasets
from milbench.metrics import auroc
from milbench.report.attention_claim import Attention
from milbench.report.claim_stores import Scope, Stores
from milbench.report.claims import above_on_every_gene, attention_covers_tumour, best_everywhere, each_part_adds
from milbench.report.study_runs import StudyRuns
from milbench.report.verdicts import Verdict
from milbench.simulate.design import make_design
from milbench.simulate.write import simulate, write_cohort
from milbench.store.run import Run

DRAWS = 400
HELD, NOT_HELD, UNTOLD = Verdict.HELD, Verdict.NOT_HELD, Verdict.UNTOLD


def about(dataset: str, **settings: object) -> Scope:
    """The paper's sentences, about one cohort and with AMIL as the only single-task model."""
    plain = replace(SCOPE, cohorts=(dataset,), gains={dataset: 0.05}, singles=("amil",), average_gain=0.05)
    return replace(plain, **settings)  # type: ignore[arg-type]


def stores(run: Run, scope: Scope, attention: Attention | None = None) -> Stores:
    return Stores(StudyRuns(run.snapshot()), scope, DRAWS, attention)


# ---- a simulated cohort: who carries what is written beside it -------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides whose carriers are known; features are not needed, so bags are small."""
    folder = tmp_path_factory.mktemp("sim") / "witness"
    write_cohort(simulate(make_design("witness", [("slides", 240), ("patches", 4)]), 0), folder)
    return folder


def knows(folder: Path, model: str, share: float) -> Scorer:
    """A model that sees a slide's carrier on so many of the slides, and a coin's toss on the others."""
    labels = pd.read_csv(folder / "labels.csv").set_index("slide_id")
    carriers = pd.read_csv(folder / "carriers.csv").set_index("slide_id").loc[labels.index]

    def score(task: str, fold: int) -> pd.DataFrame:
        rng = np.random.default_rng([fold, *task.encode(), *model.encode()])
        seen = rng.random(len(labels)) < share
        guess = rng.random(len(labels)) < carriers[task].mean()
        noise = 0.01 * rng.standard_normal(len(labels))
        return scores_of(labels.index, labels["case_id"], labels[task], np.where(seen, carriers[task], guess) + noise)

    return score


def simulated_run(folder: Path, out: Path, **shares: float) -> Run:
    tasks = list(json.loads((folder / "truth.json").read_text())["prevalence"])
    return scored_run(out, {"sim": {model: knows(folder, model, share) for model, share in shares.items()}}, tasks)


@pytest.mark.parametrize(
    ("m4", "amil", "verdict"), [(1.0, 0.2, HELD), (0.2, 1.0, NOT_HELD), (0.6, 0.6, UNTOLD), (0.0, 0.0, UNTOLD)]
)
def test_who_sees_more_of_the_carriers_is_above_on_every_task(
    simulated: Path, tmp_path: Path, m4: float, amil: float, verdict: Verdict
) -> None:
    run = simulated_run(simulated, tmp_path / "run", m4=m4, amil=amil)
    assert above_on_every_gene(stores(run, about("sim"))).verdict is verdict
    assert best_everywhere(stores(run, about("sim"))).verdict is verdict


def test_a_model_that_sees_all_carriers_is_above_chance_by_what_the_oracle_states(
    simulated: Path, tmp_path: Path
) -> None:
    run = simulated_run(simulated, tmp_path / "run", m4=1.0, amil=0.0)
    drawn = np.mean(list(json.loads((simulated / "truth.json").read_text())["oracle_auc"]["here"].values()))
    average = best_everywhere(stores(run, about("sim"))).statements[1]
    assert average.low < drawn - 0.5 < average.high


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ({"amil": 0.5, "mmoe_amil": 0.1, "mmoe_mp_amil": 0.6, "m4": 1.0}, HELD),
        ({"amil": 0.5, "mmoe_amil": 0.1, "mmoe_mp_amil": 1.0, "m4": 0.4}, NOT_HELD),
        ({"amil": 0.5, "mmoe_amil": 0.1, "mmoe_mp_amil": 0.6, "m4": 0.6}, UNTOLD),
    ],
)
def test_each_part_adds_where_each_sees_more(
    simulated: Path, tmp_path: Path, shares: dict[str, float], verdict: Verdict
) -> None:
    run = simulated_run(simulated, tmp_path / "run", **shares)
    assert each_part_adds(stores(run, about("sim"))).verdict is verdict


# ---- digits: which patches count is known -----------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Cohort:
    return all_datasets()["digits"].load(None, allow_missing=False)


@pytest.fixture(scope="module")
def evidence(digits: Cohort) -> dict[str, np.ndarray]:
    """Evidence [N, T] by slide, of the first slides."""
    ids = [str(slide) for slide in digits.slides["slide_id"].iloc[:150]]
    return {slide: np.asarray(digits.load(slide).instance_labels) for slide in ids}


def counts(digits: Cohort, evidence: dict[str, np.ndarray], model: str, blur: float) -> Scorer:
    """A model that counts a task's evidence through noise."""
    table = digits.slides.set_index("slide_id").loc[list(evidence)]

    def score(task: str, fold: int) -> pd.DataFrame:
        column = digits.tasks.index(task)
        seen = np.array([labels[:, column].sum() > 0 for labels in evidence.values()], dtype=float)
        noise = np.random.default_rng([fold, column, *model.encode()]).standard_normal(len(table))
        return scores_of(table.index, table["patient_id"], table[task], seen + blur * noise)

    return score


@pytest.mark.parametrize(("m4", "amil", "verdict"), [(0.1, 2.0, HELD), (2.0, 0.1, NOT_HELD), (1.0, 1.0, UNTOLD)])
def test_on_digits_who_counts_the_evidence_better_is_above(
    digits: Cohort, evidence: dict[str, np.ndarray], tmp_path: Path, m4: float, amil: float, verdict: Verdict
) -> None:
    models = {name: counts(digits, evidence, name, blur) for name, blur in (("m4", m4), ("amil", amil))}
    run = scored_run(tmp_path / "run", {"digits": models}, ["has_0", "has_4", "has_6"])
    assert above_on_every_gene(stores(run, about("digits"))).verdict is verdict
    assert best_everywhere(stores(run, about("digits"))).verdict is verdict


def maps_of(evidence: dict[str, np.ndarray], model: str, blur: float) -> list[tuple[object, ...]]:
    """AUROC of a map that is the truth through noise, in every slide where some patches are evidence."""
    rng = np.random.default_rng(len(model))
    return [
        ("digits", model, "has_0", fold, slide, slide, auroc(truth, truth + blur * rng.standard_normal(len(truth))))
        for slide, labels in evidence.items()
        if 0 < (truth := labels[:, 0].astype(float)).sum() < len(truth)
        for fold in range(3)
    ]


@pytest.mark.parametrize(
    ("m4", "amil", "shared", "verdict"),
    [(0.3, 2.0, 0.2, HELD), (2.0, 0.3, 0.2, NOT_HELD), (0.3, 2.0, 1.0, NOT_HELD), (0.5, 0.5, 0.2, UNTOLD)],
)
def test_on_digits_the_map_nearer_to_the_truth_covers_more(
    evidence: dict[str, np.ndarray], m4: float, amil: float, shared: float, verdict: Verdict
) -> None:
    columns = ["dataset", "model", "task", "fold", "patient_id", "slide_id", "auroc"]
    draw = partial(maps_of, evidence)
    truth = pd.DataFrame([*draw("m4", m4), *draw("amil", amil)], columns=columns)
    experts = truth[truth["model"] == "m4"].assign(overlap=shared, chance=0.0)
    seen = Attention(truth, experts)
    assert attention_covers_tumour(Stores(StudyRuns(None), about("digits"), DRAWS, seen)).verdict is verdict


# ---- trained models, on a cohort where one alone can read the signal -------------------------------


@pytest.mark.slow
def test_where_only_the_layout_tells_trained_m4_is_above_models_that_see_no_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "neighbourhood"
    write_cohort(simulate(make_design("neighbourhood"), 0), folder)
    words = (
        "--models",
        "mean_pooling",
        "amil",
        "m4",
        "--folds",
        "0-1",
        "--workers",
        "1",
        "--no-tracking",
        "--run",
        "run",
    )
    assert main(["run", "--cohort", str(folder), *words]) == 0
    run = Run(tmp_path / "run")
    (name,) = run.datasets
    scope = about(name, singles=("mean_pooling", "amil"), average_gain=0.2)
    assert best_everywhere(stores(run, scope)).verdict is HELD
    assert best_everywhere(stores(run, replace(scope, average_gain=0.49))).verdict is NOT_HELD
    assert above_on_every_gene(stores(run, scope)).verdict is not NOT_HELD, "two folds may be too few for each task"
