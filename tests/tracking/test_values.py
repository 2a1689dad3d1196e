"""Names that MLflow takes."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from milbench.tracking.values import accepted_name, features_of, true_names


@given(st.lists(st.text(), unique=True))
def test_every_name_gets_another_one_that_mlflow_takes(names: list[str]) -> None:
    accepted = [f"test/auroc {accepted_name(name)}" for name in names]
    assert len(set(accepted)) == len(names)
    for name in accepted:
        assert posixpath.normpath(name) == name
        assert len(name) <= 250
        assert all(one.isalnum() or one in "_-. :/" for one in name)


@pytest.mark.parametrize("name", ["HER2 [IHC]", "ER+/HER2-", "a//b", "/", "p53 (>50 %)", "a=b", "TP53", "ü"])
def test_mlflow_itself_takes_the_metric_of_any_task(name: str) -> None:
    _validate_metric_name(f"test/auroc {accepted_name(name)}")


@pytest.mark.parametrize("name", ["TP53", "has_0", "MSI/MMR", "HER2 IHC", "1:2", "Größe"])
def test_an_ordinary_name_stays(name: str) -> None:
    assert accepted_name(name) == name
    assert true_names([name]) == {}


def test_a_name_that_looks_like_a_mapped_one_is_mapped_too() -> None:
    mapped = accepted_name("ER+")
    assert accepted_name(mapped) != mapped
    assert true_names(["ER+", mapped]) == {
        f"milbench.task.{mapped}": "ER+",
        f"milbench.task.{accepted_name(mapped)}": mapped,
    }


def test_how_features_were_made_is_told_as_parameters_where_the_run_keeps_it() -> None:
    told = features_of({"features": {"encoder": {"uni": 3}, "mpp": {"0.5": 3}, "patch_size": {"": 3}}})
    assert told["features.encoder"] == "uni"
    assert told["features.magnification"] == "0.5 µm per pixel"
    assert told["features.patch_size"] == "not stored"
    assert features_of({}) == {}
