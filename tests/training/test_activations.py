"""Activations: what a step keeps is counted right, and a step that keeps less computes the same bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from layouts_for_tests import answer, inputs
from torch import Tensor, nn
from torch.func import functional_call

from milbench.errors import BagError
from milbench.models import BagOutput, MILModel
from milbench.registry import load_models
from milbench.training.activations import (
    IN_FLIGHT,
    activation_cost,
    is_out_of_memory,
    recomputing,
    saved_bytes,
)
from milbench.training.precision import arithmetic, as_float32
from milbench.trials.arguments import constructor_arguments
from milbench_baselines.layers.small_bags import MOST, WIDEST

CPU = torch.device("cpu")
SMALL = {"hidden": 32, "attention": 16, "landmarks": 8, "heads": 2, "feed_forward": 32}
MODELS = {name: model for name, model in load_models().items() if model.__module__.startswith("milbench_baselines")}


class Block(nn.Module):
    """Two results, a keyword, and dropout as a function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(0.3), nn.LayerNorm(width))

    def forward(self, x: Tensor, *, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        hidden = nn.functional.dropout(self.inner(x) * scale, 0.2, self.training)
        return x + hidden, torch.softmax(hidden.mean(1), 0)


class ThirdParty(MILModel):
    """A model as users write them: blocks in a list and in a dictionary, one of them called twice."""

    def __init__(self, in_features: int = 64, n_tasks: int = 2) -> None:
        super().__init__(in_features, n_tasks)
        self.blocks = nn.ModuleList(Block(in_features) for _ in range(2))
        self.named = nn.ModuleDict({"last": Block(in_features)})
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(in_features, n_tasks))

    def forward(self, features: Tensor) -> BagOutput:
        for block in (*self.blocks, self.blocks[0]):
            features, _ = block(features, scale=0.5)
        features, weights = self.named["last"](features)
        return BagOutput(self.head(weights @ features), weights[None], {})


class Attention(nn.Module):
    """Attention of torch's own in a part, which asks whether queries, keys and values are one tensor. They are given in both ways."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, dropout=0.25)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return x + self.attention(x, x, x)[0] + self.attention(x, value=x, key=x)[0]


class TorchsAttention(MILModel):
    """A model with layers of torch's own that have parts."""

    def __init__(self, in_features: int = 64, n_tasks: int = 2) -> None:
        super().__init__(in_features, n_tasks)
        self.embed, self.head = nn.Linear(in_features, 32), nn.Linear(32, n_tasks)
        self.encoder, self.attention = nn.TransformerEncoderLayer(32, 2, 32, batch_first=True), Attention(32)

    def forward(self, features: Tensor) -> BagOutput:
        h = self.attention(self.encoder(self.embed(features)[None])[0])
        return BagOutput(self.head(h.mean(0)), None, {})


OF_USERS: dict[str, Callable[[], MILModel]] = {"third-party": ThirdParty, "torch's attention": TorchsAttention}


def make(name: str, **wider: int) -> MILModel:
    """A small copy in train mode, dropout as the model has it."""
    torch.manual_seed(0)
    if name in OF_USERS:
        return OF_USERS[name]().train()
    model = MODELS[name]
    known = constructor_arguments(model)
    return model(
        64, 3 if model.info.tasks == "multi" else 1, **{k: v for k, v in {**SMALL, **wider}.items() if k in known}
    ).train()


def bag(n_patches: int = 30) -> Tensor:
    return torch.randn(n_patches, 64, generator=torch.Generator().manual_seed(1))


def loss_of(model: MILModel, precision: str = "float32") -> Tensor:
    with arithmetic(precision, CPU):
        output = answer(model, bag())
    targets = torch.ones(model.n_tasks)
    return model.loss(as_float32(output), targets, torch.ones_like(targets))


