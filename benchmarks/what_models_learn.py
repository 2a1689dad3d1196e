"""What milbench's models learn on made bags: the table that milbench ships, and the page about it.

    python benchmarks/what_models_learn.py            # prints the tables of the committed verdicts; fails if the page says others
    python benchmarks/what_models_learn.py --write    # tests all models, writes milbench/probes/results.csv and the page

Made anew, one row per model and test goes to milbench/probes/results.csv. `milbench check` makes the rows.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from marked_table import MarkedTable, main

from milbench.probes.catalogue import PROBES
from milbench.probes.verdict import CHEATS, FAILS, PASS, UNSURE

ROOT = Path(__file__).parents[1]
PLACE = MarkedTable(
    "what_models_learn.py", ROOT / "docs" / "what_models_learn.md", ROOT / "milbench" / "probes" / "results.csv"
)
MARKS = {PASS: "yes", FAILS: "no", CHEATS: "**cheats**", UNSURE: "?"}
MISSING = "-"


class Claim(NamedTuple):
    """A published claim that a test can speak to.

    Attributes
    ----------
    text, source : the claim in our words, and who made it.
    holds_if : verdict of the test under which the claim holds.
    """

    text: str
    source: str
    model: str
    test: str
    holds_if: str


RAFF_HOLT = "Raff and Holt 2023, abstract"

CLAIMS = (
    Claim("prominent deep models answer 'positive' until they see a counter-example", RAFF_HOLT, "amil", "presence", CHEATS),
    Claim("the same", RAFF_HOLT, "transmil", "presence", CHEATS),
    Claim("the same", RAFF_HOLT, "dsmil", "presence", CHEATS),
    Claim("the same", RAFF_HOLT, "dtfd_mil", "presence", CHEATS),
    Claim("the highest patch alone cannot learn an absence", "the standard MIL assumption", "max_pooling", "presence", PASS),
    Claim("attention pooling does not depend on the order of patches", "Ilse et al. 2018", "amil", "order", PASS),
    Claim("TransMIL uses where patches lie", "Shao et al. 2021", "transmil", "neighbours", PASS),
    Claim("DSMIL finds critical patches where few are positive", "Li et al. 2021", "dsmil", "rare", PASS),
    Claim("experts with gates learn less related tasks together", "Ma et al. 2018", "mmoe_amil", "tasks", PASS),
    Claim("M4 learns several tasks together", "Li et al. (M4)", "m4", "tasks", PASS),
    Claim("own and shared experts keep tasks from harming each other", "Tang et al. 2020", "ple_amil", "tasks", PASS),
    Claim("patches learn from each other through a few latent rows", "Xiang and Zhang 2023", "ilra", "both", PASS),
    Claim("regions let patches learn from those beside them", "Tang et al. 2024", "rrt_mil", "neighbours", PASS),
    Claim("a graph of similar patches tells which patches belong together", "Li et al. 2024", "wikg", "both", PASS),
    Claim("attention to near patches sees how tissue is laid out", "Reisenbüchler et al. 2022", "la_mil", "neighbours", PASS),
)  # fmt: skip


def measured(folder: Path) -> pd.DataFrame:
    """Rows of all models, tested in `folder`."""
    rows = folder / "rows.csv"
    subprocess.run([sys.executable, "-m", "milbench", "check", "all", "--out", str(rows)], check=True)
    return pd.read_csv(rows)


def page(rows: pd.DataFrame) -> str:
    """Markdown: verdicts, numbers, claims, tests."""
    return "\n".join([*_verdicts(rows), "", *_made(rows), "", *_numbers(rows), "", *_claims(rows), "", *_tests()])


def _verdicts(rows: pd.DataFrame) -> Iterator[str]:
    yield from _grid(rows, rows.assign(cell=rows["verdict"].map(MARKS)))


def _numbers(rows: pd.DataFrame) -> Iterator[str]:
    yield "### Numbers"
    yield ""
    yield "Mean AUROC over the seeds, and below it the lowest and the highest seed."
    yield ""
    cells = [
        MISSING if pd.isna(mean) else f"{mean:.2f}" + f"<br>{low:.2f}–{high:.2f}" * (seeds > 1)
        for mean, low, high, seeds in rows[["auroc", "low", "high", "seeds"]].itertuples(index=False)
    ]
    yield from _grid(rows, rows.assign(cell=cells))
    best = rows.groupby("test", sort=False)["best"].mean()
    yield (
        "| *best possible* | " + " | ".join(f"{best[name]:.2f}" if name in best else MISSING for name in PROBES) + " |"
    )


def _grid(rows: pd.DataFrame, with_cells: pd.DataFrame) -> Iterator[str]:
    yield "| | " + " | ".join(probe.title for probe in PROBES.values()) + " |"
    yield "|---" * (1 + len(PROBES)) + "|"
    cells = with_cells.set_index(["model", "test"])["cell"]
    for model, title in rows[["model", "model_title"]].drop_duplicates().itertuples(index=False):
        yield f"| {title} | " + " | ".join(str(cells.get((model, name), MISSING)) for name in PROBES) + " |"


def _made(rows: pd.DataFrame) -> Iterator[str]:
    seeds = sorted(set(rows["seeds"]))
    told = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} (the fewer for the slower models)"
    minutes = rows["seconds"].sum() / 60
    yield f"Seeds per test: {told}. The trainings of all {rows['model'].nunique()} models took {minutes:.0f} minutes of one process."
    if seeds[0] == 1:
        yield "A verdict of one seed is preliminary: it may depend on that seed."


def _claims(rows: pd.DataFrame) -> Iterator[str]:
    yield "### Published claims"
    yield ""
    yield "| claim | by | test | AUROC here | holds here |"
    yield "|---|---|---|---|---|"
    found = rows.set_index(["model", "test"])
    for claim in CLAIMS:
        if (claim.model, claim.test) not in found.index:
            continue
        row = found.loc[(claim.model, claim.test)]
        interval = f" ({row['low']:.2f}–{row['high']:.2f})" if row["seeds"] > 1 else ""
        number = MISSING if pd.isna(row["auroc"]) else f"{row['auroc']:.2f}{interval}"
        holds = _holds(claim.holds_if, row["verdict"])
        yield f"| {claim.text} | {claim.source} | {PROBES[claim.test].title}, {row['model_title']} | {number} | {holds} |"


def _holds(wanted: str, verdict: str) -> str:
    """In one word; a model that should cheat and only fails was misled in part."""
    if verdict == wanted:
        return "yes"
    return "?" if verdict == UNSURE else "in part" if (wanted, verdict) == (CHEATS, FAILS) else "no"


def _tests() -> Iterator[str]:
    yield "### The tests"
    yield ""
    yield "| test | name | bags | yes | no | cheats |"
    yield "|---|---|---|---|---|---|"
    for probe in PROBES.values():
        cells = (probe.title, f"`{probe.name}`", probe.about, probe.yes, probe.no, probe.cheats or MISSING)
        yield "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(__doc__, PLACE, measured, page)
