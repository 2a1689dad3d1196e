"""The committed example and the numbers that the docs quote from it: made anew, or checked against today's code.

    python benchmarks/example.py            # fails where a number in the docs or the example no longer holds
    python benchmarks/example.py --write    # makes reports/digits and the marked parts of the docs anew

`tox -e docs` is the check. One run on the embedded digits makes everything, as a reader of the README would make it.

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
    every = pd.concat([means, tasks[tasks["title"].isin(means["title"])], maps])
    return every[["kind", "title", "task", "auroc"]].reset_index(drop=True)


# ---- parts of the docs ---------------------------------------------------------------------------


def parts(found: pd.DataFrame, machines: pd.DataFrame) -> dict[tuple[Path, str], str]:
    """Text of every marked part, by page and name."""
    return {
        (ROOT / "docs" / "heatmaps.md", "maps"): _table(found[found["kind"] == "maps"]),
        (ROOT / "docs" / "digits.md", "machines"): _moves(machines),
    }


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
        here = found[found["kind"] == kind].set_index(keys)["auroc"]
        there = known[known["kind"] == kind].groupby(keys)["auroc"]
        if missing := set(here.index) ^ set(there.groups):
            yield f"{kind}: rows on one side only: {sorted(map(str, missing))[:5]}"
        for key in set(here.index) & set(there.groups):
            committed = there.get_group(key if isinstance(key, tuple) else (key,))
            if (committed - here[key]).abs().min() > allowed:
                yield f"{kind} {key}: {here[key]:.3f} here, {', '.join(f'{value:.3f}' for value in committed)} committed"


def write(found: pd.DataFrame, report: Path, machines: pd.DataFrame) -> None:
    """Put this machine's numbers, the report and the parts of the docs in place."""
    MACHINES.parent.mkdir(exist_ok=True)
    machines.to_csv(MACHINES, index=False, float_format="%.6g", lineterminator="\n")
    shutil.rmtree(EXAMPLE, ignore_errors=True)
    shutil.copytree(report, EXAMPLE, ignore=shutil.ignore_patterns(*NOT_COMMITTED))
    for (page, name), text in parts(found, machines).items():
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
            write(found, report, pd.concat([others, found.assign(machine=processor())]).reset_index(drop=True))
            return
        wrong = [*differences(found, machines), *stale_parts(machines)]
    print("\n".join(wrong) or f"{len(found)} numbers hold on {processor()}")
    if wrong:
        raise SystemExit("docs or example no longer hold: python benchmarks/example.py --write makes them anew")


def stale_parts(machines: pd.DataFrame) -> Iterator[str]:
    """Parts of the docs, and tables of the example, that are not those of the committed numbers."""
    page = (ROOT / "docs" / "digits.md").read_text(encoding="utf-8")
    if with_parts(page, "machines", _moves(machines)) != page:
        yield "docs/digits.md: the part 'machines' is not made of benchmarks/results/example.csv"
    maps = [_table(rows) for _, rows in machines[machines["kind"] == "maps"].groupby("machine")]
    page = (ROOT / "docs" / "heatmaps.md").read_text(encoding="utf-8")
    if page not in [with_parts(page, "maps", table) for table in maps]:
        yield "docs/heatmaps.md: the part 'maps' is not made of benchmarks/results/example.csv"


if __name__ == "__main__":
    main()
