"""The same `milbench run` with `--stack auto` and with `--stack off`, as tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from command import Finished, middle, run
from results_file import table
from timing import interleaved, ratio

AUTO, OFF = "auto", "off"


def compared(words: Sequence[str], options: argparse.Namespace) -> dict[str, list[Finished]]:
    """The runs of both ways; `options` are those of `add_run_flags`."""
    contestants = {
        stack: lambda stack=stack: run(options.milbench, [*words, "--stack", stack]) for stack in (AUTO, OFF)
    }
    return interleaved(contestants, options.repetitions, warm_ups=options.warm_ups)


def report(runs: Mapping[str, Sequence[Finished]]) -> str:
    """Markdown: wall time of both ways, and train seconds by model."""
    counts = f"{len(runs[OFF][0].trials):,} trials; medians of {len(runs[OFF])} interleaved repetitions."
    return f"{counts}\n\n{walls(runs)}\n\n{by_model(runs)}\n\n{busy(runs)}"


def walls(runs: Mapping[str, Sequence[Finished]]) -> str:
    rows = [[f"`--stack {stack}`", f"{middle(found, wall):.1f}", f"{middle(found, work):.1f}"]
            for stack, found in runs.items()]  # fmt: skip
    rows.append(["off / auto", f"{of_pairs(runs, wall):.2f}", f"{of_pairs(runs, work):.2f}"])
    return table(["", "wall s", "train s, sum over trials"], rows)


def by_model(runs: Mapping[str, Sequence[Finished]]) -> str:
    rows = []
    for model in sorted(runs[OFF][0].models(), key=lambda name: -runs[OFF][0].train_seconds(name)):
        seconds = [middle(runs[stack], lambda found, m=model: found.train_seconds(m)) for stack in (AUTO, OFF)]
        quotient = of_pairs(runs, lambda found, m=model: found.train_seconds(m))
        rows.append([model, *(f"{each:.2f}" for each in seconds), f"{quotient:.2f}"])
    return table(["train seconds", AUTO, OFF, "off / auto"], rows)


def busy(runs: Mapping[str, Sequence[Finished]]) -> str:
    """How trial.json's seconds relate to the clock: more than the workers can have means that trials share theirs."""
    shares = ", ".join(f"{middle(found, lambda f: work(f) / f.wall_seconds):.2f} ({stack})"
                       for stack, found in runs.items())  # fmt: skip
    return (
        f"Train seconds of all trials, divided by the wall time: {shares}. If trials take turns, this is at most the "
        "number of workers."
    )


def of_pairs(runs: Mapping[str, Sequence[Finished]], value: Callable[[Finished], float]) -> float:
    return ratio([value(found) for found in runs[OFF]], [value(found) for found in runs[AUTO]])


def wall(found: Finished) -> float:
    return found.wall_seconds


def work(found: Finished) -> float:
    return found.train_seconds()
