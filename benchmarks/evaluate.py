"""An external cohort scored by many trained models, beside a loop that reads each slide once and does nothing but forwards.

    python benchmarks/evaluate.py [--slides 5000] [--repetitions 3] [--save]

45 trials (three models, three tasks, five folds) of one epoch on a small cohort, whose weights are kept. Both contestants
score the same external slides in this process, with one thread. milbench also hashes the files, watches that no model
writes into a bag, sets the random numbers of each model, and stores what every trial says.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import process_time

import torch
from command import add_run_flags
from made_cohort import Size, add_folder_flag, temporary_cohort, write_cohort
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of

from milbench.cohorts.cohort import folder_cohort
from milbench.commands.cli import main as milbench
from milbench.external.evaluate import checked, scored
from milbench.external.scored import external_folder
from milbench.external.trained import Trained, trained
from milbench.store.run import open_run

MODELS, TASKS, FOLDS = ("mean_pooling", "max_pooling", "amil"), 3, 5
MILBENCH, LOOP = "milbench", "bare loop"
MOST = 1.2
"""Times that milbench may take of the loop."""


def finished_run(cohort: Path, folder: Path) -> Trained:
    """45 trials with weights."""
    words = ["--models", *MODELS, "--folds", f"0-{FOLDS - 1}", "--workers", "1", "--no-tracking"]
    code = milbench(["run", "--cohort", str(cohort), "--run", str(folder), *words, "--set", "trainer.epochs=1"])
    if code:
        raise SystemExit(f"the trials could not be trained (exit code {code}).")
    return trained(open_run(folder))


def score_with_milbench(source: Trained, cohort: Path) -> None:
    """What `milbench evaluate` does before its statistics, from nothing."""
    shutil.rmtree(external_folder(source.run, cohort.name), ignore_errors=True)
    scores = scored(checked(source, folder_cohort(cohort)), "cpu", lambda slides, *_: slides)
    assert scores.n_new == len(source.trials)


def score_in_a_loop(source: Trained, cohort: Path) -> None:
    """Every slide read once, and the forwards of all models."""
    models = source.models(source.trials)
    with torch.no_grad():
        for path in sorted((cohort / "features").iterdir()):
            features = torch.load(path, weights_only=True)  # noqa: TID251 - the plain way
            for model in models:
                model(features)


def both_seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one call. Those of the CPU do not count what other processes take of a busy machine."""
    before = process_time()
    wall = seconds_of(work)
    return wall, process_time() - before


def beside_the_loop(seconds: Mapping[str, Sequence[float]], name: str) -> tuple[str, str]:
    return f"{median(seconds[name]):.1f}", f"{ratio(seconds[name], seconds[LOOP]):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("slides", 5000), ("patches", 256), ("width", 128)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"of the external cohort (default {default})")
    add_run_flags(parser, repetitions=3)
    add_folder_flag(parser)
    add_save_flag(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = Size(options.slides, options.patches, options.width, TASKS)
    with temporary_cohort(size._replace(slides=40), options.folder) as own:
        other = write_cohort(own.parent / "external", size, first=40)
        source = finished_run(own, own.parent / "run")
        contestants = {
            MILBENCH: lambda: both_seconds(lambda: score_with_milbench(source, other)),
            LOOP: lambda: both_seconds(lambda: score_in_a_loop(source, other)),
        }
        found = interleaved(contestants, options.repetitions, warm_ups=options.warm_ups)
    walls, cpus = ({name: [one[place] for one in each] for name, each in found.items()} for place in (0, 1))
    rows = [[name, *(text for each in (walls, cpus) for text in beside_the_loop(each, name))] for name in contestants]
    head = ["", "seconds", "of the bare loop", "CPU seconds", "of the bare loop"]
    note = f"{size}, scored by {len(source.trials)} trials. Medians of {options.repetitions} interleaved repetitions."
    publish(options, f"{note}\n\n{table(head, rows)}", threads=1)
    if ratio(walls[MILBENCH], walls[LOOP]) > MOST:
        raise SystemExit(f"milbench takes more than {MOST} times as long as the bare loop.")


if __name__ == "__main__":
    main()
