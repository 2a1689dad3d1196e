"""The study on a GPU: bag-steps per second of every model on large bags, beside the plain loop, and the hours of the whole.

    python benchmarks/gpu_speed.py [--slides 60] [--patches 8000] [--width 2048] [--precisions float32 tf32] [--save]

Ten tasks × five folds on a made cohort, all models in one `milbench run` for each precision, beside one trial of every
model in `reference.py` on the same GPU, float32, with `--loaders` processes that read ahead. A rate is training bags over
seconds of training, validation and the final predictions, waiting for features included, as trial.json says; the loop is
timed over the same. The hours are those of the study's 1,575 trainings on its real numbers of slides, all of this size:
training bags over the models' rates, and what the command took beside training, less its start-up (one fold of mean pooling
on a cohort of nearly nothing), for each of the trials. `--per-gpu N` adds the command with N workers on the GPU, whose
hours are those of one worker times the ratio of both commands' seconds. `--cuda-graphs` adds the command in the last
precision whose models replay steps and validations, stacks too, and tells of each model how many were replayed; two epochs
record them, so ask for more (`--epochs 8`). Without a GPU it measures nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import reference
import torch
from command import add_run_flags, run
from made_cohort import Size, add_folder_flag, add_size_flags, asked_size, temporary_cohort, tiny
from projection import FOLDS, GENES, TRAIN, is_multi
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio

from milbench.datasets.tcga import COHORTS
from milbench.registry import load_models, select_models
from milbench.trials.recipe import Recipe

USUAL = Size(60, 8000, 2048, GENES)
DEVICE = "cuda"
NO_GPU = "torch sees no GPU here: nothing was measured. Run it on a machine with one."


class Command(NamedTuple):
    """One run of the command.

    Attributes
    ----------
    wall, startup : seconds of the whole, and of a command with next to nothing to compute.
    beside : seconds per trial, of neither start-up nor training.
    rates : bag-steps per second of training, by model.
    trials : what each trial.json says.
    """

    wall: float
    startup: float
    beside: float
    rates: dict[str, float]
    trials: list[dict[str, Any]]

    @property
    def work(self) -> float:
        """Seconds without the start-up."""
        return self.wall - self.startup

    def __str__(self) -> str:
        rates = ", ".join(f"{model} {rate:.1f}" for model, rate in self.rates.items())
        return f"{self.wall:.1f} s, start-up {self.startup:.1f} s, {self.beside * 1e3:.0f} ms per trial; {rates} bags/s"


def command_rate(cohorts: Sequence[Path], options: argparse.Namespace, flags: Sequence[str]) -> Command:
    """The command on the first cohort; its start-up on the second."""

    def words(cohort: Path, models: Sequence[str], folds: str) -> list[str]:
        return ["--cohort", str(cohort), "--models", *models, "--folds", folds,
                "--set", f"trainer.epochs={options.epochs}", "--device", DEVICE, *flags]  # fmt: skip

    large, small = cohorts
    usual = words(large, options.models, f"0-{options.folds - 1}")
    found = run(options.milbench, usual, startup=words(small, ["mean_pooling"], "0"))
    beside = max(0.0, found.working_seconds - found.train_seconds()) / len(found.trials)
    rates = {model: found.bag_steps(model) / found.train_seconds(model) for model in found.models()}
    return Command(found.wall_seconds, found.startup_seconds, beside, rates, found.trials)


def plain_rate(model: str, cohort: Path, sides: reference.Sides, options: argparse.Namespace) -> float:
    """Bag-steps per second of the loop."""
    tasks = [f"task{number}" for number in range(options.tasks if is_multi(model) else 1)]
    trained = reference.train(
        model, cohort, tasks, sides, epochs=options.loop_epochs, device=DEVICE, loaders=options.loaders
    )
    return options.loop_epochs * len(sides.train) / trained.seconds


def variants(options: argparse.Namespace) -> dict[str, list[str]]:
    """Flags of each command, by its name."""
    each = {name: ["--precision", name] for name in options.precisions}
    last = options.precisions[-1]
    if options.cuda_graphs:
        each[f"{last}, graphs"] = [*each[last], "--cuda-graphs"]
    if options.per_gpu > 1:
        many = ["--gpus", "all", "--per-gpu", str(options.per_gpu)]
        each |= {f"{name}{of_many(options)}": [*each[name], *many] for name in each if name.startswith(last)}
    return each


def of_many(options: argparse.Namespace) -> str:
    """End of the name of a command with several workers."""
    return f", {options.per_gpu} workers"


def of_one_worker(options: argparse.Namespace) -> list[str]:
    """Names of the commands with one worker, whose rates are shown."""
    return [name for name in variants(options) if not name.endswith(of_many(options))]


def measured(models: Sequence[str], cohorts: Sequence[Path], options: argparse.Namespace) -> dict[str, list[Any]]:
    """What every command gave, and the rate of every plain loop, in turn."""
    sides, contestants = reference.sides_of(cohorts[0], 0), dict[str, Callable[[], Any]]()
    for name, flags in variants(options).items():
        contestants[name] = lambda flags=flags: command_rate(cohorts, options, flags)
    for model in models:
        contestants[plain(model)] = lambda model=model: plain_rate(model, cohorts[0], sides, options)
    told = {name: lambda name=name, work=work: _told(name, work) for name, work in contestants.items()}
    return interleaved(told, options.repetitions, warm_ups=options.warm_ups)


def _told(name: str, work: Callable[[], Any]) -> Any:
    """What the work gives, told on the screen too: a benchmark of minutes may be cut short."""
    found = work()
    print(f"{name}: {found if isinstance(found, Command) else f'{found:.1f} bags/s'}", file=sys.stderr)
    return found


def plain(model: str) -> str:
    return f"plain {model}"


def of_models(models: Sequence[str], found: Mapping[str, list[Any]], commands: Sequence[str]) -> str:
    rows = []
    for model in models:
        loop, row = found[plain(model)], [model, f"{median(found[plain(model)]):.1f}"]
        for name in commands:
            rates = [each.rates[model] for each in found[name]]
            row += [f"{median(rates):.1f}", f"{ratio(rates, loop):.1f}"]
        rows.append(row)
    head = ["model", "plain loop", *(each for name in commands for each in (name, f"{name} / loop"))]
    return table(head, rows)


def of_graphs(models: Sequence[str], trials: Sequence[Mapping[str, Any]]) -> str:
    """What the models replayed, by their first trials: alone or in a stack, in a fold stack, and in validations."""
    counts = ("replayed_steps", "replayed_steps_of_folds", "replayed_evaluations")
    rows = []
    for model in models:
        trial = next(trial for trial in trials if trial["model"] == model)
        told = trial["cuda_graphs"]
        rows.append([model, str(trial["stack"]), *(str(told.get(count, 0)) for count in counts), told["why_not_more"]])
    return table(["model", "trials together", "steps", "steps of folds", "validations", "why not more"], rows)


def trainings(model: str) -> int:
    """Of one cohort of the study."""
    return FOLDS * (1 if is_multi(model) else GENES)


def study_steps(model: str) -> float:
    """Training bags that the study shows to the model, over all cohorts, epochs and trainings."""
    return sum(TRAIN * cohort.n_slides for cohort in COHORTS) * Recipe().epochs * trainings(model)


def study_hours(models: Sequence[str], rates: Mapping[str, float], beside: float = 0.0) -> float:
    """Hours of the study's trainings of the models at these rates; `beside` : seconds that a trial takes beside training."""
    trials = len(COHORTS) * sum(map(trainings, models))
    return (sum(study_steps(model) / rates[model] for model in models) + beside * trials) / 3600


