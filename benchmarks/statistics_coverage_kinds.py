"""How often the crossed bootstrap is wrong for c, Pearson's r, R2 and quadratic kappa, on scores whose truth is known.

Two models, trained on F folds, are judged on one test set, as in `statistics_coverage.py`: model m of fold f gives patient i

    s_mfi = (mu_m + t_mf) x_i + c_i + g_mi + e_mfi

where x is what the label depends on, and c, g, e and t are the patient's difficulty, the model's own view, the fold's
noise and the fold's skill, all Gaussian; var(c + g + e) = 1. What the patient's x means depends on the kind:

    survival    x Gaussian; the event comes at rate exp(x), censoring at a rate that censors the share wanted; risk = s
    regression  x = the standardised label, Gaussian or log-normal; value = a s with the best a, mu / (mu^2 + 1)
    ordinal     x = the grade less its mean, sizes of grades fixed; expected grade = the mean + a s, a as above by var(x)

The truth is the metric in an endless test set, in expectation over trainings: over t by Gauss-Hermite quadrature, and for c
over ten million pairs of patients (error below 0.0003).

    nice python benchmarks/statistics_coverage_kinds.py          # every setting, some ten minutes of one core
    python benchmarks/statistics_coverage_kinds.py --table       # the stored numbers as docs/statistics.md shows them
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, ttest_1samp

from milbench.endpoints.endpoint import Endpoint
from milbench.metrics import r2_draws
from milbench.stats.crossed import draw_counts, draw_within_classes, fold_scores, interval, mean_over_folds, p_value
from milbench.stats.grid import TaskScores

Floats = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"
SHARED, OWN, NOISE, SKILL = 0.5, 0.25, 0.25, 0.1
N_FOLDS = 5
PAIRS = 10_000_000


@dataclass(frozen=True)
class Setting:
    """One generative model; `mu` of the first model, the second has `weaker` times as much."""

    name: str
    metric: str
    n: int = 100
    mu: float = 1.0
    weaker: float = 1.0
    censored: float = 0.6
    sizes: tuple[float, ...] = ()
    skewed: bool = False


R = Setting("100 patients", "r")
SETTINGS = (
    Setting("100 patients, 60 % censored", "c"),
    Setting("100 patients, 60 % censored", "c", weaker=0.6),
    Setting("100 patients, 85 % censored", "c", censored=0.85),
    Setting("300 patients, 60 % censored", "c", n=300),
    R,
    replace(R, weaker=0.8),
    replace(R, name="30 patients", n=30),
    replace(R, name="100 patients, log-normal labels", skewed=True),
    replace(R, metric="R2"),
    replace(R, metric="R2", weaker=0.8),
    replace(R, name="30 patients", metric="R2", n=30),
    replace(R, name="100 patients, log-normal labels", metric="R2", skewed=True),
    Setting("100 patients, grades 40/30/20/10", "kappa", sizes=(0.4, 0.3, 0.2, 0.1)),
    Setting("100 patients, grades 40/30/20/10", "kappa", sizes=(0.4, 0.3, 0.2, 0.1), weaker=0.8),
    Setting("100 patients, grades 25/25/25/25", "kappa", sizes=(0.25,) * 4),
    Setting("300 patients, grades 40/30/20/10", "kappa", n=300, sizes=(0.4, 0.3, 0.2, 0.1)),
)


# ---- drawing a test set --------------------------------------------------------------------------


def made_scores(setting: Setting, x: Floats, rng: np.random.Generator) -> Floats:
    """s [2, F, n]."""
    shape = (2, N_FOLDS, len(x))
    skill = np.array([setting.mu, setting.mu * setting.weaker])[:, None] + SKILL * rng.standard_normal(shape[:2])
    scores = skill[:, :, None] * x
    scores += np.sqrt(SHARED) * rng.standard_normal(len(x))
    scores += np.sqrt(OWN) * rng.standard_normal((2, 1, len(x)))
    return np.asarray(scores + np.sqrt(NOISE) * rng.standard_normal(shape))


def shrink(setting: Setting, variance: float = 1.0) -> Floats:
    """The factor a [2] of the best linear prediction of x."""
    mu = np.array([setting.mu, setting.mu * setting.weaker])
    return np.asarray(mu * variance / (mu**2 * variance + 1))


def made_task(setting: Setting, rng: np.random.Generator) -> TaskScores:
    """One test set with the scores of both models."""
    if setting.metric == "c":
        x = rng.standard_normal(setting.n)
        times, events = followed(x, censoring_rate(setting.censored), rng)
        return _task(setting, Endpoint("survival"), times, made_scores(setting, x, rng), events)
    if setting.metric == "kappa":
        grades = np.repeat(np.arange(len(setting.sizes)), np.round(np.array(setting.sizes) * setting.n).astype(int))
        mean, variance = _moments(setting)
        expected = mean + shrink(setting, variance)[:, None, None] * made_scores(setting, grades - mean, rng)
        endpoint = Endpoint("ordinal", tuple(f"grade {place}" for place in range(len(setting.sizes))))
        return _task(setting, endpoint, grades.astype(float), expected)
    x = rng.standard_normal(setting.n)
    if setting.skewed:
        x = (np.exp(x) - np.exp(0.5)) / np.sqrt(np.exp(2) - np.exp(1))
    values = shrink(setting)[:, None, None] * made_scores(setting, x, rng)
    return _task(setting, Endpoint("regression"), x, values)


def _task(
    setting: Setting, endpoint: Endpoint, targets: Floats, scores: Floats, events: Floats | None = None
) -> TaskScores:
    n = len(targets)
    tested = np.ones((N_FOLDS, n), dtype=bool)
    seen = np.empty(0) if events is None else events
    return TaskScores(np.arange(n), targets, scores[:, :, None], tested, n, endpoint, seen)


def followed(x: Floats, rate: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Times, and whether they are of events."""
    event, censoring = rng.exponential(np.exp(-x)), rng.exponential(1 / rate, x.shape)
    return np.minimum(event, censoring), (event <= censoring).astype(float)


