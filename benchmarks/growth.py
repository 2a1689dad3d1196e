"""How the cost of a patch grows with the bag, of this build and of another one, in one run.

    python benchmarks/growth.py --reference PATH --save     PATH: a checkout of the other build
    python benchmarks/growth.py --draw                      the picture and the table again, from the saved numbers

Each build runs in a process of its own, and they take turns step by step, so that drift of the machine hits both alike. A
step is forward, loss, backward and Adam. The floor is a Linear layer 1,024 → 512 by itself, forward and backward, which
every embedding begins with. Memory is what a step adds to bag and weights, in a fresh process for each model and build.
A model's own floor is the larger of two times: that of its step's matrix products and convolutions alone, and that of moving
the bytes that it must (the bag once; what the backward needs, once there and once back) at the rate at which memory is read.
`--save` writes `results/growth.csv`, the picture and the table of docs/speed.md, and the section of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
from growth_figure import save
from growth_worker import FLOOR, PRODUCTS
from marked_table import MarkedTable
from results_file import add_save_flag, publish, table

from milbench.registry import load_models, select_models

HERE = Path(__file__).parent
THIS, REFERENCE = "this", "reference"
PLACE = MarkedTable("growth.py", HERE.parent / "docs" / "speed.md", HERE / "results" / "growth.csv")
PICTURE = HERE.parent / "docs" / "images" / "growth"
WIDTH = 1024
MEMORY_PATCHES, MEMORY_WIDTH = 20_000, 2048
MOST_REPETITIONS = 15
GROWTH_OF = (10_000, 50_000)
MOVING = "moving"
NOISE = 0.95
COLUMNS = [
    "build", "model", "kind", "patches", "width", "milliseconds", "cpu_milliseconds", "mebibytes", "repetitions",
]  # fmt: skip


class Build(NamedTuple):
    """A checkout and the process that works for it."""

    name: str
    process: subprocess.Popen[str]

    def ask(self, **asked: Any) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the process of the build '{self.name}' ended at {asked}")
        return json.loads(answer)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.process.communicate()


def started(name: str, root: Path, threads: int) -> Build:
    """A worker on the build in `root`; its folder `.typing` gives the baselines their package's name."""
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / '.typing'}", "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-P", str(HERE / "growth_worker.py"), str(threads)]
    pipe = subprocess.PIPE
    return Build(name, subprocess.Popen(command, cwd=root, env=environment, stdin=pipe, stdout=pipe, text=True))


