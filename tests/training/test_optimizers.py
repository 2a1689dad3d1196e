"""Lookahead around RAdam: the official trajectory, its two halves, and resuming."""

import copy
import json

import numpy as np
import pytest
import torch
from places import GOLDEN

from milbench.errors import UsageError
from milbench.training.optimizers import AdamInOneCall, LookaheadRAdam, clip_each_part, make_optimizer
from milbench.trials.recipe import Recipe


@pytest.mark.parametrize(("lr", "decay"), [("0.0002", "1e-05"), ("0.01", "0.1")])
def test_the_trajectory_is_the_official_one(lr, decay):
    with np.load(GOLDEN / "opt_lookahead_radam.npz") as golden:
        meta = json.loads(str(golden["meta"]))
        expected = {name: torch.from_numpy(golden[f"{name}/{lr}_{decay}"]) for name in "wb"}
    w, b, gradients = _official_start()
    groups = [{"params": [b], "weight_decay": 0.0}, {"params": [w], "weight_decay": float(decay)}]
    optimizer = LookaheadRAdam(
        groups, lr=float(lr), betas=tuple(meta["betas"]), eps=meta["eps"],
        sync_period=meta["k"], slow_share=meta["alpha"],
    )  # fmt: skip
    for step, (w.grad, b.grad) in enumerate(gradients):
        optimizer.step()
        torch.testing.assert_close(w.detach(), expected["w"][step], atol=1e-6, rtol=0)
        torch.testing.assert_close(b.detach(), expected["b"][step], atol=1e-6, rtol=0)


def test_the_first_pull_is_at_the_twelfth_step():
    plain, pulled = ([torch.nn.Parameter(torch.ones(3))] for _ in range(2))
    optimizers = torch.optim.RAdam(plain, lr=0.1), LookaheadRAdam(pulled, lr=0.1)
    for step in range(1, 13):
        for (parameter,), optimizer in zip((plain, pulled), optimizers, strict=True):
            parameter.grad = torch.tensor([1.0, -1.0, 0.5])
            optimizer.step()
        if step == 6:
            slow = plain[0].detach().clone()
        if step < 12:
            assert torch.equal(plain[0], pulled[0])
    torch.testing.assert_close(pulled[0].detach(), (slow + plain[0].detach()) / 2)


@pytest.mark.parametrize("interrupted_after", [3, 8, 12])
def test_a_resumed_optimiser_goes_on_as_if_never_stopped(interrupted_after):
    w, b, gradients = _official_start()
    through = LookaheadRAdam([w, b], lr=0.01, weight_decay=0.1)
    for step, (w.grad, b.grad) in enumerate(gradients):
        through.step()
        if step + 1 == interrupted_after:
            w2, b2 = (torch.nn.Parameter(p.detach().clone()) for p in (w, b))
            resumed = LookaheadRAdam([w2, b2], lr=0.01, weight_decay=0.1)
            resumed.load_state_dict(copy.deepcopy(through.state_dict()))  # torch shares the tensors
    for w2.grad, b2.grad in gradients[interrupted_after:]:
        resumed.step()
    assert torch.equal(w, w2)
    assert torch.equal(b, b2)


def test_a_parameter_without_gradient_stays():
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = LookaheadRAdam([used, unused], lr=0.1, weight_decay=0.1)
    for _ in range(12):
        used.grad = torch.ones(2)
        optimizer.step()
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


@pytest.mark.parametrize("options", [{"sync_period": 0}, {"slow_share": 0.0}, {"slow_share": 1.5}])
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        LookaheadRAdam([torch.nn.Parameter(torch.ones(1))], **options)