def censoring_rate(share: float) -> float:
    """The rate of censoring that censors `share` of the patients on average."""
    nodes, weights = _normal_nodes(60)
    return float(brentq(lambda rate: weights @ (rate / (rate + np.exp(nodes))) - share, 1e-3, 1e3))


# ---- the truth -----------------------------------------------------------------------------------


def truth(setting: Setting) -> Floats:
    """The metric of both models [2]."""
    nodes, weights = _normal_nodes(20)
    mu = np.array([[setting.mu], [setting.mu * setting.weaker]]) + SKILL * nodes  # [2, nodes]
    if setting.metric == "r":
        return np.asarray((mu / np.sqrt(mu**2 + 1)) @ weights)
    if setting.metric == "R2":
        a = shrink(setting)[:, None]
        return np.asarray((1 - (1 - a * mu) ** 2 - a**2) @ weights)
    if setting.metric == "kappa":
        return np.array([[_kappa(setting, model, one) for one in mu[model]] for model in (0, 1)]) @ weights
    return _concordance(setting)


def _kappa(setting: Setting, model: int, mu: float) -> float:
    sizes, places = np.array(setting.sizes), np.arange(len(setting.sizes))
    mean, variance = _moments(setting)
    cuts = (places[:-1] + 0.5 - mean) / shrink(setting, variance)[model]
    below = norm.cdf(cuts - mu * (places - mean)[:, None])
    table = sizes[:, None] * np.diff(below, axis=1, prepend=0, append=1)
    distance = (places[:, None] - places) ** 2
    return float(1 - (distance * table).sum() / (distance * np.outer(sizes, table.sum(axis=0))).sum())


def _concordance(setting: Setting) -> Floats:
    rng = np.random.default_rng(zlib.crc32(setting.name.encode()))
    x = rng.standard_normal((2, PAIRS))
    times, events = followed(x, censoring_rate(setting.censored), rng)
    first = (times[1] < times[0]).astype(int)  # which of the pair leaves first
    comparable = np.take_along_axis(events, first[None], axis=0)[0] == 1
    sign = np.where(first == 0, 1, -1)[comparable]
    apart, noise = (x[0] - x[1])[comparable] * sign, np.sqrt(2) * rng.standard_normal(int(comparable.sum()))
    skill = SKILL * rng.standard_normal(len(noise))
    return np.array([np.mean((mu + skill) * apart + noise > 0) for mu in (setting.mu, setting.mu * setting.weaker)])


