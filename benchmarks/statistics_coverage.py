"""How often the crossed bootstrap is wrong on scores whose truth is known: type I error, coverage, power.

Two models, trained on F folds, are judged on one test set. Model m of fold f gives patient i the score

    (mu_m + t_mf) y_i + c_i + g_mi + e_mfi

with the patient's difficulty c shared by both models, the model's own view g of the patient shared by its folds,
the fold's noise e and the fold's skill t, all Gaussian. In expectation over patients and trainings the AUROC is
Phi(mu_m / sqrt(2 (var c + var g + var e) + var t)), so the difference of the two algorithms is known.

    python benchmarks/statistics_coverage.py                                    # every setting, some ten minutes
    python benchmarks/statistics_coverage.py --settings "as in the requirement" --repetitions 2000 --draws 10000 \
        --out benchmarks/results/statistics_coverage_requirement.csv
    python benchmarks/statistics_coverage.py --tables                           # the stored numbers as docs/statistics.md shows them
"""

from __future__ import annotations

import argparse
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm, ttest_1samp

from milbench.stats.crossed import draw_counts, draw_within_classes, fold_scores, interval, mean_over_folds, p_value
from milbench.stats.delong import delong, delong_p
from milbench.stats.ensemble import ensemble
from milbench.stats.grid import TaskScores

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Setting:
    """One generative model; `shared`, `own` and `noise` are variances of c, g and e, `skill` the deviation of t."""

    name: str = "as in the requirement"
    n: int = 100
    n_positive: int = 30
    n_folds: int = 5
    shared: float = 0.5
    own: float = 0.25
    noise: float = 0.25
    skill: float = 0.1
    auroc: float = 0.75

    @property
    def spread(self) -> float:
        """Deviation of the difference of a positive's and a negative's score."""
        return float(np.sqrt(2 * (self.shared + self.own + self.noise) + self.skill**2))

    def scores(self, rng: np.random.Generator, difference: float) -> TaskScores:
        """Scores of two algorithms whose AUROCs differ by `difference`."""
        targets = (np.arange(self.n) < self.n_positive).astype(float)
        mu = norm.ppf([self.auroc, self.auroc - difference]) * self.spread
        shape = (2, self.n_folds, self.n)
        skill = mu[:, None] + self.skill * rng.standard_normal(shape[:2])
        scores = skill[:, :, None] * targets
        scores += np.sqrt(self.shared) * rng.standard_normal(self.n)
        scores += np.sqrt(self.own) * rng.standard_normal((2, 1, self.n))
        scores += np.sqrt(self.noise) * rng.standard_normal(shape)
        tested = np.ones((self.n_folds, self.n), dtype=bool)
        return TaskScores(np.arange(self.n), targets, expit(scores)[:, :, None, :], tested, self.n)


BASE = Setting()
SETTINGS = (
    BASE,
    replace(BASE, name="small test set", n=60, n_positive=12),
    replace(BASE, name="large test set", n=300, n_positive=90),
    replace(BASE, name="weak own view", own=0.05, noise=0.45),
    replace(BASE, name="strong own view", own=0.45, noise=0.05),
    replace(BASE, name="no skill noise", skill=0.0),
    replace(BASE, name="strong skill noise", skill=0.3),
    replace(BASE, name="three folds", n_folds=3),
    replace(BASE, name="ten folds", n_folds=10),
    replace(BASE, name="high AUROC", auroc=0.9),
)


def judge(setting: Setting, difference: float, repetitions: int, draws: int) -> dict[str, float]:
    """Share of repetitions that reject, and whose interval holds the truth; other tests beside."""
    seen = [
        _once(setting, difference, draws, np.random.default_rng([zlib.crc32(setting.name.encode()), repetition]))
        for repetition in range(repetitions)
    ]
    return {str(name): float(value) for name, value in pd.DataFrame(seen).mean().items()}


