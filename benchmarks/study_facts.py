"""Facts of the M4 study's label tables that the docs quote: counts, what the splits leave, and what the site alone tells.

    python benchmarks/study_facts.py --labels ../shared/data/tcga_labels

Nothing is trained. The facts go to benchmarks/results/study_facts.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from statistics import fmean

import pandas as pd
from results_file import table

from milbench.acquire.hipt import slides_of
from milbench.datasets.tcga import COHORTS
from milbench.labels import read_labels
from milbench.report.baselines import no_image_baselines
from milbench.simulate.design import UCEC, make_design
from milbench.simulate.labels import make_labels
from milbench.splits import N_FOLDS, make_split
from milbench.splits.table import Split

RESULT = Path(__file__).parent / "results" / "study_facts.md"
PUBLISHED = Path(__file__).parents[1] / "milbench" / "report" / "published.csv"
SEEDS = 20
"""Simulated label tables."""


def facts(folder: Path) -> str:
    """All sections, from the label tables of a folder."""
    tables = {cohort.short: read_labels(folder / f"all_{cohort.short}.csv").slides for cohort in COHORTS}
    sections = {
        "labels": labels_section(tables),
        "splits": splits_section(tables),
        "site alone": site_section(tables["gbmlgg"]),
        "co-mutation": pairs_section(tables["ucec"]),
        "features": features_section(tables),
        "published": published_section(),
    }
    marked = [f"<!-- begin {name} -->\n## {name}\n\n{text}\n<!-- end {name} -->\n" for name, text in sections.items()]
    return "\n".join(["# Facts of the study's tables\n", *marked])


def genes_of(slides: pd.DataFrame) -> list[str]:
    return [column for column in slides.columns if column not in ("slide_id", "patient_id")]


def labels_section(tables: dict[str, pd.DataFrame]) -> str:
    """Slides, patients and slides per mutated gene, most first."""

    def rows() -> Iterator[tuple[str, ...]]:
        for name, slides in tables.items():
            counts = slides[genes_of(slides)].sum().sort_values(ascending=False, kind="stable")
            genes = ", ".join(f"{gene} {int(count)}" for gene, count in counts.items())
            yield f"tcga-{name}", str(len(slides)), str(slides["patient_id"].nunique()), genes

    total, patients = (sum(int(row[column]) for row in rows()) for column in (1, 2))
    head = ["cohort", "slides", "patients", "genes, by slides mutated"]
    return f"{table(head, rows())}\n\nTogether {total:,} slides of {patients:,} patients."


def splits_section(tables: dict[str, pd.DataFrame]) -> str:
    """Patients that ever validate under `m4`, and the share of patients that `site` tests."""
    head = ["cohort", "m4: patients that ever validate", "outside of the test side", "site: % of patients for testing"]
    rows = []
    for name, slides in tables.items():
        m4, sites = (make_split(slides, genes_of(slides), protocol) for protocol in ("m4", "site"))
        validating = {patient for fold in range(N_FOLDS) for patient in patients_of(m4, fold, "val")}
        outside = validating | {patient for fold in range(N_FOLDS) for patient in patients_of(m4, fold, "train")}
        tested = len(patients_of(sites, 0, "test")) / slides["patient_id"].nunique()
        rows.append((f"tcga-{name}", str(len(validating)), str(len(outside)), f"{100 * tested:.1f}"))
    return table(head, rows)


def patients_of(split: Split, fold: int, role: str) -> set[str]:
    """Patients on one side of a fold."""
    roles = split.table.set_index("patient_id")[f"fold_{fold}"]
    return set(roles.index[roles == role])


def site_section(slides: pd.DataFrame) -> str:
    """Test AUROC of the tissue source site alone, GBMLGG with the study's partition."""
    genes = genes_of(slides)
    found = no_image_baselines(slides, make_split(slides, genes, "m4").table, range(N_FOLDS))
    scores = found[found["name"] == "site-only"].set_index("task")["score"]
    return table(["gene of tcga-gbmlgg", "site alone"], [(gene, f"{scores[gene]:.3f}") for gene in genes])


def pairs_section(slides: pd.DataFrame) -> str:
    """The two genes of UCEC whose mutations correlate most over patients, and how they do in simulated tables."""
    real = phi_of(slides)
    one, other = max(combinations(real.columns, 2), key=lambda pair: real.loc[pair])
    made = [phi_of(make_labels(make_design("shared"), seed).slides).loc[one, other] for seed in range(SEEDS)]
    rows = [
        ("tcga-ucec", f"{real.loc[one, other]:.3f}"),
        (f"preset shared, mean of {SEEDS} seeds", f"{fmean(made):.3f}"),
    ]
    return table([f"phi of {one} and {other}", "over patients"], rows)


def phi_of(slides: pd.DataFrame) -> pd.DataFrame:
    """Correlations of the tasks, one row per patient."""
    return slides.drop_duplicates("patient_id")[list(UCEC)].corr()


def features_section(tables: dict[str, pd.DataFrame]) -> str:
    """Slides that have HIPT's features, and their size."""
    of_cohort = {name: slides_of(name) for name in tables}
    rows = [
        (f"tcga-{name}", f"{len(of_cohort[name])} of {len(slides)}", f"{sum(s.bytes for s in of_cohort[name]) / 1e6:.1f}")
        for name, slides in tables.items()
    ]  # fmt: skip
    every = sum(map(len, tables.values()))
    missing = every - sum(map(len, of_cohort.values()))
    size = sum(slide.bytes for slides in of_cohort.values() for slide in slides) / 1e6
    head = ["cohort", "slides with features", "MB"]
    return f"{table(head, rows)}\n\nTogether {size:.0f} MB; {missing} of {every:,} slides have none."


def published_section() -> str:
    """Means of the paper's five printed entries, by model, beside the average that it prints."""
    numbers = pd.read_csv(PUBLISHED)
    grid = numbers[numbers["table"] == 2].pivot(index="model", columns="cohort", values="auroc")
    cohorts = [f"tcga-{cohort.short}" for cohort in COHORTS]
    (average,) = set(grid.columns) - set(cohorts)
    rows = [
        (model, f"{grid.loc[model, cohorts].mean():.4f}", f"{grid.loc[model, average]:.3f}") for model in grid.index
    ]
    return table(["model, Table 2", "mean of the entries", "printed average"], rows)


def main() -> None:
    """Write and print the facts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--labels", type=Path, required=True, help="folder of all_<cohort>.csv as released with the paper"
    )
    options = parser.parse_args()
    text = facts(options.labels)
    RESULT.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
