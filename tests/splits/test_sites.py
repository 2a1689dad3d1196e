"""Site-preserved folds: no tissue source site on two sides."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED

from milbench.errors import SplitError
from milbench.labels import read_labels
from milbench.splits import Split, audit, make_split

TABLES = SHARED / "data" / "tcga_labels"
TASKS = ("a", "b")


def make_slides(n_patients: int, n_sites: int, seed: int, steepness: float = 1) -> pd.DataFrame:
    """Patients of sites whose sizes fall off, as in TCGA; label "a" depends on the site."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, n_sites + 1) ** steepness
    site_of = np.concatenate([np.arange(n_sites), rng.choice(n_sites, n_patients - n_sites, p=shares / shares.sum())])
    ids = [f"TCGA-{site:02d}-{number:04d}" for number, site in enumerate(site_of)]
    labels = {"a": (rng.random(n_patients) < 0.2 + 0.6 * (site_of % 2)), "b": rng.random(n_patients) < 0.3}
    table = pd.DataFrame({"slide_id": [f"{name}.x" for name in ids], "patient_id": ids, **labels})
    return table.astype({"a": float, "b": float})


def sites_by_side(split: Split, fold: int) -> list[set[str]]:
    sites = split.table["patient_id"].str[5:7]
    return [set(sites[split.table[f"fold_{fold}"] == role]) for role in ("train", "val", "test")]


@settings(max_examples=30, deadline=None)
@given(st.integers(30, 150), st.integers(6, 25), st.integers(0, 10_000))
def test_a_site_never_stands_on_two_sides_and_no_side_is_empty(n_patients: int, n_sites: int, seed: int) -> None:
    split = make_split(make_slides(n_patients, n_sites, seed), TASKS, "site")
    for fold in range(5):
        train, val, test = sites_by_side(split, fold)
        assert not train & val
        assert not (train | val) & test
        assert all((train, val, test))
    validates = (split.table.drop(columns="patient_id") == "val").sum(axis=1)
    assert set(validates) == {0, 1}


def test_the_same_cohort_gives_the_same_sites_on_every_side() -> None:
    slides = make_slides(100, 15, 1)
    assert make_split(slides, TASKS, "site").sha256 == make_split(slides.copy(), TASKS, "site").sha256


def test_sides_get_their_share_of_patients_and_labels_as_far_as_whole_sites_allow() -> None:
    slides = make_slides(600, 40, 2, steepness=0.5)
    table = audit(make_split(slides, TASKS, "site"), slides, TASKS).table
    sizes = table.groupby("role")["slides"].mean() / len(slides)
    assert sizes["test"] == pytest.approx(0.2, abs=0.05)
    assert sizes["val"] == pytest.approx(0.16, abs=0.03)
    shares = table["positives"] / table["slides"]
    for task in TASKS:
        assert shares[table["task"] == task].std() < 0.1


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            [f"TCGA-{site}-{n}" for site in ("3C", "A2") for n in range(9)],
            r"2 tissue source sites \(3C, A2\).*at least 6",
        ),
        ([f"patient-{n}" for n in range(12)], "12 patients have none.*Use --splits kfold"),
    ],
)
def test_too_few_sites_and_other_ids_are_refused_with_the_mend(ids: list[str], message: str) -> None:
    slides = pd.DataFrame({"slide_id": ids, "patient_id": ids, "a": 0.0, "b": 1.0})
    with pytest.raises(SplitError, match=message):
        make_split(slides, TASKS, "site")


@pytest.mark.realdata
@pytest.mark.skipif(not TABLES.exists(), reason="the label tables are not beside the checkout")
@pytest.mark.parametrize("name", ["brca", "crc", "gbmlgg", "luad", "ucec"])
def test_in_the_real_cohorts_every_side_has_both_classes_of_every_gene(name: str) -> None:
    slides = read_labels(TABLES / f"all_{name}.csv").slides
    tasks = [column for column in slides if not column.endswith("_id")]
    result = audit(make_split(slides, tasks, "site"), slides, tasks)
    assert not result.warnings
    share = result.table.query("role == 'test'")["patients"].iloc[0] / slides["patient_id"].nunique()
    assert 0.15 < share < 0.3
