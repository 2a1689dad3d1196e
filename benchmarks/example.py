"""The committed example and the numbers that the docs quote from it: made anew, or checked against today's code.

    python benchmarks/example.py            # fails where a number in the docs or the example no longer holds
    python benchmarks/example.py --write    # makes reports/digits and the marked parts of the docs anew

`tox -e example` is the check. One run on the embedded digits makes everything, as a reader of the README would make it.

Same processor, same bytes. Another processor rounds otherwise, and a few hundred steps make small roundings large; how far
numbers move stands in docs/digits.md, from the processors in `results/example.csv`. So a processor of that file must give its
numbers again, and any other one must give means within `TOLERANCE` of one of them.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from results_file import CPU_INFO

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "reports" / "digits"
MACHINES = ROOT / "benchmarks" / "results" / "example.csv"
NOT_COMMITTED = ("index.html", "plotly.min.js", "data")
"""What .gitignore leaves out of the example: megabytes that the same command makes."""

TOLERANCE = 0.05
"""How far a model's mean may lie from the nearest committed one on a processor that the file does not know."""

ROUNDING = 5e-4
"""How far any number may lie from the committed one on a processor that the file knows."""

MULTI_TASK = ("mmoe_amil", "mmoe_mp_amil", "m4")

KINDS = {"means": ["title"], "tasks": ["title", "task"], "maps": ["title", "task"]}
"""What is compared between machines, and what names a row."""


