"""Strata: what a drawn split spreads evenly over its sides: classes, events and censored patients, ranges of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.endpoints.endpoint import ALL_BINARY, WITH_CLASSES, Endpoint

Strata = NDArray[np.bool_]

QUARTILES = (0.25, 0.5, 0.75)


def patient_strata(
    slides: pd.DataFrame, tasks: Sequence[str], endpoints: Mapping[str, Endpoint] = ALL_BINARY
) -> Strata:
    """Which strata each patient is in, patients in file order, [P, S].

    A patient is in a stratum if any slide is. Binary tasks have two: positive and negative, so that unknown labels and
    common ones are balanced too. Others have one per class; events and censored; quarters of the patients' mean scores.
    """
    of_patients = slides.groupby("patient_id", sort=False)
    binary = of_patients[[task for task in tasks if task not in endpoints]]
    others = [_strata(slides[task], slides["patient_id"], endpoints[task]) for task in tasks if task in endpoints]
    return np.column_stack([binary.max().to_numpy() == 1, binary.min().to_numpy() == 0, *others])


def _strata(labels: pd.Series, patients: pd.Series, endpoint: Endpoint) -> Strata:
    """Strata of one task that is not binary, [P, s]."""
    if endpoint.kind == "regression":
        return _quarters(labels.groupby(patients, sort=False).mean().to_numpy(dtype=float))
    classes = range(len(endpoint.classes))
    slides = [labels == place for place in classes] if endpoint.kind in WITH_CLASSES else [labels > 0, labels < 0]
    return np.column_stack([each.groupby(patients, sort=False).any().to_numpy() for each in slides])


def _quarters(scores: NDArray[np.float64]) -> Strata:
    """Quarter of each patient's score among the known ones, [P, 4]; ties stay together."""
    known = ~np.isnan(scores)
    if not known.any():
        return np.zeros((len(scores), len(QUARTILES) + 1), dtype=bool)
    quarter = np.searchsorted(np.quantile(scores[known], QUARTILES), scores, side="left")
    quarters: Strata = known[:, None] & (quarter[:, None] == np.arange(len(QUARTILES) + 1))
    return quarters
