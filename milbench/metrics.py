"""Numbers from scores: arrays [S, T] in, one number a task out.

The trainer's selection and the report share this one AUROC. NumPy only, no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]


def auroc(targets: Floats, scores: Floats) -> float:
    """Area under the ROC curve of one task; NaN where the known targets hold one class only.

    Parameters
    ----------
    targets : [S] in {0, 1, NaN}; NaN marks an unknown label and is left out.
    scores : [S], higher means more likely positive; ties count one half.
    """
    known = ~np.isnan(targets)
    positive = targets[known] == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    ranks = rankdata(scores[known])
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def auroc_per_task(targets: Floats, scores: Floats) -> Floats:
    """AUROC of every task, [T]; `targets` and `scores` are [S, T]."""
    return np.array([auroc(t, s) for t, s in zip(targets.T, scores.T, strict=True)])


def mean_of_defined(values: Floats) -> float:
    """Mean without the NaN entries; NaN if there is nothing else. Never a silent 0.5."""
    defined = np.asarray(values)[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
