"""How often the intervals of a cohort's mean and of the mean over cohorts hold a known difference.

As `statistics_coverage.py`, for several tasks that share their patients (a third of the model's own view of a patient
is the same in all tasks) and several cohorts, between which the true difference of the models varies by `between`.
Three claims are judged: the mean over the tasks of one cohort; the mean over these cohorts (`fixed`); the mean over
cohorts of which these are a sample (`drawn`), beside the sign-flip.

    python benchmarks/statistics_coverage_across.py
    python benchmarks/statistics_coverage_across.py --table    # the stored numbers as docs/statistics.md shows them
"""

from __future__ import annotations

import argparse
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm
from statistics_coverage import BASE, RESULTS

from milbench.stats.across import cohort_draws, overall_draws, sign_flip_p
from milbench.stats.crossed import fold_scores, interval, p_value
from milbench.stats.grid import TaskScores


@dataclass(frozen=True)
class Study:
    """`between` is the deviation of the true difference over cohorts, in AUROC."""

    n_cohorts: int = 5
    between: float = 0.0
    n_tasks: int = 3
    n: int = 100

    def tasks(self, rng: np.random.Generator, difference: float) -> list[TaskScores]:
        """Scores of one cohort whose two algorithms differ by `difference`."""
        mu = norm.ppf([BASE.auroc, BASE.auroc - difference]) * BASE.spread
        seen = np.sqrt(BASE.own / 3) * rng.standard_normal((2, 1, self.n))  # by a model, in all tasks
        return [self._task(rng, mu, seen) for _ in range(self.n_tasks)]

    def _task(self, rng: np.random.Generator, mu: np.ndarray, seen: np.ndarray) -> TaskScores:
        targets = (rng.permutation(self.n) < BASE.n_positive).astype(float)
        shape = (2, BASE.n_folds, self.n)
        skill = mu[:, None] + BASE.skill * rng.standard_normal(shape[:2])
        scores = skill[:, :, None] * targets + np.sqrt(BASE.shared) * rng.standard_normal(self.n) + seen
        scores += np.sqrt(BASE.own * 2 / 3) * rng.standard_normal((2, 1, self.n))
        scores += np.sqrt(BASE.noise) * rng.standard_normal(shape)
        tested = np.ones(shape[1:], dtype=bool)
        return TaskScores(np.arange(self.n), targets, expit(scores)[:, :, None], tested, self.n)


STUDIES = (Study(), Study(between=0.03), Study(between=0.06), Study(n_cohorts=10, between=0.06))


def once(study: Study, difference: float, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Which claims reject "no difference" and which intervals hold the truth, in one simulated study."""
    truths = difference + study.between * rng.standard_normal(study.n_cohorts)
    cohorts = [study.tasks(rng, truth) for truth in truths]
    stacked = np.array([cohort_draws(tasks, rng, draws) for tasks in cohorts])  # [D, B, 2]
    one = np.ones((1, study.n), dtype=int)
    seen = np.array([np.mean([fold_scores(t, one).mean(axis=2)[0] @ [1, -1] for t in tasks]) for tasks in cohorts])
    claims = {
        "cohort": (stacked[0] @ [1, -1], truths[0]),
        "fixed": (stacked.mean(axis=0) @ [1, -1], truths.mean()),
        "drawn": (overall_draws(stacked, rng) @ [1, -1], difference),
    }
    found = {"sign-flip rejects": sign_flip_p(seen) < 0.05}
    for name, (differences, truth) in claims.items():
        low, high = interval(differences)
        found |= {f"{name} rejects": p_value(differences) < 0.05, f"{name} covers": low <= truth <= high}
    return found


HEAD = (
    "cohorts, between", "true difference", "cohort's interval holds", "these cohorts (`low_fixed`)",
    "cohorts as a sample (`low`)", "`low` rejects", "sign-flip rejects",
)  # fmt: skip


def as_markdown(rows: pd.DataFrame) -> str:
    """The table of the docs, from rows of the results file."""
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for row in rows.to_dict("records"):
        shares = ("cohort covers", "fixed covers", "drawn covers", "drawn rejects", "sign-flip rejects")
        cells = [f"{row['n_cohorts']}, {row['between']:.2f}", f"{row['difference']:.2f}"]
        lines.append(f"| {' | '.join([*cells, *(f'{100 * row[share]:.1f}' for share in shares)])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print every study and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--differences", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--out", type=Path, default=RESULTS / "statistics_coverage_across.csv")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(as_markdown(pd.read_csv(options.out)), end="")
        return
    rows = []
    for study in STUDIES:
        for difference in options.differences:
            key = zlib.crc32(repr(study).encode())
            seen = [once(study, difference, options.draws, np.random.default_rng([key, repetition]))
                    for repetition in range(options.repetitions)]  # fmt: skip
            shares = pd.DataFrame(seen).mean().to_dict()
            rows.append({**asdict(study), "difference": difference, "repetitions": options.repetitions,
                         "draws": options.draws, **shares})  # fmt: skip
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(options.out, index=False, lineterminator="\n", float_format="%.4f")


if __name__ == "__main__":
    main()
