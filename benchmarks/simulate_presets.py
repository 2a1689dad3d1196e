"""How models rank on the presets of `milbench data simulate`, over several data seeds, beside the oracle.

    python benchmarks/simulate_presets.py --variants witness diffuse --seeds 5
    python benchmarks/simulate_presets.py --tables

Each variant's scores go to benchmarks/results/simulate_<variant>.csv as they come; seeds that are there are not run again.
The tables go to benchmarks/results/simulate.md, from which docs/simulate.md takes its numbers.
One run is fold 0 of `kfold` (a fifth of the patients for testing); an interval is Student's t over data seeds.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from scipy.stats import t as student

from milbench.metrics import auroc, mean_of_defined
from milbench.runs.benchmark import run_benchmark
from milbench.runs.config import make_config
from milbench.runs.preparation import Benchmark, prepare
from milbench.runs.progress import Progress
from milbench.simulate.design import make_design
from milbench.simulate.write import Simulation, simulate, write_cohort
from milbench.stats.metric import AUROC
from milbench.stats.scores import score_table

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TABLES = RESULTS / "simulate.md"
RARE = 0.31
"""Prevalence below which a task counts as rare: five of UCEC's ten genes."""

FEW = 5
"""Seeds that a hasty reader would stop at."""

POOLINGS = ("mean_pooling", "max_pooling", "amil")


@dataclass(frozen=True)
class Variant:
    """A preset with settings, the models that run on it, and the pairs (better, worse) that it is about.

    Attributes
    ----------
    beside : the variant on the same cohorts whose models stand in the same table.
    """

    preset: str
    models: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, object], ...] = ()
    labels: bool = False
    beside: str = ""


MULTI = ("amil", "mmoe_amil")
MULTI_PAIRS = (("mmoe_amil", "amil"),)
NULL = (*POOLINGS, "mmoe_amil")
VARIANTS = {
    "witness": Variant("witness", POOLINGS, (("amil", "mean_pooling"), ("max_pooling", "mean_pooling"))),
    "diffuse": Variant("diffuse", POOLINGS, (("mean_pooling", "amil"), ("mean_pooling", "max_pooling"))),
    "shared": Variant("shared", MULTI, MULTI_PAIRS),
    "shared-off": Variant("shared", MULTI, MULTI_PAIRS, (("sharing", 0.0), ("burden", 0.0))),
    "shared-ucec": Variant("shared", MULTI, MULTI_PAIRS, (("slides", 0),), labels=True),
    "neighbourhood": Variant(
        "neighbourhood", ("grid_conv", "amil", "m4"), (("grid_conv", "amil"), ("m4", "amil"), ("grid_conv", "m4"))
    ),
    "neighbourhood-transmil": Variant(  # by itself, as it takes twice the others' time
        "neighbourhood", ("transmil",), (("transmil", "amil"),), beside="neighbourhood"
    ),
    "null": Variant("null", NULL),
    "null-sites": Variant("null", NULL, (), (("site_sd", 1.0),)),
    "tcga-like": Variant("tcga-like", ("mean_pooling", "amil", "mmoe_amil"), (("mmoe_amil", "amil"),)),
}  # fmt: skip


def main() -> None:
    """Measure what is missing, then write and print the tables of all variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=5, help="data seeds 0 to N - 1")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--labels", type=Path, help="TCGA-UCEC's label table, for shared-ucec")
    parser.add_argument("--tables", action="store_true", help="write the tables of what was measured, run nothing")
    options = parser.parse_args()
    for name in options.variants:
        for seed in range(0 if options.tables else options.seeds):
            measure(name, seed, options.labels, options.workers)
    text = tables()
    TABLES.write_text(text, encoding="utf-8")
    print(text, end="")


def measure(name: str, seed: int, labels: Path | None, workers: int) -> None:
    """One data seed of a variant, appended to its file unless it is there."""
    path = path_of(name)
    if path.exists() and seed in set(pd.read_csv(path)["seed"]):
        return
    variant, started = VARIANTS[name], time.perf_counter()
    if variant.labels and labels is None:
        print(f"{name}: needs --labels")
        return
    simulation = simulate(make_design(variant.preset, variant.settings), seed, labels if variant.labels else None)
    folder = Path(tempfile.mkdtemp(prefix="simulate-"))
    try:
        write_cohort(simulation, folder / "cohort")
        scores = run_models(variant, folder, workers)
    finally:
        shutil.rmtree(folder)
    rows = with_oracles(scores, simulation).assign(seed=seed)
    RESULTS.mkdir(exist_ok=True)
    rows.round(5).to_csv(path, mode="a", header=not path.exists(), index=False)
    print(f"{name} seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)


def run_models(variant: Variant, folder: Path, workers: int) -> pd.DataFrame:
    """Model, task and test AUROC of fold 0, and of the site alone as a model of its own."""
    plugins = [str(HERE / "grid_convolution.py")] if "grid_conv" in variant.models else []
    settings = {
        "models": list(variant.models), "cohorts": [str(folder / "cohort")], "folds": [0], "plugins": plugins,
        "run": str(folder / "run"), "keep_weights": False, "engine": {"workers": workers, "device": "cpu"},
        "tracking": {"enabled": False},
    }  # fmt: skip
    benchmark = prepare(make_config(None, [], settings))
    outcome = run_benchmark(benchmark, Progress(Console(file=io.StringIO())))
    if outcome.failed or outcome.refused or outcome.left:
        raise SystemExit(f"{folder}: {outcome}")
    scores = AUROC.as_written(score_table([outcome.run]))[["model", "task", "auroc"]]
    sites = pd.read_csv(folder / "cohort/carriers.csv", dtype={"slide_id": str}).set_index("slide_id")["site"]
    return pd.concat([scores, site_only(benchmark, sites)] if variant.preset == "null" else [scores])


def site_only(benchmark: Benchmark, sites: pd.Series) -> pd.DataFrame:
    """AUROC of each task on the test slides from the site alone: the share of positives among its other slides."""
    entry = benchmark.entries[0]
    slides = entry.cohort.slides
    test = entry.split.slides(slides, 0, "test")
    others = slides[~slides["slide_id"].isin(test["slide_id"])]
    rows = []
    for task in entry.cohort.tasks:
        groups = others.groupby(sites.loc[others["slide_id"]].to_numpy())[task]
        share = (groups.sum() + others[task].mean()) / (groups.count() + 1)
        score = sites.loc[test["slide_id"]].map(share).fillna(others[task].mean())
        rows.append(("site alone", task, auroc(test[task].to_numpy(float), score.to_numpy(float))))
    return pd.DataFrame(rows, columns=["model", "task", "auroc"])


def with_oracles(scores: pd.DataFrame, simulation: Simulation) -> pd.DataFrame:
    """`scores` with the task's prevalence and oracles."""
    tasks, oracle = simulation.labels.tasks, simulation.oracle
    facts = pd.DataFrame({"task": tasks, "prevalence": simulation.labels.slides[list(tasks)].mean().to_numpy(),
                          "oracle_carrier": oracle.carrier, "oracle_joint": oracle.joint})  # fmt: skip
    return scores.merge(facts, on="task")