def make(folder: Path) -> Path:
    """Run, report and evaluation of digits in `folder`, by the commands that the docs name; the report's folder."""
    for words in (
        ["run", "--no-tracking"],
        ["report", "runs/digits", "--no-tracking"],
        ["heatmap", "runs/digits", "--evaluate"],
    ):
        subprocess.run([sys.executable, "-m", "milbench", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "reports" / "digits"


def numbers(folder: Path) -> pd.DataFrame:
    """kind, title, task, auroc: mean AUROC per model, AUROC per model and task, AUROC of maps against the truth."""
    report = folder / "reports" / "digits"
    means = pd.read_csv(report / "table2.csv")
    means = means[means["n_tasks"].notna() & (means["dataset"] == "digits")].assign(kind="means", task="")
    tasks = pd.read_csv(report / "tasks_digits.csv").assign(kind="tasks")
    (truth,) = (folder / "heatmaps").rglob("truth_digits.csv")
    maps = pd.read_csv(truth).assign(kind="maps")
    maps = maps[maps["map"] == "attention"]  # some models have a second map
    every = pd.concat([means, tasks[tasks["title"].isin(means["title"])], maps])
    return every[["kind", "title", "task", "auroc"]].reset_index(drop=True)


# ---- parts of the docs ---------------------------------------------------------------------------


def parts(folder: Path, found: pd.DataFrame, machines: pd.DataFrame) -> dict[tuple[Path, str], str]:
    """Text of every marked part, by page and name."""
    heatmaps = ROOT / "docs" / "heatmaps.md"
    return {
        (heatmaps, "maps"): _table(found[found["kind"] == "maps"]),
        (heatmaps, "agreement"): _agreement(folder),
        (heatmaps, "experts"): _experts(folder),
        (ROOT / "docs" / "digits.md", "machines"): _moves(machines),
    }


def _agreement(folder: Path) -> str:
    """Between which values the folds' maps of the models of all tasks agree, over tasks."""
    (path,) = (folder / "heatmaps").rglob("agreement_digits.csv")
    rows = pd.read_csv(path)
    values = rows.loc[rows["model"].isin(MULTI_TASK), "spearman"]
    return f"On digits this correlation lies between {values.min():.1f} and {values.max():.1f} over tasks for the multi-task models."


def _experts(folder: Path) -> str:
    """What the command says of M4's experts, as a quotation."""
    (path,) = (folder / "heatmaps").rglob("experts_digits.md")
    (line,) = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("- M4 ")]
    return "> " + line.removeprefix("- ")


def _table(maps: pd.DataFrame) -> str:
    tasks = list(dict.fromkeys(maps["task"]))
    lines = ["| | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for model, rows in maps.groupby("title", sort=False):
        values = rows.set_index("task")["auroc"]
        lines.append(f"| {model} | " + " | ".join(f"{values[task]:.2f}" for task in tasks) + " |")
    return "\n".join(lines)


def _moves(machines: pd.DataFrame) -> str:
    """How far numbers move between processors, one sentence per kind."""
    names = sorted(machines["machine"].unique())
    if len(names) == 1:
        return (
            f"Measured on one processor so far ({names[0]}), so how far another one moves the numbers is not known yet."
        )
    said = {"means": "a model's mean over tasks", "tasks": "a model's AUROC on one task"}
    lines = [f"Measured on {len(names)} processors ({', '.join(names)}):", ""]
    for kind, what in said.items():
        rows = machines[machines["kind"] == kind].pivot_table(index=KINDS[kind], columns="machine", values="auroc")
        moved = (rows.max(axis=1) - rows.min(axis=1)).sort_values(ascending=False)
        most = moved.index[0] if kind == "means" else " on ".join(moved.index[0])
        lines.append(f"- {what} moves by {moved.median():.3f} (median) and by {moved.iloc[0]:.3f} at most ({most}).")
    return "\n".join(lines)


def with_parts(page: str, name: str, text: str) -> str:
    """The page with another text between the marks of a part."""
    marks = rf"(<!-- {name}: benchmarks/example.py -->\n).*?(<!-- end of {name} -->)"
    replaced, count = re.subn(marks, lambda found: f"{found[1]}{text}\n{found[2]}", page, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"the marks of '{name}' stand {count} times in the page; expected once")
    return replaced


# ---- checking and writing ------------------------------------------------------------------------


def differences(found: pd.DataFrame, machines: pd.DataFrame) -> Iterator[str]:
    """Numbers that do not hold: any on a processor that the file knows, means on another."""
    own = machines[machines["machine"] == processor()]
    kinds, known, allowed = (KINDS, own, ROUNDING) if len(own) else ({"means": KINDS["means"]}, machines, TOLERANCE)
    for kind, keys in kinds.items():
        here, there = found[found["kind"] == kind], known[known["kind"] == kind]
        both = here.merge(there, on=keys, how="outer", suffixes=("", " committed"))
        both["distance"] = (both["auroc"] - both["auroc committed"]).abs()
        for key, rows in both.groupby(keys):
            if not rows["distance"].min() <= allowed:  # also where one side lacks the row
                committed = ", ".join(f"{value:.3f}" for value in rows["auroc committed"])
                yield f"{kind} {key}: {rows['auroc'].iloc[0]:.3f} here, {committed} committed"


def write(folder: Path, found: pd.DataFrame, report: Path, machines: pd.DataFrame) -> None:
    """Put this machine's numbers, the report and the parts of the docs in place."""
    MACHINES.parent.mkdir(exist_ok=True)
    machines.to_csv(MACHINES, index=False, float_format="%.6g", lineterminator="\n")
    shutil.rmtree(EXAMPLE, ignore_errors=True)
    shutil.copytree(report, EXAMPLE, ignore=shutil.ignore_patterns(*NOT_COMMITTED))
    for (page, name), text in parts(folder, found, machines).items():
        page.write_text(with_parts(page.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def processor() -> str:
    """Name of the processor with its family and model, since one name stands for several generations."""
    if not CPU_INFO.exists():
        return platform.processor() or platform.machine()
    facts = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", CPU_INFO.read_text(), re.MULTILINE))
    return f"{facts.get('model name', platform.machine())} ({facts.get('cpu family', '?')}/{facts.get('model', '?')})"


def main() -> None:
    """Check, or make anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make the example and the docs' numbers anew")
    parser.add_argument("--folder", type=Path, help="a folder where the three commands have been run already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        report = folder / "reports" / "digits" if options.folder else make(folder)
        found = numbers(folder)
        machines = pd.read_csv(MACHINES, keep_default_na=False) if MACHINES.exists() else pd.DataFrame()
        if options.write:
            others = machines[machines["machine"] != processor()] if len(machines) else machines
            write(folder, found, report, pd.concat([others, found.assign(machine=processor())]).reset_index(drop=True))
            return
        wrong = [*differences(found, machines), *stale_parts(folder, found, machines)]
    print("\n".join(wrong) or f"{len(found)} numbers hold on {processor()}")
    if wrong:
        raise SystemExit("docs or example no longer hold: python benchmarks/example.py --write makes them anew")


def stale_parts(folder: Path, found: pd.DataFrame, machines: pd.DataFrame) -> Iterator[str]:
    """Parts of the docs that say other numbers: all on a processor that the file knows, else what the file alone tells."""
    is_known = processor() in set(machines["machine"])
    for (path, name), text in parts(folder, found, machines).items():
        page = path.read_text(encoding="utf-8")
        if (is_known or name == "machines") and with_parts(page, name, text) != page:
            yield f"{path.relative_to(ROOT)}: the part '{name}' says other numbers than this run"


if __name__ == "__main__":
    main()
