"""Rows that need no image: what the tissue source site alone tells."""

import numpy as np
import pandas as pd
import pytest
from places import SHARED

from milbench.labels.barcode import tissue_source_site
from milbench.report.baselines import no_image_baselines

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
