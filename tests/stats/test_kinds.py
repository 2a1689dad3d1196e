"""Statistics of tasks of every kind: through the grid they are the metrics' own numbers, and no kind meets another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from endpoint_goldens import EXACT, endpoint_golden, floats
from kinds_for_tests import ENDPOINTS, FOLDS, GRADES, make_run_of_kinds
from numpy.typing import NDArray
from scipy.stats import pearsonr
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from milbench.endpoints.answers import decoded_grade
from milbench.endpoints.endpoint import KINDS, Endpoint, Kind
from milbench.errors import StoreError
from milbench.metrics import concordance
from milbench.stats.analysis import Analysis, analyse, rank_all
from milbench.stats.crossed import crossed_draws, draw_within_classes, fold_scores, generator, interval
from milbench.stats.ensemble import ensemble, ensemble_scores
from milbench.stats.grid import Grid, TaskScores, grids
from milbench.stats.kind_metrics import COLUMNS, Cell, metrics_of
from milbench.stats.metric import METRICS
from milbench.stats.scores import kinds_of, score_table
from milbench.store.run import Run

Floats = NDArray[np.float64]
DRAWS = 200
OTHERS = KINDS[1:]
TASK_OF = {endpoint.kind: task for task, endpoint in ENDPOINTS.items() if task != "control"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run_of_kinds(tmp_path_factory.mktemp("runs") / "kinds").snapshot()


@pytest.fixture(scope="module")
def grid_of_kind(run: Run) -> dict[Kind, Grid]:
    return {kind: grids([run], kind)[0] for kind in KINDS}


@pytest.fixture(scope="module")
def analysis_of_kind(run: Run) -> dict[Kind, Analysis]:
    return {kind: analyse([run], kind=kind, draws=DRAWS) for kind in KINDS}


def independent_score(rows: pd.DataFrame, task: str) -> float:
    """Primary metric of the answers to one task, by other packages where there are any."""
    kind, wide = ENDPOINTS[task].kind, rows.pivot(index="slide_id", columns="answer", values="prediction")
    first = rows.drop_duplicates("slide_id").set_index("slide_id").loc[wide.index]
    known = first["target"].notna()
    wide, first = wide[known], first[known]
    y = first["target"].to_numpy()
    if kind == "binary":
        return float(roc_auc_score(y, wide["probability"]))
    if kind == "multiclass":
        p = wide[[f"probability of {name}" for name in ENDPOINTS[task].classes]]
        return float(roc_auc_score(y, p, multi_class="ovr"))
    if kind == "ordinal":
        grades = decoded_grade(wide["expected grade"].to_numpy(), len(GRADES))
        return float(cohen_kappa_score(y, grades, weights="quadratic", labels=range(len(GRADES))))
    if kind == "regression":
        return float(pearsonr(y, wide["value"])[0])
    of_patients = first.assign(risk=wide["risk"]).groupby("patient_id")
    risk, time, event = of_patients["risk"].mean(), of_patients["target"].first(), of_patients["event"].first()
    return concordance(time.to_numpy(), event.to_numpy(), risk.to_numpy())


# ---- scores --------------------------------------------------------------------------------------


def test_a_run_has_the_kinds_of_its_tasks(run: Run, tmp_path: Path) -> None:
    assert kinds_of([run]) == KINDS
    assert kinds_of([make_run_of_kinds(tmp_path / "one", tasks=("HRD", "OS"))]) == ("regression", "survival")


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_metrics_of_other_packages_and_alike_in_every_table(
    kind: Kind, run: Run, analysis_of_kind: dict[Kind, Analysis]
) -> None:
    task = TASK_OF[kind]
    table = score_table([run], kind).set_index(["model", "task", "fold"])["score"]
    scores = analysis_of_kind[kind].scores
    of_level = scores[scores["level"] == METRICS[kind].level].set_index(["model", "task", "fold"])["score"]
    for trial in run.trials():
        rows = trial.answers().query("role == 'test' and task == @task")
        place = trial.info["model"], task, trial.info["fold"]
        assert table[place] == pytest.approx(independent_score(rows, task), abs=1e-12)
        assert of_level[place] == pytest.approx(table[place], abs=1e-12)
    assert set(scores["task"]) == {name for name, endpoint in ENDPOINTS.items() if endpoint.kind == kind}
    assert list(scores.columns[8 : 8 + len(COLUMNS[kind])]) == list(COLUMNS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_patient_and_fold_once_gives_the_score_itself(
    kind: Kind, run: Run, grid_of_kind: dict[Kind, Grid]
) -> None:
    task = grid_of_kind[kind].task(TASK_OF[kind])
    once = fold_scores(task, np.ones((1, task.n_patients), dtype=np.int64))[0]
    table = score_table([run], kind).query("task == @TASK_OF[@kind]").set_index(["model", "fold"])["score"]
    expected = [[table[model, fold] for fold in FOLDS] for model in grid_of_kind[kind].models]
    np.testing.assert_allclose(once, expected, atol=1e-12)


def test_binary_tasks_are_analysed_as_if_they_were_alone(
    run: Run, analysis_of_kind: dict[Kind, Analysis], tmp_path: Path
) -> None:
    alone = analyse([make_run_of_kinds(tmp_path / "alone", tasks=("TP53", "control"))], draws=DRAWS)
    for name in ("tasks", "against", "cohorts", "pairs", "cells", "scores"):
        here, there = getattr(analysis_of_kind["binary"], name), getattr(alone, name)
        # noise of a trial's logits is drawn by task, so that both runs hold the same answers
        pd.testing.assert_frame_equal(here, there)


def test_answers_at_the_golden_inputs_give_the_golden_metrics() -> None:
    y = endpoint_golden("multiclass")["cases"]["3 classes 60/30/10"]
    found = metrics_of(cell(Endpoint("multiclass", ("a", "b", "c")), y["y"], floats(y["p"])))
    assert found["score"] == pytest.approx(y["sklearn ovr macro"], abs=EXACT)
    assert found["one_vs_one_auroc"] == pytest.approx(y["sklearn ovo macro"], abs=EXACT)
    assert [found[f"auroc of {name}"] for name in "abc"] == pytest.approx(y["sklearn ovr none"], abs=EXACT)
    assert found["balanced_accuracy"] == pytest.approx(y["balanced accuracy"], abs=EXACT)
    assert found["macro_f1"] == pytest.approx(y["macro F1 labels"], abs=EXACT)
    assert found["log_loss"] == pytest.approx(y["log loss"], abs=EXACT)
    assert found["brier"] == pytest.approx(y["Brier, sum over classes"], abs=EXACT)
    case = endpoint_golden("regression")["skewed, TMB-like"]
    found = metrics_of(cell(Endpoint("regression"), case["true"], floats(case["pred"])[:, None]))
    assert found["score"] == pytest.approx(case["pearson r, p, fisher low, high"][0], abs=EXACT)
    recorded = {"r2": "r2", "mae": "mae", "rmse": "rmse", "spearman": "spearman", "ccc": "concordance correlation"}
    assert {name: found[name] for name in recorded} == pytest.approx(
        {name: case[key] for name, key in recorded.items()}, abs=EXACT
    )
    case = endpoint_golden("cindex")["100 patients, rounded"]
    event = floats(case["event"])
    found = metrics_of(cell(Endpoint("survival"), case["time"], floats(case["risk"])[:, None], event))
    assert found == pytest.approx({"score": case["lifelines"]}, abs=EXACT)


def test_the_kappa_of_golden_grades_is_recorded_scikit_learns() -> None:
    case = endpoint_golden("multiclass")["cases"]["ISUP-like 6 grades"]
    p = floats(case["p"])
    answers = np.column_stack([p.argmax(axis=1), p])
    found = metrics_of(cell(Endpoint("ordinal", tuple("012345")), case["y"], answers))
    assert found["score"] == pytest.approx(case["quadratic kappa labels"], abs=EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_test_side_without_a_label_has_no_number(kind: Kind) -> None:
    endpoint = Endpoint(kind, ("a", "b", "c") if kind in ("multiclass", "ordinal") else ())
    n_answers = {"multiclass": 3, "ordinal": 4}.get(kind, 1)
    some = cell(endpoint, [0.0, 1, 2] if endpoint.classes else [1.0, 0, 1], np.full((3, n_answers), 0.25), np.ones(3))
    found = metrics_of(some._replace(is_test=np.zeros(3, dtype=bool)))
    assert np.isnan([value for name, value in found.items() if name != "threshold"]).all()
    assert metrics_of(some._replace(answers=np.full((3, n_answers), np.nan))) == {}


def cell(endpoint: Endpoint, targets: object, answers: Floats, events: Floats | None = None) -> Cell:
    from milbench.endpoints.fitted import FittedEndpoint

    y = floats(targets)
    nothing = np.full(len(y), np.nan)
    return Cell(
        y, nothing if events is None else events, answers, np.ones(len(y), bool), FittedEndpoint(endpoint), None
    )


def test_weights_over_time_come_from_training_patients_alone(run: Run, grid_of_kind: dict[Kind, Grid]) -> None:
    from milbench.endpoints.endpoint import event_of, time_of
    from milbench.metrics import censoring_survival, tau

    table = run.labels("toy").merge(run.roles("toy"), on="patient_id").drop_duplicates("patient_id")
    labels = table.loc[table["fold_1"] == "train", "OS"].dropna().to_numpy()
    follow_up = grid_of_kind["survival"].follow_up[0, 1]
    expected = censoring_survival(time_of(labels), event_of(labels))
    np.testing.assert_array_equal(follow_up.censoring.values, expected.values)
    assert follow_up.tau == tau(time_of(labels), event_of(labels))


def test_only_models_that_know_survival_at_edges_have_an_integrated_brier_score(
    analysis_of_kind: dict[Kind, Analysis],
) -> None:
    known = (
        analysis_of_kind["survival"]
        .scores.groupby("model")["integrated_brier"]
        .agg(lambda column: column.notna().all())
    )
    assert known.to_dict() == {"amil": False, "m4": True}


# ---- draws ---------------------------------------------------------------------------------------


def repeated(task: TaskScores, weights: Floats, model: int, fold: int) -> float:
    """The metric over rows that stand as often as their patient was drawn; a copy of a patient is no pair with it."""
    from milbench.stats.scores import primary_score

    times = weights[task.patients].astype(int)
    rows = np.repeat(np.arange(len(times)), times)
    scores = task.scores[model, fold, 0][rows]
    answers = scores if scores.ndim == 2 else scores[:, None]
    copies = np.concatenate([np.arange(number) for number in times]) if len(rows) else rows
    patients = np.array([f"{task.patients[row]}-{copy}" for row, copy in zip(rows, copies, strict=True)], dtype=object)
    events = task.events[rows] if len(task.events) else np.full(len(rows), np.nan)
    return primary_score(task.endpoint, task.targets[rows], events, answers, patients)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_draw_is_the_metric_over_the_rows_drawn(kind: Kind, grid_of_kind: dict[Kind, Grid]) -> None:
    task = grid_of_kind[kind].task(TASK_OF[kind])
    weights = draw_within_classes(np.random.default_rng(0), task.stratum, 3)
    drawn = fold_scores(task, weights)
    for draw, model, fold in np.ndindex(drawn.shape):
        assert drawn[draw, model, fold] == pytest.approx(repeated(task, weights[draw], model, fold), abs=1e-10)


@pytest.mark.parametrize("kind", OTHERS)
def test_classes_are_drawn_apart_and_all_others_together(kind: Kind, grid_of_kind: dict[Kind, Grid]) -> None:
    task = grid_of_kind[kind].task(TASK_OF[kind])
    weights = draw_within_classes(np.random.default_rng(0), task.stratum, 5)
    unknown = np.isnan(task.patient_label)
    assert (weights[:, unknown] == 0).all()
    assert unknown.any()
    if kind in ("multiclass", "ordinal"):
        for place, number in enumerate(task.n_by_class):
            assert (weights[:, task.patient_label == place].sum(axis=1) == number).all()
    else:
        assert (weights.sum(axis=1) == task.n_labelled).all()
        events = weights[:, task.patient_label > np.nanmedian(task.patient_label)].sum(axis=1)
        assert len(set(events.tolist())) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_their_scores_and_come_from_the_crossed_draws(
    kind: Kind, grid_of_kind: dict[Kind, Grid], analysis_of_kind: dict[Kind, Analysis]
) -> None:
    task = TASK_OF[kind]
    cells = analysis_of_kind[kind].cells.set_index(["task", "model"])
    draws = crossed_draws(grid_of_kind[kind].task(task), generator(0, "toy", task), DRAWS)
    for column, model in enumerate(grid_of_kind[kind].models):
        row = cells.loc[task, model]
        assert (row["low"], row["high"]) == interval(draws[:, column])
        assert row["low"] <= row["score"] <= row["high"]
        assert row["ensemble_low"] < row["ensemble_score"] < row["ensemble_high"]
    against = analysis_of_kind[kind].against.set_index("task").loc[task]
    assert against["delta"] == pytest.approx(cells.loc[(task, "m4"), "score"] - cells.loc[(task, "amil"), "score"])
    assert against[["p", "p_holm", "q_bh", "p_ensemble"]].notna().all()


@pytest.mark.parametrize(
    ("kind", "counts", "too_small"),
    [
        ("multiclass", (40, 10, 10), False), ("multiclass", (40, 40, 9), True), ("ordinal", (10, 10, 10), False),
        ("ordinal", (50, 0, 50), True), ("survival", (10, 10), False), ("survival", (90, 9), True),
        ("survival", (9, 90), True), ("regression", (30,), False), ("regression", (29,), True),
    ],
)  # fmt: skip
def test_an_interval_needs_enough_patients_of_every_class_with_and_without_event_or_in_all(
    kind: Kind, counts: tuple[int, ...], *, too_small: bool
) -> None:
    groups = np.repeat(np.arange(len(counts)), counts).astype(float)
    n = len(groups)
    classes = ("a", "b", "c") if kind in ("multiclass", "ordinal") else ()
    is_survival = kind == "survival"
    task = TaskScores(
        np.arange(n), np.arange(1.0, n + 1) if kind in ("regression", "survival") else groups, np.zeros((1, 1, 1, n)),
        np.ones((1, n), dtype=bool), n, Endpoint(kind, classes), groups if is_survival else np.empty(0),
    )  # fmt: skip
    assert task.too_small is too_small


def test_a_task_that_is_too_small_keeps_its_score_and_has_no_interval(run: Run, grid_of_kind: dict[Kind, Grid]) -> None:
    grid = grid_of_kind["ordinal"]
    few = replace(grid, rows=grid.rows[grid.rows["slide"] < 40])
    task = few.task("grade")
    assert task.too_small
    found = ensemble_scores(task, generator(0), DRAWS)
    assert np.isfinite(found.scores).all()
    assert np.isnan([*found.interval(0), found.p(0, 1)]).all()


# ---- ensembles -----------------------------------------------------------------------------------


def test_risks_are_averaged_in_units_of_a_trials_own_training_risks(grid_of_kind: dict[Kind, Grid]) -> None:
    task = grid_of_kind["survival"].task("OS")
    other = np.array([1.0, 1000.0, -5.0])[:, None, None], np.array([1.0, 300.0, 0.01])[:, None, None]
    scaled = replace(
        task, scores=task.scores * other[1] + other[0],
        training_risk=np.concatenate(
            [task.training_risk[..., :1] * other[1] + other[0], task.training_risk[..., 1:] * other[1]], axis=-1
        ),
    )  # fmt: skip
    np.testing.assert_allclose(ensemble(scaled)[1], ensemble(task)[1], atol=1e-9)
    mean, sd = task.training_risk[0, 0, 0]
    one = replace(task, scores=task.scores[:1, :1], tested=task.tested[:1], training_risk=task.training_risk[:1, :1])
    patient = np.unique(task.patients)[0]
    slides = task.scores[0, 0, 0, task.patients == patient]
    assert ensemble(one)[1][0, 0] == pytest.approx(((slides - mean) / sd).mean())


@pytest.mark.parametrize("kind", OTHERS)
def test_the_ensemble_is_the_metric_of_mean_answers_of_patients(kind: Kind, grid_of_kind: dict[Kind, Grid]) -> None:
    task = grid_of_kind[kind].task(TASK_OF[kind])
    labels, scores = ensemble(task)
    found = ensemble_scores(task, generator(0), DRAWS)
    own = replace(
        task, patients=np.arange(len(labels)), targets=labels, scores=scores[:, None, None],
        tested=np.ones((1, len(labels)), dtype=bool), n_patients=len(labels),
        events=task.patient_event[np.unique(task.patients)] if kind == "survival" else np.empty(0),
    )  # fmt: skip
    expected = fold_scores(own, np.ones((1, len(labels)), dtype=np.int64))[0, :, 0]
    np.testing.assert_allclose(found.scores, expected, atol=1e-12)
    apart = replace(task, tested=task.tested & (np.arange(3)[:, None] != 0))
    assert np.isnan(ensemble_scores(apart, generator(0), DRAWS).scores).all()


def test_grades_are_drawn_anew_for_their_ensemble_alike_for_all_models(grid_of_kind: dict[Kind, Grid]) -> None:
    task = grid_of_kind["ordinal"].task("grade")
    twice = replace(task, scores=np.concatenate([task.scores[:1], task.scores[:1]]))
    found = ensemble_scores(twice, generator(0), DRAWS)
    assert found.interval(0) == found.interval(1)
    assert found.p(0, 1) == 1


# ---- several kinds -------------------------------------------------------------------------------


def test_ranks_over_all_kinds_count_cells_and_average_nothing(analysis_of_kind: dict[Kind, Analysis]) -> None:
    ranks = rank_all(list(analysis_of_kind.values()))
    assert ranks is not None
    assert ranks.n_cells == len(KINDS), "controls are left out"
    assert ranks.mean_ranks.to_dict() == {"amil": 2, "m4": 1}
    assert ranks.wins.loc["m4", "amil"] == len(KINDS)
    assert ranks.mean_difference.isna().all(axis=None)
    assert ranks.wilcoxon_p.isna().all(axis=None)
    alone = analysis_of_kind["survival"]
    assert rank_all([alone]) is alone.ranks


def test_a_kind_that_no_task_has_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no finished trial to analyse on a task of kind survival"):
        analyse([make_run_of_kinds(tmp_path / "one", tasks=("HRD",))], kind="survival")


def test_trials_that_ask_other_things_of_a_task_are_not_compared(grid_of_kind: dict[Kind, Grid]) -> None:
    grid = grid_of_kind["ordinal"]
    place, facts = next(iter(grid.facts.items()))
    other = facts._replace(fitted=replace(facts.fitted, endpoint=Endpoint("ordinal", ("G1", "G3", "G2", "G4"))))
    with pytest.raises(StoreError, match="disagree on what is asked of task 'grade'"):
        replace(grid, facts={**grid.facts, place: other}).task("grade")