def times(builds: Sequence[Build], models: Sequence[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of milliseconds, builds in turn; the first answer of each is dropped."""
    for model in (FLOOR, *models):
        for patches in options.patches:
            for kind in ("step", "inference"):
                asked = {"model": model, "kind": kind, "patches": patches, "width": WIDTH}
                first = [build.ask(**asked)["wall"] for build in builds]
                n = min(max(int(options.seconds / sum(first)), 1), MOST_REPETITIONS)
                found = [[build.ask(**asked) for build in builds] for _ in range(n)]
                for build, answers in zip(builds, zip(*found, strict=True), strict=True):
                    wall, cpu = (median(answer[clock] for answer in answers) * 1e3 for clock in ("wall", "cpu"))
                    yield {
                        "build": build.name,
                        **asked,
                        "milliseconds": wall,
                        "cpu_milliseconds": cpu,
                        "repetitions": n,
                    }
        print(f"{model} timed", file=sys.stderr, flush=True)


def floors(build: Build, models: Sequence[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Rows of the milliseconds that a step's products take alone, and of those that its bytes take at memory's rate."""
    rate = build.ask(kind="bandwidth")["bytes_per_second"]
    for model in models:
        for patches in GROWTH_OF:
            asked = {"model": model, "patches": patches, "width": WIDTH}
            first = build.ask(**asked, kind=PRODUCTS)["wall"]
            n = min(max(int(seconds / first), 1), MOST_REPETITIONS)
            wall = median(build.ask(**asked, kind=PRODUCTS)["wall"] for _ in range(n))
            yield {"build": build.name, **asked, "kind": PRODUCTS, "milliseconds": wall * 1e3, "repetitions": n}
            moved = build.ask(**asked, kind="bytes")["bytes"]
            yield {"build": build.name, **asked, "kind": MOVING, "milliseconds": moved / rate * 1e3}
        print(f"floor of {model} timed", file=sys.stderr, flush=True)


def memories(roots: dict[str, Path], models: Sequence[str], threads: int) -> Iterator[dict[str, Any]]:
    """Rows of MiB, each from a fresh process."""
    asked = {"kind": "memory", "patches": MEMORY_PATCHES, "width": MEMORY_WIDTH}
    for model in models:
        for name, root in roots.items():
            build = started(name, root, threads)
            yield {"build": name, "model": model, **asked, **build.ask(model=model, **asked)}
            build.close()


def measured(options: argparse.Namespace) -> pd.DataFrame:
    """All rows."""
    roots = {THIS: HERE.parent} | ({REFERENCE: options.reference.resolve()} if options.reference else {})
    models = select_models(options.models, load_models())
    builds = [started(name, root, options.threads) for name, root in roots.items()]
    rows = list(times(builds, models, options))
    if set(GROWTH_OF) <= set(options.patches):
        rows += floors(builds[0], models, options.seconds)
    for build in builds:
        build.close()
    if not options.no_memory:
        rows += memories(roots, models, options.threads)
    return pd.DataFrame(rows, columns=COLUMNS)


def table_of(rows: pd.DataFrame) -> str:
    """Markdown: milliseconds of this build, how a patch's cost grows, and what the reference takes in its place."""
    cells = rows.set_index(["build", "kind", "model", "patches"])
    small, large = GROWTH_OF
    models = [model for model in dict.fromkeys(rows["model"]) if model != FLOOR]

    def value(build: str, kind: str, model: str, patches: int, column: str = "milliseconds") -> float:
        return float(cells[column].get((build, kind, model, patches), float("nan")))

    def per_patch(kind: str, model: str) -> float:
        return value(THIS, kind, model, large) / value(THIS, kind, model, small) * small / large

    def gain(kind: str, model: str, patches: int, column: str = "milliseconds") -> float:
        return value(REFERENCE, kind, model, patches, column) / value(THIS, kind, model, patches, column)

    titles = {name: made.info.title for name, made in load_models().items()}
    head = (
        "model", *(f"step ms, {n:,}" for n in (1000, *GROWTH_OF)), "reference / this, 10,000", "50,000",
        "a patch at 50,000 / 10,000", "of inference", "memory MiB", "reference / this",
    )  # fmt: skip
    body = [
        (
            titles[model],
            *(f"{value(THIS, 'step', model, n):,.0f}" for n in (1000, *GROWTH_OF)),
            f"{gain('step', model, small):.2f}",
            f"{gain('step', model, large):.2f}",
            f"{per_patch('step', model):.2f}",
            f"{per_patch('inference', model):.2f}",
            f"{value(THIS, 'memory', model, MEMORY_PATCHES, 'mebibytes'):,.0f}",
            f"{gain('memory', model, MEMORY_PATCHES, 'mebibytes'):.1f}",
        )
        for model in models
    ]
    return table(head, body)


def floors_of(rows: pd.DataFrame) -> str:
    """Markdown: how far each step is from its floor, or nothing where no floor was measured."""
    own = rows[(rows["build"] == THIS) & rows["patches"].isin(GROWTH_OF) & (rows["width"] == WIDTH)]
    cells = own.pivot_table(index=["model", "patches"], columns="kind", values="milliseconds")
    if PRODUCTS not in cells:
        return ""
    head = ("model", *(f"{what}, {n:,}" for n in GROWTH_OF for what in ("products ms", "bytes ms", "step / floor")))
    titles = {name: made.info.title for name, made in load_models().items()}

    def row(model: str) -> list[str]:
        each = [cells.loc[(model, n)] for n in GROWTH_OF]
        times = [(at[PRODUCTS], at[MOVING], at["step"] / max(at[PRODUCTS], at[MOVING])) for at in each]
        return [titles[model], *(f"{a:,.0f} | {b:,.0f} | {c:.2f}" for a, b, c in times)]

    return table(head, map(row, [model for model in dict.fromkeys(own["model"]) if model != FLOOR]))


def text_of(rows: pd.DataFrame) -> str:
    """Both tables."""
    return "\n\n".join(part for part in (table_of(rows), floors_of(rows)) if part)


def slower(rows: pd.DataFrame) -> str:
    """Every place where this build takes more CPU time than the reference, in words."""
    both = rows[rows["kind"].isin(["step", "inference"])].pivot_table(
        index=["model", "kind", "patches"], columns="build", values="cpu_milliseconds"
    )
    if REFERENCE not in both:
        return ""
    gain = both[REFERENCE] / both[THIS]
    found = [f"{model} {kind} at {n:,} ({gain[model, kind, n]:.2f})" for model, kind, n in gain[gain < NOISE].index]
    return f"Reference / this in CPU time below {NOISE}: {', '.join(found) or 'nowhere'}."


def draw(rows: pd.DataFrame) -> None:
    """The picture as PNG and SVG, and the table of the page."""
    titles = {name: made.info.title for name, made in load_models().items()}
    save(rows, titles, PICTURE)
    page = PLACE.page.read_text(encoding="utf-8")
    PLACE.page.write_text(PLACE.on(page, text_of(rows)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="checkout of the other build")
    parser.add_argument("--patches", type=int, nargs="+", default=[36, 100, 1000, 10_000, 50_000])
    parser.add_argument("--models", nargs="+", default=["study"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4, help="of each model, size and kind, after a first round")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--draw", action="store_true", help="draw and write the saved numbers again; measure nothing")
    add_save_flag(parser)
    options = parser.parse_args()
    if options.draw:
        draw(pd.read_csv(PLACE.result))
        return
    rows = measured(options)
    if options.save:
        rows.to_csv(PLACE.result, index=False, float_format="%.3f", lineterminator="\n")
        rows = pd.read_csv(PLACE.result)
        draw(rows)
    publish(options, f"{text_of(rows)}\n\n{slower(rows)}", threads=options.threads)


if __name__ == "__main__":
    main()
