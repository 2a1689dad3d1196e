"""Metrics of binary tasks: arrays [S] or [S, T] in, one number per task out.

The trainer's selection and the report share this one AUROC. NumPy only: every worker imports this before its first trial.
In every metric a NaN target marks an unknown label and is left out. What has no value without both classes is NaN
where one is missing, never a silent 0 or 0.5. A slide is called positive where its score reaches the threshold.
"""

from __future__ import annotations

from math import isnan

import numpy as np

from milbench.metrics.weights import Flags, Floats

N_BINS = 10
"""Bins of the expected calibration error: equally wide over [0, 1], each closed below, the last also above."""


def auroc(targets: Floats, scores: Floats, weights: Floats | None = None) -> float:
    r"""Area under the ROC curve of one task; NaN where the known targets hold one class only, or a score is NaN.

    .. math:: \mathrm{AUROC} = \frac{1}{n_+ n_-} \sum_{i: y_i = 1} \sum_{j: y_j = 0} \left( [s_i > s_j] + \tfrac{1}{2} [s_i = s_j] \right)

    Parameters
    ----------
    targets : [S] in {0, 1, NaN}; NaN marks an unknown label and is left out.
    scores : [S], higher means more likely positive; ties count one half.
    weights : [S], how often each slide counts; once by default.
    """
    if weights is not None:
        return _weighted_auroc(*_known(targets, scores), weights[~np.isnan(targets)])
    positive, scores = _known(targets, scores)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    if np.isnan(scores).any():
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # equal scores share the mean of their ranks
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _weighted_auroc(positive: Flags, scores: Floats, weights: Floats) -> float:
    if np.isnan(scores).any():
        return float("nan")
    distinct, place = np.unique(scores, return_inverse=True)
    positives = np.bincount(place, weights * positive, minlength=len(distinct))
    negatives = np.bincount(place, weights * ~positive, minlength=len(distinct))
    won = (positives * (np.cumsum(negatives) - negatives / 2)).sum()
    pairs = positives.sum() * negatives.sum()
    return float(won / pairs) if pairs > 0 else float("nan")


def auroc_per_task(targets: Floats, scores: Floats) -> Floats:
    """AUROC of every task, [T]; `targets` and `scores` are [S, T]."""
    return np.array([auroc(t, s) for t, s in zip(targets.T, scores.T, strict=True)])


