"""What the whole study would cost: 5 cohorts × 5 folds × (6 models × 10 genes + 3 models) = 1,575 trainings.

python benchmarks/projection.py [--patches 4000] [--width 2048] [--workers 2] [--gpu-timings FILE] [--save FILE]

Seconds of a training step and of an inference are measured here, one thread per process, and multiplied by the slides
of the study; trials are placed on workers longest first, on a GPU with all genes of a fold as one. GPU rows come
from a JSON that `--save` wrote on a machine with a GPU (each trial by itself); without one they are an assumption, and
marked as such: products at an assumed rate, launches shared by the genes of a stack, transfers by all trials of a pass.
"""

from __future__ import annotations

import argparse
import heapq
import json
import platform
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from step_time import make, step_seconds
from torch.utils.flop_counter import FlopCounterMode

from milbench.datasets.tcga import COHORTS
from milbench.models import MILModel
from milbench.registry import load_models, select_models
from milbench.runs.progress import duration
from milbench.trials.recipe import Recipe

FOLDS, GENES = 5, 10
TRAIN, VALIDATION, TEST = 0.64, 0.16, 0.20
"""Shares of the slides in the official splits: a fifth for the test, a fifth of the rest for validation."""

ASSUMED_TFLOPS = 20.0
"""Float32 products that an H100 is assumed to sustain on bags this size: a third of its nominal 67 TFLOP/s."""
ASSUMED_BYTES = 20e9
"""Bytes per second from host to GPU (PCIe 5 in practice); bags are sent as float16."""
ASSUMED_OVERHEAD = 3e-3
"""Seconds of kernel launches and Python a step: some hundred kernels of 10 to 20 µs."""

GPUS = (1, 16)


class Timing(NamedTuple):
    """Seconds of one optimiser step and of one inference, on one bag."""

    step: float
    inference: float


def measured(name: str, options: argparse.Namespace, device: torch.device) -> Timing:
    """Medians on this machine."""
    model, features = make(name, options.width).to(device), torch.randn(options.patches, options.width, device=device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    step_seconds(model, features)
    steps, inferences = [], []
    for _ in range(options.repetitions):
        wait()
        started = perf_counter()
        step_seconds(model.train(), features)
        wait()
        steps.append(perf_counter() - started)
        inferences.append(inference_seconds(model.eval(), features, wait))
    return Timing(median(steps), median(inferences))


def inference_seconds(model: MILModel, features: torch.Tensor, wait: object) -> float:
    """Seconds of one forward."""
    started = perf_counter()
    with torch.no_grad():
        model(features)
    wait()
    return perf_counter() - started


def assumed(name: str, options: argparse.Namespace) -> Timing:
    """What a GPU would need if it sustained the assumed rates: arithmetic, not a measurement."""
    model, features = make(name, options.width), torch.randn(options.patches, options.width)
    counter = FlopCounterMode(display=False)
    with counter:
        step_seconds(model, features)
    step = counter.get_total_flops() / (options.assumed_tflops * 1e12)
    stack = 1 if is_multi(name) else GENES
    shared = ASSUMED_OVERHEAD / stack + features.numel() * 2 / ASSUMED_BYTES / (stack * FOLDS * TRAIN)
    return Timing(step + shared, step / 3 + shared)  # a backward costs two forwards


def is_multi(name: str) -> bool:
    return load_models()[name].info.tasks == "multi"


def trial_seconds(timing: Timing, n_slides: int, epochs: int) -> float:
    """One training: every epoch its steps and the validation, at the end the two sides' predictions."""
    epoch = timing.step * TRAIN * n_slides + timing.inference * VALIDATION * n_slides
    return epochs * epoch + timing.inference * (VALIDATION + TEST) * n_slides


def study(timings: dict[str, Timing], *, stacked: bool = False) -> list[float]:
    """Seconds of what is dealt to the workers: each of the study's trainings, or each stack of the genes of a fold."""
    dealt = []
    for cohort, name in product(COHORTS, timings):
        trials = 1 if is_multi(name) else GENES
        seconds = trial_seconds(timings[name], cohort.n_slides, Recipe().epochs)
        dealt += [trials * seconds] * FOLDS if stacked else [seconds] * FOLDS * trials
    return dealt


def makespan(seconds: list[float], workers: int) -> float:
    """Wall seconds when the longest left always goes to the first free worker."""
    ends = [0.0] * workers
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def read_timings(path: Path, options: argparse.Namespace) -> tuple[str, dict[str, Timing]]:
    """Machine and timings from a file that `--save` wrote."""
    saved = json.loads(path.read_text())
    if (saved["patches"], saved["width"]) != (options.patches, options.width):
        raise SystemExit(f"{path} was measured at {saved['patches']} × {saved['width']}: pass --patches and --width")
    return saved["machine"], {name: Timing(*pair) for name, pair in saved["seconds"].items()}


def save(path: Path, options: argparse.Namespace, machine: str, timings: dict[str, Timing]) -> None:
    content = {"machine": machine, "patches": options.patches, "width": options.width, "seconds": timings}
    path.write_text(json.dumps(content, indent=1) + "\n")


def machine_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU, one thread"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=4000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="processes on the laptop")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--timings", type=Path, help="this machine's timings, measured before")
    parser.add_argument("--gpu-timings", type=Path, help="a GPU's timings, measured there with --device cuda --save")
    parser.add_argument(
        "--assumed-tflops",
        type=float,
        default=ASSUMED_TFLOPS,
        help=f"of a GPU that was not measured (default {ASSUMED_TFLOPS:g}: float32; TF32 and bf16 have more)",
    )
    parser.add_argument("--save", type=Path, help="keep what was measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device, names = torch.device(options.device), select_models(["study"], load_models())
    if options.timings:
        machine, here = read_timings(options.timings, options)
    else:
        machine, here = machine_name(device), {name: measured(name, options, device) for name in names}
    if options.save:
        save(options.save, options, machine, here)
    if options.gpu_timings:
        gpu, there = read_timings(options.gpu_timings, options)
    else:
        gpu, there = "GPU, NOT MEASURED HERE", {name: assumed(name, options) for name in names}
    show(options, machine, here, gpu, there)


def show(
    options: argparse.Namespace, machine: str, here: dict[str, Timing], gpu: str, there: dict[str, Timing]
) -> None:
    print(
        f"bags of {options.patches} × {options.width}, {Recipe().epochs} epochs; seconds of a step and an inference\n"
    )
    print(f"| model | {machine} | | {gpu} | |\n|---|---|---|---|---|")
    for name, (step, inference) in here.items():
        print(f"| {name} | {step:.4f} | {inference:.4f} | {there[name].step:.4f} | {there[name].inference:.4f} |")
    mine, theirs = study(here), study(there, stacked=True)
    print(f"\n{len(mine):,} trainings\n\n| where | worker hours | wall |\n|---|---|---|")
    rows = [(f"this machine, {options.workers} workers", mine, options.workers)]
    rows += [(f"{n} × {gpu}", theirs, n) for n in GPUS]
    for where, seconds, workers in rows:
        print(f"| {where} | {sum(seconds) / 3600:,.1f} | {duration(makespan(seconds, workers))} |")


if __name__ == "__main__":
    main()
