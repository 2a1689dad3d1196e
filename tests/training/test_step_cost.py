"""Step cost: what a step is planned to take is what it takes, alone and in a stack, and no more models go together than fit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from milbench.models import BagOutput, MILModel, build
from milbench.registry import load_models
from milbench.training.activations import ActivationCost, activation_cost, saved_bytes
from milbench.training.followed_cost import HOLES, _together, _trace, step_cost
from milbench.training.live_bytes import LiveBytes, Trace
from milbench.training.step_cost import FollowedCost, StepCost, members_at_once

CPU = torch.device("cpu")

MEASURED = """
import ctypes, gc, sys
from pathlib import Path
import torch
from milbench.machine.allocator import tune_allocator
from milbench.models import build
from milbench.registry import load_models
from milbench.training.followed_cost import step_cost
from milbench.training.weights import weights_of

tune_allocator(from_disk=False)  # as a worker does
name, n_models, n_patches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def status(key):
    return next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))


models = [build(load_models()[name], 256, 1, {"hidden": 256}, seed=seed) for seed in range(n_models)]
planned = step_cost(models[0], torch.device("cpu"), in_stack=True).of(n_patches, n_models)
assert "torch._dynamo" not in sys.modules, "torch's compiler takes a second to import"
weights = weights_of(models, "float32", torch.device("cpu"))
weights.model.train()
targets = torch.zeros(n_models, 1, 1)


def step(bag):
    weights.forward_backward([bag], targets, targets + 1, 1, at_once=n_models, recompute=False)