def mean_of_defined(values: Floats) -> float:
    """Mean without the NaN entries; NaN if there is nothing else. Never a silent 0.5."""
    defined = np.asarray(values)[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


# ---- ranking -------------------------------------------------------------------------------------


def average_precision(targets: Floats, scores: Floats) -> float:
    """Mean precision over the positives, in steps of distinct scores (no interpolation); NaN for one class."""
    positive, scores = _known(targets, scores)
    if _one_class(positive):
        return float("nan")
    _, true, called = _roc_counts(positive, scores)
    gained = np.diff(true, prepend=0)
    return float((gained * true / called).sum() / true[-1])


def youden_threshold(targets: Floats, scores: Floats) -> float:
    """The score at which sensitivity + specificity is largest, the highest of equals; NaN for one class.

    Choose it on validation rows: chosen on the rows it is judged on, it flatters.
    """
    positive, scores = _known(targets, scores)
    if _one_class(positive):
        return float("nan")
    thresholds, true, called = _roc_counts(positive, scores)
    n_positive, n_negative = int(true[-1]), len(positive) - int(true[-1])
    # n_positive * n_negative * J, in whole numbers: rounding must not choose between equals
    return float(thresholds[np.argmax(true * n_negative - (called - true) * n_positive)])


def threshold_at_specificity(targets: Floats, scores: Floats, wanted: float) -> float:
    """The lowest threshold that leaves at least the share `wanted` of the negatives below it; NaN for one class.

    Infinite where only a threshold above every score does.
    """
    positive, scores = _known(targets, scores)
    if _one_class(positive):
        return float("nan")
    negatives = np.sort(scores[~positive])
    candidates = np.append(np.unique(scores), np.inf)
    below = np.searchsorted(negatives, candidates, side="left") / len(negatives)
    return float(candidates[np.argmax(below >= wanted)])


def threshold_at_sensitivity(targets: Floats, scores: Floats, wanted: float) -> float:
    """The highest threshold that at least the share `wanted` of the positives reaches; NaN for one class."""
    positive, scores = _known(targets, scores)
    if _one_class(positive):
        return float("nan")
    positives = np.sort(scores[positive])
    candidates = np.unique(scores)
    reached = 1 - np.searchsorted(positives, candidates, side="left") / len(positives)
    return float(candidates[np.flatnonzero(reached >= wanted - 1e-12)[-1]])


def _roc_counts(positive: Flags, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Distinct scores from the highest down; positives, and slides, that reach each."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # the last slide of every run of ties
    true: Floats = np.cumsum(positive[order])[last].astype(float)
    return scores[order][last], true, (last + 1).astype(float)


# ---- at a threshold ------------------------------------------------------------------------------


def sensitivity(targets: Floats, scores: Floats, threshold: float) -> float:
    """Share of the positives that reach `threshold`; NaN without positives or threshold."""
    positive, scores = _known(targets, scores)
    return _share(scores >= threshold, positive, threshold)


def specificity(targets: Floats, scores: Floats, threshold: float) -> float:
    """Share of the negatives below `threshold`; NaN without negatives or threshold."""
    positive, scores = _known(targets, scores)
    return _share(scores < threshold, ~positive, threshold)


def balanced_accuracy(targets: Floats, scores: Floats, threshold: float) -> float:
    """Mean of sensitivity and specificity; NaN for one class."""
    return (sensitivity(targets, scores, threshold) + specificity(targets, scores, threshold)) / 2


def f1(targets: Floats, scores: Floats, threshold: float) -> float:
    """Harmonic mean of precision and sensitivity; 0 where no positive is found, NaN for one class."""
    positive, scores = _known(targets, scores)
    if _one_class(positive) or isnan(threshold):
        return float("nan")
    called = scores >= threshold
    return float(2 * np.count_nonzero(called & positive) / (np.count_nonzero(called) + np.count_nonzero(positive)))


def _share(flags: Flags, among: Flags, threshold: float) -> float:
    n = np.count_nonzero(among)
    return float(np.count_nonzero(flags & among) / n) if n and not isnan(threshold) else float("nan")


# ---- of probabilities ----------------------------------------------------------------------------


def brier(targets: Floats, probabilities: Floats) -> float:
    """Mean squared distance of probability and label; defined for one class, NaN without a known label."""
    positive, probabilities = _known(targets, probabilities)
    return float(np.mean((probabilities - positive) ** 2)) if len(positive) else float("nan")


def expected_calibration_error(targets: Floats, probabilities: Floats) -> float:
    """Distance of mean probability and share of positives in a bin, mean over `N_BINS` bins weighted by their slides.

    Defined for one class; NaN without a known label.
    """
    positive, probabilities = _known(targets, probabilities)
    if not len(positive):
        return float("nan")
    bins = np.minimum((probabilities * N_BINS).astype(int), N_BINS - 1)
    excess = np.bincount(bins, weights=probabilities - positive)  # of a bin: slides * (confidence - share)
    return float(np.abs(excess).sum() / len(positive))


def _known(targets: Floats, scores: Floats) -> tuple[Flags, Floats]:
    """Whether positive, and score, of the slides with a known label."""
    unknown = np.isnan(targets)
    if unknown.any() or len(targets) != len(scores):  # such a mask is refused
        targets, scores = targets[~unknown], scores[~unknown]
    return targets == 1, scores


def _one_class(positive: Flags) -> bool:
    return bool(positive.all() or not positive.any())
