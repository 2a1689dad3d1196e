"""Tables of a run: labels of every kind as one number each, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from milbench.endpoints.endpoint import Endpoint
from milbench.store.run_tables import labels_from

ENDPOINTS = {
    "m": Endpoint("multiclass", ("a", "b", "c")).as_dict(),
    "t": Endpoint("survival").as_dict(),
    "r": Endpoint("regression").as_dict(),
}


def table(task: str, *cells: str) -> str:
    return f"slide_id,patient_id,{task}\n" + "".join(f"s{n},p{n},{cell}\n" for n, cell in enumerate(cells))


@pytest.mark.parametrize(
    ("task", "cells"),
    [("b", ("0.0", "1.0", "")), ("m", ("2.0", "0", "")), ("t", ("-3.5", "4", "")), ("r", ("-1e-3", "7", ""))],
)
def test_labels_of_every_kind_are_read(task: str, cells: tuple[str, ...]) -> None:
    expected = [float(cell) if cell else np.nan for cell in cells]
    np.testing.assert_array_equal(labels_from(table(task, *cells), endpoints=ENDPOINTS)[task], expected)


@pytest.mark.parametrize(
    ("task", "cell", "message"),
    [
        ("b", "2", "expected 0, 1 or nothing"),
        ("m", "3", "the label '3' of the multiclass task m; expected a whole number below 3"),
        ("m", "0.5", "whole number"),
        ("m", "-1", "whole number"),
        ("t", "0", "the survival task t; expected days, negative if censored"),
        ("t", "inf", "days"),
        ("r", "x", "the regression task r; expected a number"),
        ("r", "1e999", "a number"),
    ],
)
def test_a_cell_that_is_no_label_of_its_kind_is_damage(task: str, cell: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels_from(table(task, cell), endpoints=ENDPOINTS)


def test_a_run_without_kinds_holds_binary_labels_alone() -> None:
    with pytest.raises(ValueError, match="expected 0, 1 or nothing"):
        labels_from(table("m", "2"))