def tables() -> str:
    """A table for every variant that was measured, each between marks of its name."""
    sections = [
        f"<!-- begin {name} -->\n{table(name)}<!-- end {name} -->\n" for name in VARIANTS if path_of(name).exists()
    ]
    return "\n".join(["# Models on the presets of `milbench data simulate`\n", *sections])


def path_of(name: str) -> Path:
    """Where the scores of a variant are."""
    return RESULTS / f"simulate_{name}.csv"


def table(name: str) -> str:
    """Means over tasks, then mean and 95 % interval over data seeds; differences are paired by data seed."""
    variant = VARIANTS[name]
    rows = pd.concat([pd.read_csv(path_of(each)) for each in (name, variant.beside) if each])
    ran = rows.groupby("task")["model"].nunique()
    partly = ran.index[ran < ran.max()]
    rows = rows[~rows["task"].isin(partly)]
    oracles = [mean_of_defined(rows.groupby("task")[o].mean().to_numpy()) for o in ("oracle_carrier", "oracle_joint")]
    told = f"{rows['seed'].nunique()} data seeds; oracle {oracles[0]:.3f}, with all carriers {oracles[1]:.3f}."
    missing = f"Left out, as not every model ran on them: {', '.join(partly)}.\n\n" if len(partly) else ""
    sides = {side: by_seed(part) for side, part in sides_of(rows).items()}
    names = {model: {side: part[model] for side, part in sides.items()} for model in sides["all tasks"]}
    for better, worse in variant.pairs:
        names[f"{better} − {worse}"] = {side: part[better] - part[worse] for side, part in sides.items()}
    head = f"| model | {' | '.join(f'{side} | 95 % interval' for side in sides)} |\n{'|---' * (1 + 2 * len(sides))}|\n"
    cells = "".join(row_of(each, list(values.values())) for each, values in names.items())
    counts = "".join(told_of(*pair, sides["all tasks"]) for pair in variant.pairs)
    return f"## {name}\n\n{told}\n\n{missing}{head}{cells}" + (f"\n{counts}" if counts else "")


def sides_of(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All tasks, and the rare ones beside them where there are ten."""
    mean = rows.groupby("task")["prevalence"].mean()
    rare = {"rare tasks": rows[rows["task"].isin(mean[mean < RARE].index)]} if len(mean) == 10 else {}
    return {"all tasks": rows, **rare}


def by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Seeds x models: means over tasks."""
    return rows.groupby(["seed", "model"], sort=False)["auroc"].mean().unstack()


def row_of(name: str, sides: Sequence[pd.Series]) -> str:
    """One row: means and t intervals; a difference has a sign."""
    sign = "+" if "−" in name else ""
    cells = [f"{values.mean():{sign}.3f} | {spread(values.to_numpy(), sign)}" for values in sides]
    return f"| {name} | {' | '.join(cells)} |\n"


def spread(values: np.ndarray, sign: str) -> str:
    """The 95 % t interval of a mean over seeds, in words."""
    if len(values) < 2:
        return "one seed"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean() - half:{sign}.3f} to {values.mean() + half:{sign}.3f}"


def told_of(better: str, worse: str, table: pd.DataFrame) -> str:
    """In how many seeds a model is better, and what the first five seeds alone would show."""
    difference = table[better] - table[worse]
    text = f"- {better} is above {worse} with {(difference > 0).sum()} of {len(difference)} seeds"
    if len(difference) > FEW:
        few = difference.sort_index()[:FEW]
        text += f"; the first {FEW} alone show {few.mean():+.3f}, {spread(few.to_numpy(), '+')}"
    return f"{text}.\n"


if __name__ == "__main__":
    main()
