"""Scaling against scikit-learn, and its blindness to what it was not fitted on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from folders_for_tests import WIDTH, write_h5
from sklearn.preprocessing import MinMaxScaler, StandardScaler, normalize
from trial_for_tests import TRIAL

from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.cohorts.scaling import FeatureScaler
from milbench.errors import DataError, UsageError
from milbench.serving.feature_store import FeatureStore
from milbench.serving.fold_data import fold_data
from milbench.splits import make_split

RNG = np.random.default_rng(0)
BAGS = [torch.from_numpy(RNG.standard_normal((n, 5)) * [1, 10, 0.1, 3, 0] + 1000) for n in (1, 7, 30)]
ROWS = torch.cat(BAGS).numpy()
NEW = torch.from_numpy(RNG.standard_normal((4, 5)) * 20 + 1000)


@pytest.mark.parametrize(("mode", "oracle"), [("standard", StandardScaler()), ("minmax", MinMaxScaler((-1, 1)))])
def test_scaling_equals_scikit_learns(mode: str, oracle: StandardScaler | MinMaxScaler) -> None:
    scaled = FeatureScaler(mode).fit(BAGS)(NEW)
    expected = oracle.fit(ROWS[:, :4]).transform(NEW[:, :4].numpy())
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled[:, :4].numpy(), expected, atol=2e-2, rtol=2e-3)


def test_standard_scaling_is_exact_where_float32_can_hold_the_values() -> None:
    bags = [bag[:, :4] - 1000 for bag in BAGS]
    scaled = FeatureScaler("standard").fit(bags)(bags[2])
    expected = StandardScaler().fit(ROWS[:, :4] - 1000).transform(bags[2].numpy())
    np.testing.assert_allclose(scaled.numpy(), expected, atol=1e-5)


def test_l2_gives_patches_unit_length_and_leaves_zero_patches_alone() -> None:
    bag = torch.cat([NEW, torch.zeros(1, 5)])
    np.testing.assert_allclose(FeatureScaler("l2")(bag).numpy(), normalize(bag.numpy()), atol=1e-6)


@pytest.mark.parametrize("mode", ["standard", "minmax"])
def test_a_constant_column_becomes_zero(mode: str) -> None:
    scaled = FeatureScaler(mode).fit([torch.tensor([[1.0, 5.0], [3.0, 5.0]])])(torch.tensor([[2.0, 5.0]]))
    assert scaled.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_that_no_binary_number_meets_is_still_constant(dtype: torch.dtype) -> None:
    bags = [torch.full((n, 1), 0.1, dtype=dtype) for n in (7, 1013, 3)]
    scaled = FeatureScaler("standard").fit(bags)(torch.tensor([[0.1], [0.2]]))
    np.testing.assert_allclose(scaled.numpy(), [[0.0], [0.1]], atol=1e-7)


@pytest.mark.parametrize("mode", ["standard", "minmax"])
def test_the_order_and_size_of_bags_do_not_matter(mode: str) -> None:
    whole, parts = FeatureScaler(mode).fit([torch.cat(BAGS)]), FeatureScaler(mode).fit(BAGS[::-1])
    np.testing.assert_allclose(whole(NEW).numpy(), parts(NEW).numpy(), rtol=1e-6)


@pytest.mark.parametrize("mode", ["standard", "minmax"])
def test_test_and_validation_slides_never_influence_the_scaling_of_a_trial(cohort_folder: Path, mode: str) -> None:
    """The trial's own data, with every slide outside the training side replaced by something absurd."""
    (cohort_folder / "mine.yaml").write_text(
        f"name: mine\nlabels: labels.csv\nfeatures: features\nfeature_scaling: {mode}\n"
    )
    cohort = folder_cohort(cohort_folder / "mine.yaml")
    split = make_split(cohort.slides, cohort.tasks, "kfold")
    train = split.slides(cohort.slides, 0, "train")["slide_id"].tolist()
    trial = replace(TRIAL, fold=0, feature_scaling=mode, tasks=cohort.tasks)

    def scaled(cohort: Cohort) -> dict[str, list[torch.Tensor]]:
        store = FeatureStore(cohort.load, device=torch.device("cpu"), device_bytes=0, host_bytes=0)
        data = fold_data(cohort.slides, split, [trial], store, {})
        return {
            role: [data.scaler(bag.features) for _, bag in store.in_order(side.slide_ids)]
            for role, side in data.sides.items()
        }

    honest = scaled(cohort)
    for slide in set(cohort.slides["slide_id"]) - set(train):
        write_h5(cohort_folder / "features" / f"{slide}.h5", np.full((2, WIDTH), 1e6, dtype=np.float32))
    disturbed = scaled(folder_cohort(cohort_folder / "mine.yaml"))
    assert all(torch.equal(a, b) for a, b in zip(honest["train"], disturbed["train"], strict=True))
    rows = np.concatenate([cohort.load(slide).features.numpy() for slide in train]).astype(np.float64)
    oracle = (StandardScaler() if mode == "standard" else MinMaxScaler((-1, 1))).fit(rows)
    expected = oracle.transform(np.full((2, WIDTH), 1e6))
    assert disturbed["test"]
    assert all(np.allclose(bag.numpy(), expected, rtol=1e-4) for bag in disturbed["test"] + disturbed["val"])


def test_none_changes_nothing_but_the_type() -> None:
    assert torch.equal(FeatureScaler("none").fit(BAGS)(NEW.half()), NEW.half().float())


def test_an_unfitted_or_unknown_scaler_is_refused() -> None:
    with pytest.raises(DataError, match="before it was fitted"):
        FeatureScaler("standard")(NEW)
    for mode in ("standard", "minmax"):
        with pytest.raises(DataError, match="given no training slides"):
            FeatureScaler(mode).fit([])
    with pytest.raises(UsageError, match="Did you mean 'minmax'"):
        FeatureScaler("min-max")
