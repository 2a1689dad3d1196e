"""Strata of tasks of every kind, and what an audit says of sides that lack them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from label_tables import labels_of, real_table

from milbench.endpoints.endpoint import Endpoint
from milbench.splits import Split, audit, make_split
from milbench.splits.strata import patient_strata

ENDPOINTS = {
    "m": Endpoint("multiclass", ("a", "b", "c")),
    "g": Endpoint("ordinal", ("G1", "G2", "G3")),
    "t": Endpoint("survival"),
    "r": Endpoint("regression"),
}
TASKS = ("b", "m", "g", "t", "r")


def slides_of(n_patients: int, seed: int = 0) -> pd.DataFrame:
    """One slide per patient, with a label of every kind; a tenth of each is unknown."""
    rng = np.random.default_rng(seed)
    labels = {
        "b": rng.integers(0, 2, n_patients).astype(float),
        "m": rng.choice(3, n_patients, p=[0.6, 0.3, 0.1]).astype(float),
        "g": rng.choice(3, n_patients, p=[0.2, 0.3, 0.5]).astype(float),
        "t": rng.exponential(900, n_patients) * np.where(rng.random(n_patients) < 0.25, 1, -1),
        "r": rng.lognormal(0, 2, n_patients),
    }
    known = {task: np.where(rng.random(n_patients) < 0.1, np.nan, values) for task, values in labels.items()}
    ids = [f"{number}" for number in range(n_patients)]
    return pd.DataFrame({"slide_id": [f"s{n}" for n in ids], "patient_id": [f"p{n}" for n in ids], **known})


def test_strata_of_four_patients_by_hand() -> None:
    slides = pd.DataFrame(
        {"patient_id": list("ABBCD"), "m": [0, 2, np.nan, 1, 2], "t": [5, -3, -3, np.nan, 8], "r": [1, 2, 4, 3, 9.0]}
    )
    strata = patient_strata(slides, ("m", "t", "r"), ENDPOINTS)
    np.testing.assert_array_equal(strata[:, :3], np.eye(3)[[0, 2, 1, 2]])
    np.testing.assert_array_equal(strata[:, 3:5], [[1, 0], [0, 1], [0, 0], [1, 0]])
    assert strata[:, 5:].sum(axis=1).tolist() == [1, 1, 1, 1]
    assert strata[0, 5]
    assert strata[3, 8]


def test_binary_tasks_alone_make_the_strata_that_they_made_before() -> None:
    slides = slides_of(60).assign(b2=lambda table: 1 - table["b"])
    positive, negative = (np.column_stack([slides[t] == value for t in ("b", "b2")]) for value in (1, 0))
    np.testing.assert_array_equal(patient_strata(slides, ("b", "b2")), np.column_stack([positive, negative]))


@pytest.mark.parametrize("seed", range(3))
def test_a_drawn_split_spreads_classes_events_and_scores_over_its_sides(seed: int) -> None:
    slides = slides_of(200, seed)
    split = make_split(slides, TASKS, "kfold", endpoints=ENDPOINTS)
    strata = patient_strata(slides, TASKS, ENDPOINTS)
    for fold in range(split.n_folds):
        is_val = (split.table[f"fold_{fold}"] == "val").to_numpy()
        expected = strata.sum(axis=0) * 0.16
        assert (np.abs(strata[is_val].sum(axis=0) - expected) <= np.maximum(1.5, 0.4 * expected)).all()


def test_patients_are_dealt_into_a_saved_split_by_their_strata(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text(make_split(slides_of(120), TASKS, "kfold", endpoints=ENDPOINTS).to_csv())
    slides = slides_of(200)
    split = make_split(slides, TASKS, str(path), endpoints=ENDPOINTS)
    is_test = (split.table.set_index("patient_id").loc[slides["patient_id"], "fold_0"] == "test").to_numpy()
    shares = patient_strata(slides, TASKS, ENDPOINTS)[is_test].sum(axis=0) / patient_strata(
        slides, TASKS, ENDPOINTS
    ).sum(axis=0)
    assert (np.abs(shares - 0.2) < 0.12).all()


def one_fold(roles: str) -> Split:
    """A split of patients A, B, ... with roles t(rain), v(al) and e (test)."""
    names = {"t": "train", "v": "val", "e": "test"}
    patients = [chr(ord("A") + place) for place in range(len(roles))]
    return Split(pd.DataFrame({"patient_id": patients, "fold_0": [names[role] for role in roles]}), "mine")


@pytest.mark.parametrize(
    ("task", "labels", "warnings"),
    [
        ("m", [0, 1, 2, 0, 1, 2, 0, 1], [
            "m has no c among its 2 test slides in fold 0: it gets no test macro AUROC (NaN, left out of means)"]),
        ("m", [0, 1, 1, 0, 1, 2, 0, 1], [
            "m has no c among its 3 train slides in fold 0: no model can learn to predict that",
            "m has no c among its 2 test slides in fold 0: it gets no test macro AUROC (NaN, left out of means)"]),
        ("g", [0, 1, 2, 0, 1, 1, 0, 0], [
            "g has no G2, G3 among its 2 test slides in fold 0: it gets no test kappa (NaN, left out of means)"]),
        ("g", [0, 0, np.nan, 0, 1, 2, 0, 1], ["g has no G2, G3 among its 2 train slides in fold 0: it cannot learn"]),
        ("t", [-5, -6, -7, 1, 2, -1, 4, -4], ["t has no event and 3 censored train slides in fold 0: it cannot learn"]),
        ("t", [5, 5, -7, 1, 2, -1, 4, -4], [
            "t has all its 2 events at one time among the train slides in fold 0: no time bins can be cut"]),
        ("t", [5, 6, -7, -1, -2, -1, 4, -4], [
            "t has no event and 3 censored val slides in fold 0: it gets no validation c-index"]),
        ("r", [1, 1, 1, 1, 2, 3, 1, 2], [
            "r has 3 known values, 1 of them different, among the train slides in fold 0: it cannot learn",
            "r has 2 known values, 2 of them different, among the test slides in fold 0: "
            "it gets no test correlation (NaN, left out of means)"]),
    ],
)  # fmt: skip
def test_the_audit_names_task_side_and_fold_that_lack_something(
    task: str, labels: list[float], warnings: list[str]
) -> None:
    slides = pd.DataFrame({"slide_id": list("abcdefgh"), "patient_id": list("ABCDEFGH"), task: labels})
    assert list(audit(one_fold("tttvvvee"), slides, [task], ENDPOINTS).warnings) == warnings


def test_the_audit_counts_classes_events_and_scores_by_hand() -> None:
    slides = pd.DataFrame(
        {
            "slide_id": list("abc"), "patient_id": list("ABC"),
            "b": [1, 0, 1], "m": [0, 2, 2], "t": [5, -5, np.nan], "r": [1.5, np.nan, 2],
        }
    )  # fmt: skip
    table = audit(one_fold("tve"), slides, ["b", "m", "t", "r"], ENDPOINTS).table
    counts = {(row.role, row.task): row.counts for row in table.itertuples()}
    assert [counts["train", task] for task in ("b", "m", "t", "r")] == [(0, 1), (1, 0, 0), (0, 1), (1,)]
    assert [counts["test", task] for task in ("b", "m", "t", "r")] == [(0, 1), (0, 0, 1), (0, 0), (1,)]


@pytest.mark.realdata
def test_sites_of_real_tumours_stay_whole_and_every_side_has_events_and_classes(tmp_path: Path) -> None:
    tasks = {
        "msi": "multiclass",
        "os": {"kind": "survival", "time": "os_days", "event": "os_event"},
        "density": {"kind": "regression", "column": "mutation_density", "transform": "log1p"},
    }
    text = real_table("m4_crc_endpoints")
    assert len(pd.read_csv(io.StringIO(text))) == 574
    read = labels_of(tmp_path, text, tasks)
    for protocol in ("kfold", "site"):
        split = make_split(read.slides, list(tasks), protocol, endpoints=read.endpoints)
        result = audit(split, read.slides, list(tasks), read.endpoints)
        assert result.warnings == (), protocol