def of_commands(models: Sequence[str], found: Mapping[str, list[Any]], options: argparse.Namespace) -> str:
    """Seconds of whole commands, and hours of the study by them and by the plain loop, one trial after the other."""
    rows = []
    for name in variants(options):
        wall, work = (median(getattr(each, value) for each in found[name]) for value in ("wall", "work"))
        alone = found[name.removesuffix(of_many(options))]
        hours = median(study_hours(models, each.rates, each.beside) for each in alone)
        hours *= work / median(each.work for each in alone)
        rows.append([name, f"{wall:.0f}", f"{work:.0f}", f"{hours:.1f}"])
    loop = study_hours(models, {model: median(found[plain(model)]) for model in models})
    rows.append(["plain loop, trial after trial", "", "", f"{loop:.0f}"])
    return table(["all of these models", "wall s", "less start-up s", "hours of the study"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser, USUAL)
    parser.add_argument("--models", nargs="+", default=["study"])
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"how many folds (default {FOLDS})")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--loop-epochs", type=int, default=6, help="of the plain loop, so that its start counts little")
    parser.add_argument("--loaders", type=int, default=4, help="processes that read for the plain loop (default 4)")
    parser.add_argument("--precisions", nargs="+", default=["float32", "tf32"], choices=["float32", "tf32", "bf16"])
    parser.add_argument("--per-gpu", type=int, default=1, help="also with so many workers, in the last precision")
    parser.add_argument("--cuda-graphs", action="store_true", help="also with CUDA graphs, in the last precision")
    add_run_flags(parser, repetitions=3)
    add_folder_flag(parser)
    add_save_flag(parser)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_GPU)
        return
    size, models = asked_size(options), select_models(options.models, load_models())
    with temporary_cohort(size, options.folder) as large, temporary_cohort(tiny(size), options.folder) as small:
        found = measured(models, (large, small), options)
    replayed = ""
    if options.cuda_graphs:
        trials = found[f"{options.precisions[-1]}, graphs"][-1].trials
        replayed = f"\n\nReplayed as CUDA graphs:\n\n{of_graphs(models, trials)}"
    publish(
        options,
        f"{size}, {size.tasks} tasks × {options.folds} folds, {options.epochs} epochs; medians of {options.repetitions} "
        f"interleaved repetitions. Bag-steps per second:\n\n{of_models(models, found, of_one_worker(options))}\n\n"
        f"{of_commands(models, found, options)}{replayed}",
    )


if __name__ == "__main__":
    main()