def _official_start():
    """w [4, 3], b [3] and twenty steps' gradients, by the rule in the golden file's meta."""
    rng = np.random.default_rng([0, 424242])
    w, b, gw, gb = (rng.standard_normal(s).astype(np.float32) for s in ((4, 3), (3,), (20, 4, 3), (20, 3)))
    gradients = [(torch.from_numpy(0.1 * x), torch.from_numpy(0.1 * y)) for x, y in zip(gw, gb, strict=True)]
    return torch.nn.Parameter(torch.from_numpy(w)), torch.nn.Parameter(torch.from_numpy(b)), gradients


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_in_one_call_is_torchs_own_to_the_bit_also_where_some_parameters_sit_steps_out(optimizer: str) -> None:
    generator = torch.Generator().manual_seed(4)
    starts = [torch.randn(shape, generator=generator) for shape in ((4, 2), (1,), (3,), ())]
    recipe = Recipe(optimizer=optimizer, lr=0.05, betas=(0.8, 0.95), weight_decay=0.3, decay_vectors=False)
    ours, theirs = ({str(i): start.clone().requires_grad_() for i, start in enumerate(starts)} for _ in range(2))
    mine = make_optimizer(ours, recipe)
    assert isinstance(mine, AdamInOneCall)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("milbench.training.optimizers.HAS_ONE_CALL", False)
        plain = make_optimizer(theirs, recipe)
    assert type(plain) is (torch.optim.AdamW if optimizer == "adamw" else torch.optim.Adam)
    sits_out = {1: {"1"}, 4: {"0", "2"}, 5: {"2"}, 7: {"0", "1", "2", "3"}}
    for step in range(10):
        for group in (*mine.param_groups, *plain.param_groups):
            group["lr"] = 0.05 / (step + 1)
        for name in ours:
            gradient = torch.randn(ours[name].shape, generator=generator)
            ours[name].grad, theirs[name].grad = (
                (None, None) if name in sits_out.get(step, ()) else (gradient, gradient.clone())
            )
        mine.step()
        plain.step()
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), (step, name)
    for name in ours:
        for key, value in plain.state[theirs[name]].items():
            assert torch.equal(mine.state[ours[name]][key], value), (name, key)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_copy_of_adam_in_one_call_goes_on_as_it_does(optimizer: str) -> None:
    weight = torch.ones(3).requires_grad_()
    made = make_optimizer({"w": weight}, Recipe(optimizer=optimizer, lr=0.1, weight_decay=0.3))
    weight.grad = torch.arange(3.0)
    made.step()
    copied = copy.deepcopy(made)
    (other,) = copied.param_groups[0]["params"]
    other.grad = weight.grad.clone()
    made.step()
    copied.step()
    assert torch.equal(other, weight)
    assert made.param_groups[0]["decoupled_weight_decay"] == (
        optimizer == "adamw"
    )  # torch's own reads it from a checkpoint


