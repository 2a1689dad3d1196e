"""Rows that need no image: what the tissue source site alone tells."""

import numpy as np
import pandas as pd
import pytest
from places import SHARED
from sklearn import metrics as sk

from milbench.endpoints.endpoint import Endpoint
from milbench.labels.barcode import tissue_source_site
from milbench.report.baselines import cumulative_hazard, no_image_baselines

TABLE = SHARED / "data" / "tcga_labels" / "all_gbmlgg.csv"


def cohort(sites: list[str], targets: list[float], roles: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    patients = [f"TCGA-{site}-{index:04d}" for index, site in enumerate(sites)]
    labels = pd.DataFrame({"slide_id": [f"{p}-01Z" for p in patients], "patient_id": patients, "TP53": targets})
    return labels, pd.DataFrame({"patient_id": patients, "fold_0": roles})


def values(labels: pd.DataFrame, roles: pd.DataFrame) -> dict[str, float]:
    rows = no_image_baselines(labels, roles, [0])
    return dict(zip(rows["name"], rows["score"], strict=True))


def test_prevalence_is_a_half_and_a_telling_site_is_one() -> None:
    labels, roles = cohort(["AA", "AA", "BB", "BB"] * 2, [1, 1, 0, 0] * 2, ["train"] * 4 + ["test"] * 4)
    assert values(labels, roles) == {"prevalence": 0.5, "site-only": 1.0}


def test_labels_of_validation_and_test_patients_never_enter() -> None:
    labels, roles = cohort(["AA", "BB", "AA", "BB", "AA", "BB"], [1, 0, 0, 1, 0, 1], ["train", "train", "val", "val", "test", "test"])  # fmt: skip
    assert values(labels, roles)["site-only"] == 0.0


def test_a_site_that_training_has_not_seen_gets_the_prevalence() -> None:
    labels, roles = cohort(["AA", "BB", "AA", "CC", "BB"], [1, 0, 1, 0, 0], ["train", "train", "test", "test", "test"])
    assert values(labels, roles)["site-only"] == 1.0  # 0.75 for AA, 0.5 for CC, 0.25 for BB


def test_unknown_labels_are_left_out() -> None:
    labels, roles = cohort(["AA", "BB", "AA", "BB", "AA"], [1, 0, 1, 0, np.nan], ["train"] * 2 + ["test"] * 3)
    assert values(labels, roles)["site-only"] == 1.0


def test_patients_without_a_barcode_have_no_site() -> None:
    labels, roles = cohort(["AA", "BB"], [1, 0], ["train", "test"])
    renamed = {old: f"patient-{index}" for index, old in enumerate(labels["patient_id"])}
    result = values(labels.replace(renamed), roles.replace(renamed))
    assert np.isnan(result["site-only"])


def test_the_site_is_the_second_field_of_the_barcode() -> None:
    assert tissue_source_site("TCGA-3C-AALI-01Z-00-DX1") == "3C"
    assert tissue_source_site("patient-1") is None


def of_kind(endpoint: Endpoint, sites: list[str], targets: list[float], roles: list[str]) -> dict[str, float]:
    labels, table = cohort(sites, targets, roles)
    rows = no_image_baselines(labels, table, [0], {"TP53": endpoint})
    return dict(zip(rows["name"], rows["score"], strict=True))


def test_without_an_image_no_kind_is_better_than_chance_but_for_its_sites() -> None:
    sites, roles = ["AA", "AA", "BB", "BB", "CC", "CC"] * 2, ["train"] * 6 + ["test"] * 6
    classes = of_kind(Endpoint("multiclass", ("a", "b", "c")), sites, [0, 0, 1, 1, 2, 2] * 2, roles)
    assert classes == {"prevalence": 0.5, "site-only": 1.0}
    grades = of_kind(Endpoint("ordinal", ("1", "2", "3")), sites, [0, 0, 1, 1, 2, 2] * 2, roles)
    assert grades["prevalence"] == 0
    assert grades["site-only"] == pytest.approx(sk.cohen_kappa_score([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]))
    values = of_kind(Endpoint("regression"), sites, [1.0, 2, 11, 12, 5, 6] * 2, roles)
    assert np.isnan(values["prevalence"]), "a constant has no correlation"
    assert values["site-only"] > 0.9


def test_a_sites_risk_is_its_observed_over_its_expected_events() -> None:
    sites, roles = ["AA", "AA", "BB", "BB"] * 2, ["train"] * 4 + ["test"] * 4
    early_and_late = [10.0, 20.0, -300.0, 400.0, 15.0, 25.0, 350.0, -500.0]
    found = of_kind(Endpoint("survival"), sites, early_and_late, roles)
    assert found["prevalence"] == 0.5
    # risk of AA above that of BB: of five comparable pairs of test patients one lies inside AA and is a tie
    assert found["site-only"] == pytest.approx((4 + 0.5 * 2) / 6)


def test_expected_events_are_nelson_aalens_and_add_up_to_those_observed() -> None:
    times, events = np.array([3.0, 1, 2, 2, 5]), np.array([1.0, 1, 0, 1, 0])
    expected = cumulative_hazard(times, events)
    steps = {1: 1 / 5, 2: 1 / 5 + 1 / 4, 3: 1 / 5 + 1 / 4 + 1 / 2, 5: 1 / 5 + 1 / 4 + 1 / 2}
    assert expected.tolist() == pytest.approx([steps[int(time)] for time in times])
    assert expected.sum() == pytest.approx(events.sum())


@pytest.mark.realdata
@pytest.mark.skipif(not TABLE.exists(), reason="the label tables are not beside the checkout")
def test_the_site_alone_tells_idh1_in_gbmlgg() -> None:
    from milbench.labels import read_labels
    from milbench.splits import make_split

    slides = read_labels(TABLE).slides
    tasks = [column for column in slides.columns if column not in ("slide_id", "patient_id")]
    rows = no_image_baselines(
        slides[["slide_id", "patient_id", *tasks]], make_split(slides, tasks, "m4").table, range(5)
    )
    site_only = rows[rows["name"] == "site-only"].set_index("task")["score"]
    assert site_only["IDH1"] > 0.7
    assert 0.4 < site_only["CIC"] < 0.6