def gradients(model: MILModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def step(
    model: MILModel, around: AbstractContextManager[None], precision: str = "float32", *, backward_inside: bool = True
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Loss, gradients by name, and the random state that the step leaves."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(7)
    with around:
        loss = loss_of(model, precision)
        if backward_inside:
            loss.backward()
    if not backward_inside:
        loss.backward()
    return loss.detach(), gradients(model), torch.get_rng_state()


def assert_same(one: tuple[Tensor, dict[str, Tensor], Tensor], other: tuple[Tensor, dict[str, Tensor], Tensor]) -> None:
    assert torch.equal(one[0], other[0])
    assert one[1].keys() == other[1].keys()
    assert one[1]
    for name, gradient in one[1].items():
        assert torch.equal(gradient, other[1][name]), name
    assert torch.equal(one[2], other[2])


# ---- recomputing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backward_inside", [True, False])
@pytest.mark.parametrize("name", [*MODELS, *OF_USERS])
def test_a_recomputing_step_is_the_plain_step_bit_for_bit(name: str, *, backward_inside: bool) -> None:
    model = make(name)
    plain = step(model, nullcontext())
    assert_same(step(model, recomputing(model), backward_inside=backward_inside), plain)


@pytest.mark.parametrize("backward_inside", [True, False])
@pytest.mark.parametrize("name", ["mmoe_amil", "m4", "transmil", "third-party"])
def test_a_recomputing_step_in_bf16_is_the_plain_one_too(name: str, *, backward_inside: bool) -> None:
    model = make(name)
    plain = step(model, nullcontext(), "bf16")
    assert_same(step(model, recomputing(model), "bf16", backward_inside=backward_inside), plain)


def test_dropout_is_really_drawn_in_these_comparisons() -> None:
    model = make("third-party")
    loss = step(model, nullcontext())[0]
    assert not torch.equal(loss, step(model.eval(), nullcontext())[0])


@pytest.mark.parametrize("name", ["mmoe_amil", "third-party"])
def test_weights_given_by_a_functional_call_are_those_that_count(name: str) -> None:
    model = make(name)

    def of(around: AbstractContextManager[None]) -> tuple[Tensor, ...]:
        weights = {n: (p.detach() + 0.01).requires_grad_() for n, p in model.named_parameters()}
        torch.manual_seed(7)
        with around:
            output = functional_call(model, weights, inputs(model, bag()))
        # outside: the model has its own weights back, and the parts are to be computed with the other ones
        return torch.autograd.grad(output.logits.sum(), list(weights.values()), allow_unused=True)

    plain, recomputed = of(nullcontext()), of(recomputing(model))
    assert any(gradient is not None for gradient in plain)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))


def test_a_mode_that_changes_before_the_backward_does_not_matter() -> None:
    model = make("third-party")
    plain = step(model, nullcontext())
    model.zero_grad(set_to_none=True)
    torch.manual_seed(7)
    with recomputing(model):
        loss = loss_of(model)
    model.eval()
    loss.backward()
    assert all(torch.equal(gradient, plain[1][name]) for name, gradient in gradients(model).items())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["m4", "mmoe_amil", "mmoe_mp_amil", "transmil"])
def test_recomputing_keeps_less(name: str) -> None:
    model = MODELS[name](64, 10 if MODELS[name].info.tasks == "multi" else 1)
    assert saved_bytes(model, 64, 900, recomputed=True) < 0.75 * saved_bytes(model, 64, 900)


def state_of(model: nn.Module) -> list[tuple[object, ...]]:
    """What `recomputing` could leave behind: attributes, weights and hooks, by identity, and modes."""
    return [
        (name, sorted(module.__dict__), module.forward.__func__, module.training,
         [id(p) for p in module.parameters()], [len(value) for key, value in module.__dict__.items() if "hooks" in key])
        for name, module in model.named_modules()
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["m4", "transmil", "third-party"])
def test_a_model_is_as_before_after_recomputing(name: str) -> None:
    model = make(name)
    before = state_of(model)
    with recomputing(model):
        loss = loss_of(model)
        assert state_of_forwards(model)
    assert state_of(model) == before
    loss.backward()
    assert state_of(model) == before


def state_of_forwards(model: nn.Module) -> list[str]:
    """Modules with a forward of their own."""
    return [name for name, module in model.named_modules() if "forward" in module.__dict__]