@pytest.mark.parametrize("decay_vectors", [True, False])
def test_adamw_of_a_stack_is_torchs_own_of_each_model(decay_vectors: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    starts = {"w": torch.randn(3, 4, 2, generator=generator), "b": torch.randn(3, 2, generator=generator)}
    recipe = Recipe(optimizer="adamw", lr=0.05, betas=(0.8, 0.95), weight_decay=0.3, decay_vectors=decay_vectors)
    stack = {name: start.clone().requires_grad_() for name, start in starts.items()}
    ours, theirs, plain = make_optimizer(stack, recipe, stacked=True), [], []
    for member in range(3):
        w, b = (starts[name][member].clone().requires_grad_() for name in ("w", "b"))
        groups = [{"params": [w]}, {"params": [b], "weight_decay": 0.3 if decay_vectors else 0.0}]
        theirs.append(torch.optim.AdamW(groups, lr=0.05, betas=(0.8, 0.95), weight_decay=0.3, foreach=False))
        plain.append({"w": w, "b": b})
    for _ in range(12):
        for name, start in starts.items():
            stack[name].grad = torch.randn(start.shape, generator=generator)
            for member in range(3):
                plain[member][name].grad = stack[name].grad[member].clone()
        for optimizer in (ours, *theirs):
            optimizer.step()
    for member in range(3):
        for name in starts:
            torch.testing.assert_close(stack[name][member], plain[member][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("decay_vectors", [True, False])
def test_rows_with_rates_and_decays_of_their_own_move_as_torch_moves_each_model(
    optimizer: str, decay_vectors: bool
) -> None:
    generator = torch.Generator().manual_seed(4)
    own = ((0.05, 0.3), (0.001, 0.0), (0.2, 0.02))
    recipes = [
        Recipe(optimizer=optimizer, lr=lr, betas=(0.8, 0.95), weight_decay=decay, decay_vectors=decay_vectors)
        for lr, decay in own
    ]
    shapes = {"w": (3, 4, 2), "b": (3, 2), "scale": (3,)}
    starts = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    stack = {name: start.clone().requires_grad_() for name, start in starts.items()}
    plain = [{name: start[row].clone().requires_grad_() for name, start in starts.items()} for row in range(3)]
    ours = make_optimizer(stack, recipes[0], stacked=True, by_row=recipes)
    make = torch.optim.AdamW if optimizer == "adamw" else torch.optim.Adam
    theirs = []
    for model, (lr, decay) in zip(plain, own, strict=True):
        groups = [
            {"params": [model["w"]]},
            {"params": [model["b"], model["scale"]], "weight_decay": decay if decay_vectors else 0.0},
        ]
        theirs.append(make(groups, lr=lr, betas=(0.8, 0.95), weight_decay=decay, foreach=False))
    for _ in range(12):
        for name, start in starts.items():
            stack[name].grad = torch.randn(start.shape, generator=generator)
            for row, model in enumerate(plain):
                model[name].grad = stack[name].grad[row].clone()
        for each in (ours, *theirs):
            each.step()
    for row, model in enumerate(plain):
        for name, values in model.items():
            torch.testing.assert_close(stack[name][row], values, rtol=1e-5, atol=1e-6)


def test_a_row_follows_the_rate_that_its_group_is_given_between_two_steps() -> None:
    recipes = [Recipe(lr=0.1, weight_decay=0.0), Recipe(lr=0.2, weight_decay=0.0)]
    moved, unused = torch.zeros(2, 3, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = make_optimizer({"moved": moved, "unused": unused}, recipes[0], stacked=True, by_row=recipes)
    for rates in ([0.1, 0.2], [0.0, 0.4]):
        optimizer.param_groups[0]["lr"] = rates
        moved.grad = torch.ones(2, 3)
        optimizer.step()
    torch.testing.assert_close(moved[:, 0], torch.tensor([-0.1, -0.6]))
    assert torch.equal(unused, torch.ones(2))


def test_lookahead_is_refused_for_rows_with_rates_of_their_own() -> None:
    recipes = [Recipe(optimizer="lookahead_radam", lr=lr) for lr in (0.1, 0.2)]
    with pytest.raises(ValueError, match="one learning rate for all models of a stack"):
        make_optimizer({"w": torch.zeros(2, 3, requires_grad=True)}, recipes[0], stacked=True, by_row=recipes)


def test_a_scalar_of_a_part_is_clipped_with_it() -> None:
    scalar, matrix = torch.zeros((), requires_grad=True), torch.zeros(2, 2, requires_grad=True)
    scalar.grad, matrix.grad = torch.tensor(3.0), torch.full((2, 2), 2.0)
    clip_each_part({"part.temperature": scalar, "part.weight": matrix}, 1.0)
    assert scalar.grad.item() ** 2 + matrix.grad.square().sum().item() == pytest.approx(1, abs=1e-5)


def test_lookahead_leaves_alone_what_never_had_a_gradient() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = make_optimizer({"used": used, "unused": unused}, Recipe(optimizer="lookahead_radam", lr=0.1))
    optimizer.state[unused] = {}  # as after a checkpoint
    for _ in range(7):
        used.grad = torch.ones(2)
        optimizer.step()
    assert torch.equal(unused, torch.ones(2))
    assert used[0].item() < 1