def _moments(setting: Setting) -> tuple[float, float]:
    places, sizes = np.arange(len(setting.sizes)), np.array(setting.sizes)
    mean = float(places @ sizes)
    return mean, float((places - mean) ** 2 @ sizes)


def _normal_nodes(n: int) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes, weights / weights.sum()


# ---- judging -------------------------------------------------------------------------------------


def _r2(task: TaskScores, weights: NDArray[np.int64]) -> Floats:
    return np.asarray(r2_draws(weights.astype(float), task.targets, task.scores[:, :, 0]))


METRICS: Mapping[str, Callable[[TaskScores, NDArray[np.int64]], Floats]] = {"R2": _r2}


def judge(setting: Setting, repetitions: int, draws: int) -> dict[str, float]:
    """Shares of repetitions that reject and whose intervals hold the truth; other tests beside."""
    true = truth(setting)
    seeds = [[zlib.crc32(f"{setting.metric}, {setting.name}".encode()), number] for number in range(repetitions)]
    seen = pd.DataFrame([_once(setting, true, draws, np.random.default_rng(seed)) for seed in seeds])
    shares = {str(name): float(value) for name, value in seen.mean().items()}
    return {"true of the first": float(true[0]), "true difference": float(true[0] - true[1]), **shares}


def _once(setting: Setting, true: Floats, draws: int, rng: np.random.Generator) -> dict[str, float]:
    task, scored = made_task(setting, rng), METRICS.get(setting.metric, fold_scores)
    scores = scored(task, draw_within_classes(rng, task.stratum, draws))  # [B, 2, F]
    crossed = mean_over_folds(scores, draw_counts(rng, N_FOLDS, draws))
    difference = crossed @ [1, -1]
    (low, high), one = interval(difference), interval(crossed[:, 0])
    by_fold = scored(task, np.ones((1, setting.n), dtype=int))[0].T @ [1, -1]
    return {
        "rejected": p_value(difference) < 0.05,
        "covered": low <= true[0] - true[1] <= high,
        "width": high - low,
        "covered, one model": one.low <= true[0] <= one.high,
        "width, one model": one.high - one.low,
        "patients only": p_value(scores.mean(axis=2) @ [1, -1]) < 0.05,
        "paired t over folds": ttest_1samp(by_fold, 0).pvalue < 0.05,
    }


HEAD = (
    "metric, test set", "true, first model", "true difference", "equal models rejected, or a true difference found",
    "interval holds the difference", "interval holds one model's", "width of one model's", "paired t rejects",
)  # fmt: skip


def as_markdown(rows: pd.DataFrame) -> str:
    """The table of the docs, from rows of the results file."""
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for row in rows.to_dict("records"):
        shares = [
            f"{100 * row[name]:.1f}" for name in ("rejected", "covered", "covered, one model", "paired t over folds")
        ]
        cells = [
            f"{row['metric']}, {row['name']}", f"{row['true of the first']:.3f}", f"{row['true difference']:.3f}",
            *shares[:3], f"{row['width, one model']:.2f}", shares[3],
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print every setting and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--metrics", nargs="+", default=["c", "r", "R2", "kappa"])
    parser.add_argument("--out", type=Path, default=RESULTS / "statistics_coverage_kinds.csv")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(as_markdown(pd.read_csv(options.out)), end="")
        return
    rows = []
    for setting in SETTINGS:
        if setting.metric in options.metrics:
            shares = judge(setting, options.repetitions, options.draws)
            sizes = "/".join(f"{size:g}" for size in setting.sizes)
            rows.append({**asdict(setting), "sizes": sizes, "repetitions": options.repetitions,
                         "draws": options.draws, **shares})  # fmt: skip
            print(setting.metric, setting.name, {name: round(value, 4) for name, value in shares.items()}, flush=True)
            pd.DataFrame(rows).to_csv(options.out, index=False, lineterminator="\n", float_format="%.4f")


if __name__ == "__main__":
    main()