def _once(setting: Setting, difference: float, draws: int, rng: np.random.Generator) -> dict[str, float]:
    task = setting.scores(rng, difference)
    aurocs = fold_scores(task, draw_within_classes(rng, task.patient_label, draws))  # [B, 2, F]
    crossed = mean_over_folds(aurocs, draw_counts(rng, setting.n_folds, draws)) @ [1, -1]
    patients = aurocs.mean(axis=2) @ [1, -1]
    low, high = interval(crossed)
    by_fold = fold_scores(task, np.ones((1, setting.n), dtype=int))[0].T @ [1, -1]
    return {
        "rejected": p_value(crossed) < 0.05,
        "covered": low <= difference <= high,
        "width": high - low,
        "patients only": p_value(patients) < 0.05,
        "DeLong, ensemble": delong_p(delong(*ensemble(task)), 0, 1) < 0.05,
        "paired t over folds": ttest_1samp(by_fold, 0).pvalue < 0.05,
    }


WORDS = {
    "small test set": "60 patients, 12 positive", "large test set": "300 patients, 90 positive",
    "weak own view": "own view 5 % of the variance, fold noise 45 %", "strong own view": "own view 45 %, fold noise 5 %",
    "no skill noise": "folds equally skilled", "strong skill noise": "fold skill deviates by 0.3",
    "high AUROC": "0.90 instead of 0.75",
}  # fmt: skip
"""What a setting is, as the docs say it."""


def requirement_table(rows: pd.DataFrame) -> str:
    """The docs' table of the first setting: how often each test rejects, and how often the interval holds the truth."""
    tests = ("rejected", "patients only", "DeLong, ensemble", "paired t over folds")
    lines = [
        "| % | crossed | patients alone | DeLong, ensemble | paired t over folds |",
        "|---" * (1 + len(tests)) + "|",
    ]
    for row in rows.to_dict("records"):
        difference = row["difference"]
        name = f"true difference {difference:.2f}, found" if difference else "two equal models, rejected (nominal 5)"
        crossed, *others = (f"{100 * row[test]:.1f}" for test in tests)
        lines.append(f"| {name} | **{crossed}** | {' | '.join(others)} |")
    covered = " / ".join(f"{100 * share:.1f}" for share in rows["covered"])
    return "\n".join(
        [*lines, f"| its interval holds the difference 0 / 0.05 / 0.10 (nominal 95) | **{covered}** | | | |\n"]
    )


def settings_table(rows: pd.DataFrame) -> str:
    """The docs' table of every setting."""
    head = "| setting | equal models rejected | interval holds 0 / 0.05 / 0.10 | 0.05 / 0.10 found | paired t rejects equal models |"
    lines = [head, "|---" * 5 + "|"]
    for name, each in rows.groupby("name", sort=False):
        shown = f"{name} ({WORDS[name]})" if name in WORDS else name
        rejected, *found = (f"{100 * share:.1f}" for share in each["rejected"])
        covered = " / ".join(f"{100 * share:.1f}" for share in each["covered"])
        by_folds = f"{100 * each['paired t over folds'].iloc[0]:.1f}"
        lines.append(f"| {shown} | {rejected} | {covered} | {' / '.join(found)} | {by_folds} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print every setting and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--differences", type=float, nargs="+", default=[0.0, 0.05, 0.1])
    parser.add_argument("--settings", nargs="+", default=[setting.name for setting in SETTINGS])
    parser.add_argument("--out", type=Path, default=RESULTS / "statistics_coverage.csv")
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    if options.tables:
        print(requirement_table(pd.read_csv(RESULTS / "statistics_coverage_requirement.csv")))
        print(settings_table(pd.read_csv(options.out)), end="")
        return
    rows = []
    for setting in SETTINGS:
        if setting.name not in options.settings:
            continue
        for difference in options.differences:
            shares = judge(setting, difference, options.repetitions, options.draws)
            rows.append({**asdict(setting), "difference": difference, "repetitions": options.repetitions,
                         "draws": options.draws, **shares})  # fmt: skip
            print({name: value for name, value in rows[-1].items() if name in ("name", "difference") or name in shares},
                  flush=True)  # fmt: skip
            pd.DataFrame(rows).to_csv(options.out, index=False, lineterminator="\n", float_format="%.4f")


if __name__ == "__main__":
    main()