step(weights.model.bag_like(torch.randn(300, 256)))  # what a process loads once is no part of a step
bag = weights.model.bag_like(torch.randn(n_patches, 256))
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
assert status("VmHWM") < before + 2**20, "the system keeps the former peak"
step(bag)
print(planned, status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells no peak that can be forgotten")
@pytest.mark.parametrize("name", ["max_pooling", "amil"])
def test_a_stack_takes_about_what_is_planned(name: str) -> None:
    """Each of the three models makes results [12000, 256], which alone are 12 MB."""
    ended = subprocess.run([sys.executable, "-c", MEASURED, name, "3", "12000"], capture_output=True, text=True)
    if "the system keeps the former peak" in ended.stderr or "clear_refs" in ended.stderr:
        pytest.skip(
            "the peak of a process cannot be set back here (/proc/self/clear_refs), so a step's own is not known"
        )
    assert ended.returncode == 0, ended.stderr
    planned, taken = map(int, ended.stdout.split())
    assert taken > 3 * 12_000 * 256 * 4, "at least one result of all patches and models"
    assert taken <= planned * 1.1 + 40e6
    assert planned <= taken * 2 + 40e6


class OneProduct(MILModel):
    """Makes [N, 48] for each bag, its rectified form, and the gradients of both in the backward."""

    def __init__(self, in_features: int, n_outputs: int) -> None:
        super().__init__(in_features, n_outputs)
        self.layer = nn.Linear(in_features, 48)

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(torch.relu(self.layer(features)).mean().view(1), None, {})


def test_a_stack_is_planned_by_the_results_that_live_at_once() -> None:
    cost = step_cost(OneProduct(64, 1), CPU, in_stack=True)
    a_result = 10_000 * 48 * 4
    # the rectified result, its gradient and that of the product; the bag that all models share is not counted
    assert 2 * a_result * HOLES <= cost.in_stack.of(10_000) <= 4 * a_result * HOLES


def test_trials_with_bags_of_their_own_need_a_copy_of_each() -> None:
    model = build(load_models()["amil"], 256, 1, {"hidden": 32}, seed=0)
    shared, own = (step_cost(model, CPU, in_stack=True, own_bags=each).in_stack.of(8000) for each in (False, True))
    assert own - shared >= 8000 * 256 * 4


def test_a_gpu_takes_whole_results_for_a_single_model_too() -> None:
    model = build(load_models()["max_pooling"], 64, 1, {"hidden": 256}, seed=0)
    cost = step_cost(model, torch.device("cuda"), in_stack=False)
    assert cost.alone.of(8000) >= 2 * 8000 * 256 * 4
    assert cost.alone.of(8000) > step_cost(model, CPU, in_stack=False).alone.of(8000)


def test_planning_changes_neither_the_model_nor_what_is_drawn_next() -> None:
    model = build(load_models()["amil"], 64, 1, {}, seed=0).eval()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    random = torch.get_rng_state()
    first, second = (step_cost(model, CPU, in_stack=True) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.training
    assert all(each.grad is None for each in model.parameters())
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_live_bytes_are_those_of_results_that_live_at_once() -> None:
    x = torch.ones(1000)
    with LiveBytes() as live:
        a = x + 1
        b = a + 1
        del a
        c = b + 1
    assert live.trace.sizes == [4000] * 3
    assert live.trace.events == [0, 1, 0, 2]
    assert live.trace.most() == 8000
    assert c is not b


def test_views_of_what_was_there_before_are_not_counted() -> None:
    x = torch.ones(1000)
    with LiveBytes([x]) as live:
        seen = x.view(10, 100)
    assert len(seen) == 10
    assert live.trace.sizes == []


def test_a_trace_tells_of_a_larger_bag_what_grows_even_if_it_is_not_the_peak_of_a_small_one() -> None:
    events = [0, 0, 1, 1]  # something fixed, then something that grows
    small, large = Trace([1000, 10], events), Trace([1000, 20], events)
    assert (small.most(), large.most()) == (1000, 1000)
    expected = small.at(10, large, 20, 5000)
    assert expected is not None
    assert expected.most() == 5000
    assert small.at(10, Trace([1000], [0, 0]), 20, 5000) is None, "other operations"


def test_a_followed_cost_is_on_lines_between_points_and_proportional_beyond() -> None:
    cost = FollowedCost(((100, 1000.0), (300, 2000.0)))
    assert [cost.of(n) for n in (1, 100, 200, 300, 600)] == [1000, 1000, 1500, 2000, 4000]


class TwoWays(MILModel):
    """Small bags go another way, which holds more than a bag of 900 patches does: as experts side by side on small bags alone."""

    def __init__(self) -> None:
        super().__init__(8, 1)
        self.inner, self.head = nn.Linear(8, 32), nn.Linear(32, 1)

    def forward(self, features: Tensor) -> BagOutput:
        hidden = self.inner(features).tanh()  # [N, 32]
        if len(features) <= 400:
            hidden = hidden.repeat(8, 1).exp()  # [8N, 32]
        return BagOutput(self.head(hidden.mean(0)), None, {})


def held(model: MILModel, n_patches: int) -> float:
    """What a member of a stack holds, by steps of that very bag."""
    trace, gradients = _trace(model, _together, 2, n_patches)
    return (trace.most() - gradients) / 2


@pytest.mark.parametrize("n_patches", [225, 900, 3600, 14_400])
def test_a_way_of_small_bags_says_nothing_of_large_ones(n_patches: int) -> None:
    model = TwoWays()
    cost = step_cost(model, CPU, in_stack=True)
    assert held(model, 225) > held(model, 900), "the case"
    wanted = max(held(model, 225), held(model, n_patches))
    assert cost.in_stack.of(n_patches) == pytest.approx(HOLES * wanted, rel=0.02)
    saved = [saved_bytes(model, 8, n) for n in (225, n_patches)]
    assert activation_cost(model).of(n_patches) == pytest.approx(max(saved), rel=0.02)


@pytest.mark.parametrize("n_patches", [225, 900, 3600, 14_400])
@pytest.mark.parametrize("hidden", [64, 160])
def test_experts_side_by_side_on_small_bags_hide_no_memory_of_large_ones(hidden: int, n_patches: int) -> None:
    """A cost of M4 fell with the number of patches, to less than nothing."""
    model = build(load_models()["m4"], 64, 3, {"hidden": hidden}, seed=0)
    assert activation_cost(model).of(n_patches) >= 0.85 * saved_bytes(model, 64, n_patches)
    assert step_cost(model, CPU, in_stack=True).in_stack.of(n_patches) >= HOLES * 0.85 * held(model, n_patches)


class Recurrent(MILModel):
    """An LSTM over all patches, of which `torch.func.vmap` knows nothing."""

    def __init__(self) -> None:
        super().__init__(8, 1)
        self.inner, self.head = nn.LSTM(8, 8), nn.Linear(8, 1)

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(self.head(self.inner(features)[0].mean(0)), None, {})


@pytest.mark.parametrize("own_bags", [False, True])
def test_a_model_that_takes_no_step_in_a_stack_has_the_limit_of_a_single_one(*, own_bags: bool) -> None:
    model = Recurrent()
    alone = step_cost(model, CPU, in_stack=False)
    assert alone.of(900, 1) > 900 * 4 * 8 * 4, "four gates of each patch"
    assert step_cost(model, CPU, in_stack=True, own_bags=own_bags) == alone
    on_gpu = step_cost(model, torch.device("cuda"), in_stack=True, own_bags=own_bags)
    assert on_gpu.of(900, 1) == activation_cost(model).of(900)


LINES = st.builds(ActivationCost, st.integers(0, 10**8).map(float), st.floats(0, 10**6), st.floats(0, 10**8))
COSTS = st.builds(StepCost, LINES, LINES)
PATCHES, MEMBERS, BUDGETS = st.integers(1, 10**5), st.integers(1, 64), st.integers(1, 10**12)


@given(COSTS, PATCHES, MEMBERS, BUDGETS)
def test_as_many_members_run_together_as_fit_and_one_alone_recomputes_where_none_does(
    cost: StepCost, n_patches: int, n_members: int, budget: int
) -> None:
    at_once, recompute = members_at_once(cost, n_patches, n_members, budget)
    assert 1 <= at_once <= n_members
    assert recompute == (at_once == 1 and cost.of(n_patches, 1) > budget)
    assert recompute or cost.of(n_patches, at_once) <= budget
    assert at_once == n_members or cost.of(n_patches, at_once + 1) > budget


@given(COSTS, PATCHES, MEMBERS, BUDGETS, st.integers(0, 10**12))
def test_a_larger_budget_never_lets_fewer_run(
    cost: StepCost, n_patches: int, n_members: int, budget: int, more: int
) -> None:
    at_once, recompute = members_at_once(cost, n_patches, n_members, budget)
    with_more, still = members_at_once(cost, n_patches, n_members, budget + more)
    assert with_more >= at_once
    assert still <= recompute


@given(COSTS, PATCHES, MEMBERS)
def test_a_budget_of_0_is_no_limit(cost: StepCost, n_patches: int, n_members: int) -> None:
    assert members_at_once(cost, n_patches, n_members, 0) == (n_members, False)