def test_a_model_is_as_before_after_an_error_inside() -> None:
    model = make("third-party")
    before = state_of(model)
    with recomputing(model), pytest.raises(BagError):
        model(torch.ones(3, 5))
    with pytest.raises(ZeroDivisionError), recomputing(model):
        raise ZeroDivisionError
    assert state_of(model) == before


def test_a_model_is_as_before_after_an_error_while_a_part_is_computed_anew() -> None:
    model = make("third-party")
    before = state_of(model)
    with recomputing(model):
        loss = loss_of(model)
    fail = model.named["last"].inner[0].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss.backward()
    fail.remove()
    assert state_of(model) == before
    assert_same(step(model, recomputing(model)), step(model, nullcontext()))


def test_a_forward_that_a_module_had_of_its_own_comes_back() -> None:
    model = make("third-party")
    block = model.blocks[0]
    own = block.forward
    block.__dict__["forward"] = own
    with recomputing(model):
        assert block.forward is not own
    assert block.__dict__["forward"] is own


def test_without_gradients_nothing_is_recomputed() -> None:
    model = make("amil").eval()
    with torch.no_grad():
        plain = answer(model, bag()).logits
        with recomputing(model):
            assert torch.equal(answer(model, bag()).logits, plain)


# ---- cost ----------------------------------------------------------------------------------------


class OneLayer(MILModel):
    """Keeps one tensor [N, 48]: the ReLU's result. The layer's input is the bag, a mean needs its size alone."""

    def __init__(self) -> None:
        super().__init__(64, 1)
        self.layer = nn.Linear(64, 48)

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(torch.relu(self.layer(features)).mean().view(1), None, {})


def test_the_cost_of_one_layer_is_that_of_its_result() -> None:
    cost = activation_cost(OneLayer())
    assert cost.per_patch == pytest.approx(48 * 4 * (1 + IN_FLIGHT), abs=0.01)
    assert 0 <= cost.fixed < 200


@pytest.mark.parametrize("name", [*MODELS, "third-party"])
def test_a_line_through_two_small_bags_tells_of_a_large_one(name: str) -> None:
    model = make(name, hidden=WIDEST + 16)  # takes all these bags in one way
    assert activation_cost(model).of(3600) == pytest.approx(saved_bytes(model, 64, 3600), rel=0.1)


@pytest.mark.parametrize("n_patches", [500, MOST, MOST + 1])
@pytest.mark.parametrize("name", ["mean_pooling", "max_pooling", "amil", "dsmil", "dtfd_mil"])
def test_the_line_is_not_below_bags_that_narrow_models_take_as_a_whole_or_in_blocks(name: str, n_patches: int) -> None:
    model = make(name)
    assert activation_cost(model).of(n_patches) >= 0.98 * saved_bytes(model, 64, n_patches)


@pytest.mark.parametrize("name", [*MODELS, "third-party"])
def test_asking_for_the_cost_changes_neither_the_model_nor_what_is_drawn_next(name: str) -> None:
    model = make(name).eval()
    loss_of(model).backward()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    former, before = gradients(model), state_of(model)
    random = torch.get_rng_state()
    activation_cost(model)
    saved_bytes(model, 64, 50, recomputed=True)
    assert torch.equal(torch.get_rng_state(), random)
    assert state_of(model) == before
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(value, former[key]) for key, value in gradients(model).items())


def test_the_cost_can_be_asked_for_where_gradients_are_off() -> None:
    model = make("amil")
    expected = activation_cost(model)
    with torch.no_grad():
        assert activation_cost(model) == expected


# ---- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(2**50), lambda: torch.zeros(2**50), lambda: np.empty(2**50), lambda: bytes(2**60)]
)
def test_memory_that_this_machine_has_not_got_is_recognised(allocate: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        allocate()
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to "
                     "allocate 4503599627370496 bytes."),
        MemoryError(),
    ],
)  # fmt: skip
def test_memory_that_runs_out_elsewhere_is_recognised(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (30x64 and 32x1)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("there is not enough memory of this patient in the cohort"),
        ValueError("DefaultCPUAllocator: can't allocate memory"),
        OSError(28, "No space left on device"),
        KeyboardInterrupt(),
    ],
)
def test_any_other_error_is_not_one_of_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)
