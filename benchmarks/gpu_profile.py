"""Where a training step of each model spends its time on a GPU: kernels, or waiting for them to be launched.

    python benchmarks/gpu_profile.py [--models m4 mmoe_amil] [--patches 8000] [--width 2048] [--precision tf32] [--save]

For each model: wall milliseconds of a step (forward, loss, backward, Adam), milliseconds of its kernels, the share of the step in
which no kernel runs, and the number of kernels; then the kernels that take longest. Kernels of one stream do not overlap, so
their sum is the time that the GPU works. `--cuda-graphs` profiles each step a second time, replayed as a CUDA graph (forward,
loss and backward). `--members 10` takes the step with a stack of ten trials, as those of ten tasks. `--cpu` counts operator
calls on a CPU instead, and times nothing: it shows that the script works where there is no GPU. Without either it measures
nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from results_file import add_save_flag, publish, table
from torch.profiler import ProfilerActivity, profile

from milbench.registry import load_models, select_models
from milbench.training.cuda_recorder import CudaRecorder
from milbench.training.optimizers import make_optimizer
from milbench.training.precision import float32_products
from milbench.training.step_graphs import StepGraphs
from milbench.training.weights import weights_of
from milbench.trials.recipe import Recipe

TASKS = 10
NO_GPU = (
    "torch sees no GPU here: nothing was measured. Run it on a machine with one, or with --cpu to count operator calls."
)
WARM_UPS, STEPS, TOP = 3, 5, 5
"""Steps before the clock starts, steps in a profile, and kernels that are named."""


class Profile(NamedTuple):
    """Of one step.

    Attributes
    ----------
    wall, kernels : milliseconds; 0 on a CPU.
    n : kernels launched, operator calls on a CPU.
    top : name, milliseconds and number of those that take most, on a CPU of the most frequent.
    """

    wall: float
    kernels: float
    n: float
    top: list[tuple[str, float, float]]

    @property
    def idle(self) -> float:
        """Share of the step in which no kernel runs."""
        return max(0.0, 1 - self.kernels / self.wall)


def step_of(
    name: str, device: torch.device, options: argparse.Namespace, graphs: StepGraphs | None = None
) -> Callable[[], None]:
    """A training step of the trials of one model on one bag; the third time replayed, with graphs."""
    torch.manual_seed(0)
    model = load_models()[name]
    built = model(options.width, TASKS if model.info.tasks == "multi" else 1).train()
    plain = weights_of([built] * options.members, options.precision, device)
    weights = plain if graphs is None else graphs.of(plain)
    optimizer = make_optimizer(weights.named_parameters(), Recipe(), stacked=options.members > 1)
    bag = built.bag_like(torch.randn(options.patches, options.width)).each(lambda tensor: tensor.to(device))
    labels = torch.ones(options.members, 1, built.n_tasks, device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        weights.forward_backward([bag], labels, labels, 1, at_once=options.members, recompute=False)
        optimizer.step()

    return step


def profiled(step: Callable[[], None], device: torch.device, repetitions: int) -> Profile:
    """The step after a warm-up: timed without the profiler, which slows launches, and then looked at with it."""
    walls = []
    for _ in range(WARM_UPS + repetitions):
        torch.cuda.synchronize(device)
        started = perf_counter()
        step()
        torch.cuda.synchronize(device)
        walls.append((perf_counter() - started) * 1e3)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize(device)
    events = [event for event in found.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    each = [(event.key, event.self_device_time_total / 1e3 / STEPS, event.count / STEPS) for event in events]
    return _profile(median(walls[WARM_UPS:]), each)


def replayed(name: str, device: torch.device, options: argparse.Namespace) -> Profile:
    """The step as a CUDA graph, which the warm-up records."""
    recorder = CudaRecorder(device)
    graphs = StepGraphs(recorder)
    with recorder.session():
        found = profiled(step_of(name, device, options, graphs), device, options.repetitions)
    if why := graphs.memory.why_not_more():
        print(f"{name} was not replayed: {why}", file=sys.stderr)
    return found


def counted(step: Callable[[], None]) -> Profile:
    """Operator calls of the step on a CPU, without times."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    events = [event for event in found.key_averages() if event.key.startswith("aten::")]
    return _profile(0.0, [(event.key, 0.0, float(event.count)) for event in events])


def _profile(wall: float, each: list[tuple[str, float, float]]) -> Profile:
    top = sorted(each, key=lambda one: one[1:], reverse=True)[:TOP]
    return Profile(wall, sum(one[1] for one in each), sum(one[2] for one in each), top)


def report(found: dict[str, Profile], options: argparse.Namespace) -> str:
    """The tables."""
    if options.cpu:
        rows = [[name, f"{each.n:,.0f}", each.top[0][0] if each.top else ""] for name, each in found.items()]
        return f"Operator calls of a step on a CPU.\n\n{table(['model', 'operator calls', 'the most frequent'], rows)}"
    head = ["model", "step ms", "kernels ms", "without a kernel", "kernels"]
    rows = [
        [name, f"{each.wall:.2f}", f"{each.kernels:.2f}", f"{each.idle:.0%}", f"{each.n:,.0f}"]
        for name, each in found.items()
    ]
    top = [
        [name, kernel[:60], f"{milliseconds:.2f}", f"{calls:.0f}"]
        for name, each in found.items()
        for kernel, milliseconds, calls in each.top
    ]
    members = f", stacks of {options.members}" if options.members > 1 else ""
    size = f"One bag of {options.patches:,} × {options.width:,}{members}, {options.precision}, {torch.cuda.get_device_name()}."
    return f"{size}\n\n{table(head, rows)}\n\n{table(['model', 'kernel', 'ms per step', 'calls'], top)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["all"])
    parser.add_argument("--patches", type=int, default=8000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--precision", choices=["float32", "tf32", "bf16"], default="float32")
    parser.add_argument("--members", type=int, default=1, help="trials that take the step together (default 1)")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--cuda-graphs", action="store_true", help="profile each step also as a CUDA graph")
    parser.add_argument("--cpu", action="store_true", help="count operator calls on a CPU")
    add_save_flag(parser)
    options = parser.parse_args()
    if options.cpu and options.cuda_graphs:
        parser.error("--cuda-graphs needs a GPU. Leave it or --cpu out.")
    if not options.cpu and not torch.cuda.is_available():
        print(NO_GPU)
        return 0
    device = torch.device("cpu" if options.cpu else "cuda")
    found = {}
    with float32_products(options.precision):
        for name in select_models(options.models, load_models()):
            step = step_of(name, device, options)
            found[name] = counted(step) if options.cpu else profiled(step, device, options.repetitions)
            if options.cuda_graphs:
                found[f"{name}, replayed"] = replayed(name, device, options)
            if device.type == "cuda":
                torch.cuda.empty_cache()
    publish(options, report(found, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
