"""Shared bottom, MoE and PLE: the official code's numbers on plain vectors, and what holds with AMIL's experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from baselines_for_tests import bag, make
from golden_rules import Golden
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy
from vmap_rules import assert_many_bags_equal_one_by_one

from milbench.errors import CheckpointError, UsageError
from milbench.models import MILModel
from milbench_baselines import moe, ple, shared_bottom
from milbench_baselines.layers import deepctr
from milbench_baselines.layers.checkpoint import shape_of
from milbench_baselines.layers.dense import DenseExpert
from milbench_baselines.layers.gates import Extraction, Gates
from milbench_baselines.mmoe import MMoE

Weights = Mapping[str, Tensor]


class PlainMMoE(MMoE):
    """MMoE's own mixing code with dense experts on the mean patch."""

    @staticmethod
    def official_expert(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
        raise NotImplementedError

    @staticmethod
    def official_attention() -> str:
        raise NotImplementedError


def mmoe(state_dict: Weights) -> MILModel:
    """MMoE on the mean patch with the weights of an official `MMOE`."""
    n_tasks, sizes = deepctr.n_tasks(state_dict), deepctr.widths(state_dict, "expert_dnn.0")
    hidden = shape_of(state_dict, name)[0] if (name := "gate_dnn.0.linears.0.weight") in state_dict else 0
    experts = nn.ModuleList(DenseExpert(*sizes) for _ in range(deepctr.count(state_dict, "expert_dnn")))
    options = {"hidden": sizes[-1], "tower": deepctr.tower_width(state_dict), "tower_dropout": 0.0}
    model = PlainMMoE(sizes[0], n_tasks, experts, gate_hidden=hidden, **options)  # type: ignore[arg-type]
    names, gates = deepctr.tower_names(n_tasks), []
    for e in range(len(experts)):
        names |= deepctr.dense_names(f"expert_dnn.{e}", f"experts.{e}.dense", len(sizes) - 1)
    for t in range(n_tasks):
        gates.append(f"gate_dnn_final_layer.{t}")
        names |= deepctr.gate_names(f"gate_dnn.{t}", gates[-1], f"gates.{t}", has_hidden_layer=hidden > 0)
    return deepctr.load(model, state_dict, names, gates)


OFFICIAL: dict[str, Callable[[Weights], MILModel]] = {
    "sharedbottom_vec": shared_bottom.from_official,
    "omoe_vec": moe.from_official,
    "omoe_vec_lin": moe.from_official,
    "mmoe_vec": mmoe,
    "mmoe_vec_lin": mmoe,
    "ple_l1_s1": ple.from_official,
    "ple_l2": ple.from_official,
    "ple_l3_nogatedim": ple.from_official,
}
CASES = [
    (file, n) for file in OFFICIAL for n in (1, 2, 7, 32) if not (n == 1 and file in ("ple_l2", "ple_l3_nogatedim"))
]
TYPES = ((torch.float32, "", 1e-5), (torch.float64, "64", 1e-10))


def probabilities(model: MILModel, vectors: Tensor) -> Tensor:
    """Probabilities [rows, T]; a vector is a bag of one patch."""
    return torch.stack([model(vector[None]).logits.sigmoid() for vector in vectors])


@pytest.mark.parametrize(("file", "n"), CASES)
def test_probabilities_are_the_official_ones(file: str, n: int) -> None:
    golden = Golden(file)
    for dtype, key, tolerance in TYPES:
        model = OFFICIAL[file](golden.state_dict()).to(dtype)
        ours = probabilities(model, golden.bag(n).to(dtype)).detach()
        torch.testing.assert_close(
            ours.squeeze(), torch.from_numpy(golden[f"y{key}/{n}"]).squeeze(), atol=tolerance, rtol=0
        )


@pytest.mark.parametrize("file", OFFICIAL)
@pytest.mark.parametrize("n", [7, 32])
def test_loss_and_gradients_are_the_official_ones(file: str, n: int) -> None:
    golden = Golden(file)
    for dtype, key, tolerance in TYPES:
        model = OFFICIAL[file](golden.state_dict()).to(dtype)
        labels = (torch.arange(n)[:, None] + torch.arange(3) + 1).to(dtype) % 2
        vectors = golden.bag(n).to(dtype)
        loss = sum(model.loss(model(v[None]), y, torch.ones_like(y)) for v, y in zip(vectors, labels, strict=True))
        assert loss.item() == pytest.approx(golden[f"loss{key}/{n}"].item(), rel=tolerance)  # type: ignore[union-attr]
        summed = binary_cross_entropy(probabilities(model, vectors), labels, reduction="sum")
        torch.testing.assert_close(loss, summed, rtol=tolerance, atol=tolerance)
        loss.backward()  # type: ignore[union-attr]
        names = official_names(file)
        ours = dict.fromkeys(golden.names) | {names[own]: p.grad for own, p in model.named_parameters() if own in names}
        tag = f"{n}_f64" if key else f"{n}"
        assert golden.gradient_error(tag, ours) < tolerance


def official_names(file: str) -> dict[str, str]:
    """Our parameter name -> official name; a gate's bias, which is our own, has none."""
    golden = Golden(file)
    marked = {name: torch.full_like(t, i + 1) for i, (name, t) in enumerate(golden.state_dict().items())}
    marks = {own: int(p.detach().flatten()[0]) for own, p in OFFICIAL[file](marked).named_parameters()}
    assert all("gates." in own and own.endswith("bias") for own, mark in marks.items() if mark == 0)
    return {own: golden.names[mark - 1] for own, mark in marks.items() if mark}


@pytest.mark.parametrize("file", OFFICIAL)
def test_every_official_weight_that_has_a_gradient_is_one_of_ours(file: str) -> None:
    golden = Golden(file)
    used = {name for name, unused in zip(golden.names, golden["grad/7/none"], strict=True) if not unused}
    assert set(official_names(file).values()) == used


@pytest.mark.parametrize("file", ["ple_l1_s1", "ple_l2", "ple_l3_nogatedim"])
def test_the_last_shared_gate_is_kept_on_request_and_changes_nothing(file: str) -> None:
    golden = Golden(file)
    kept, without = (ple.from_official(golden.state_dict(), dead_layer=dead) for dead in (True, False))
    # one gate more in a joint product: some processors then round the others' last digit differently
    torch.testing.assert_close(kept(golden.bag(7)[:1]).logits, without(golden.bag(7)[:1]).logits, rtol=1e-6, atol=1e-6)
    extra = kept.state_dict().keys() - without.state_dict().keys()
    assert {name.split(".")[2] for name in extra} == {"of_all"}


@pytest.mark.parametrize("file", OFFICIAL)
@pytest.mark.parametrize("damage", ["missing", "left over", "shape"])
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(file: str, damage: str) -> None:
    weights = dict(Golden(file).state_dict())
    if damage == "missing":
        del weights["tower_dnn.1.linears.0.bias"]
    elif damage == "left over":
        weights["tower_dnn.1.linears.0.another"] = torch.ones(2)
    else:
        weights["tower_dnn.1.linears.0.bias"] = torch.ones(77)
    with pytest.raises(CheckpointError, match=damage):
        OFFICIAL[file](weights)


@pytest.mark.parametrize("file", OFFICIAL)
def test_a_checkpoint_that_has_lost_a_task_or_holds_another_model_is_refused(file: str) -> None:
    weights = Golden(file).state_dict()
    for damaged in (
        {name: tensor for name, tensor in weights.items() if name != "out.2.bias"},
        {**weights, "another.weight": torch.ones(2)},
    ):
        with pytest.raises(CheckpointError, match=r"left over|missing"):
            OFFICIAL[file](damaged)


def test_a_checkpoint_of_no_task_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no tensor 'out\.0\.bias'"):
        ple.from_official({})


# ---- with AMIL's experts ---------------------------------------------------------------------------

NAMES = ("shared_bottom_amil", "moe_amil", "ple_amil")


def with_weights(model: MILModel, seed: int = 1) -> MILModel:
    """Weights that leave no layer near zero."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.double()


def copied(model: MILModel, other: MILModel, prefixes: Mapping[str, str]) -> None:
    """Give `model` the weights of `other`, whose names begin as `prefixes` says."""
    theirs = other.state_dict()
    ours = {}
    for name in model.state_dict():
        prefix = next((own for own in prefixes if name.startswith(own)), "")
        ours[name] = theirs[prefixes[prefix] + name.removeprefix(prefix)] if prefix else theirs[name]
    model.load_state_dict(ours)


def test_a_mixture_of_one_expert_is_a_shared_bottom() -> None:
    mixture, bottom = with_weights(make("moe_amil", experts=1)), make("shared_bottom_amil").double()
    copied(bottom, mixture, {"trunk.": "experts.0."})
    torch.testing.assert_close(bottom(bag(7).double()).logits, mixture(bag(7).double()).logits, atol=1e-12, rtol=0)


def test_mmoe_with_equal_gates_is_moe() -> None:
    one, many = with_weights(make("moe_amil")), make("mmoe_amil").double()
    copied(many, one, {f"gates.{t}.": "gates.0." for t in range(3)})
    torch.testing.assert_close(many(bag(7).double()).logits, one(bag(7).double()).logits, atol=1e-12, rtol=0)


def test_one_task_needs_no_gate_of_its_own() -> None:
    one, many = with_weights(make("moe_amil", 1)), make("mmoe_amil", 1).double()
    copied(many, one, {})
    torch.testing.assert_close(many(bag(7).double()).logits, one(bag(7).double()).logits, atol=1e-12, rtol=0)


def by_hand(model: ple.PLE, features: Tensor) -> tuple[list[Tensor], list[dict[int, Tensor]]]:
    """PLE with AMIL's experts, task by task and expert by expert: mixtures, and weights by expert of level 1."""
    n_tasks, own, shared = model.n_tasks, model.own_experts, model.shared_experts
    rows: list[Tensor] = [features.mean(dim=0)] * (n_tasks + 1)
    shares: list[dict[int, Tensor]] = []
    for level, gates in enumerate(model.gates):
        belongs = [t for t in range(n_tasks) for _ in range(own)] + [n_tasks] * shared
        if level == 0:
            made = [expert(features)[0] for expert in model.experts]
        else:
            made = [expert(rows[belongs[e]]) for e, expert in enumerate(model.later[level - 1])]
        seen = {t: [e for e, of in enumerate(belongs) if of in (t, n_tasks)] for t in range(n_tasks)}
        heads = {t: gates.of_tasks[t] for t in range(n_tasks)}
        if gates.of_all is not None:
            seen[n_tasks], heads[n_tasks] = list(range(len(belongs))), gates.of_all[0]
        weights = {t: dict(zip(seen[t], heads[t](rows[t]).softmax(dim=0), strict=True)) for t in seen}
        before = shares
        shares = []
        for t in seen:
            share: dict[int, Tensor] = {}
            for e, weight in weights[t].items():
                for first, part in ({e: torch.ones(())} if level == 0 else before[belongs[e]]).items():
                    share[first] = share.get(first, torch.zeros(())) + weight * part
            shares.append(share)
        rows = [sum((w * made[e] for e, w in weights[t].items()), torch.zeros(())) for t in seen]
    return rows, shares


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize(("own", "shared"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("n_tasks", [1, 3])
def test_ple_is_its_definition_expert_by_expert(levels: int, own: int, shared: int, n_tasks: int) -> None:
    model = make("ple_amil", n_tasks, levels=levels, own_experts=own, shared_experts=shared)
    features = bag(7).double()
    output = with_weights(model)(features)
    assert isinstance(model, ple.PLE)
    rows, shares = by_hand(model, features)
    logits = torch.cat([tower(row) for tower, row in zip(model.towers, rows, strict=False)])
    torch.testing.assert_close(output.logits, logits, atol=1e-10, rtol=0)
    for t in range(n_tasks):
        expected = torch.stack([shares[t].get(e, torch.zeros(())) for e in range(len(model.experts))])
        torch.testing.assert_close(output.aux["gates"][t], expected, atol=1e-12, rtol=0, check_dtype=False)
    assert len(model.attention_rows()) == len(model.experts) == n_tasks * own + shared


def test_with_one_level_a_task_hears_nothing_of_other_tasks_experts() -> None:
    gates = with_weights(make("ple_amil", levels=1))(bag(7).double()).aux["gates"]
    assert torch.equal(gates[:, :3] > 0, torch.eye(3, dtype=torch.bool))
    later = with_weights(make("ple_amil", levels=2))(bag(7).double()).aux["gates"]
    assert (later > 0).all(), "the shared experts of level 2 pass on all of level 1"


def test_the_map_of_a_task_is_the_sum_of_the_experts_maps_by_followed_weights() -> None:
    model = with_weights(make("ple_amil", own_experts=2))
    maps, output = model.attention_maps(bag(7).double()), model(bag(7).double())
    assert maps.gates is not None
    assert maps.per_expert is not None
    torch.testing.assert_close(maps.gates.sum(dim=1), torch.ones(3).double())
    torch.testing.assert_close(maps.per_task, (output.aux["gates"] @ output.aux["scores"].softmax(dim=1)).detach())


def test_all_tasks_of_moe_and_shared_bottom_have_one_map() -> None:
    for name in ("shared_bottom_amil", "moe_amil"):
        maps = with_weights(make(name)).attention_maps(bag(7).double()).per_task
        assert torch.equal(maps[0], maps[1])
        assert torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("name", NAMES)
def test_one_task_works(name: str) -> None:
    output = make(name, 1)(bag(5))
    assert output.logits.shape == (1,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 9, 150])  # 150 patches: on a CPU the experts go one by one
def test_many_bags_at_once_give_what_each_gives_alone(name: str, n: int) -> None:
    torch.manual_seed(0)
    assert_many_bags_equal_one_by_one(make(name), n)


@pytest.mark.parametrize("option", ["levels", "own_experts", "shared_experts"])
def test_no_level_and_no_expert_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} is 0; PLE needs at least one"):
        make("ple_amil", **{option: 0})


def test_parameters_are_those_of_the_parts() -> None:
    """D 2048, ten tasks: an expert has 1,180,929, a tower 16,449, a gate of E experts 2,049 E."""
    expert, towers = 2049 * 512 + 2 * 513 * 128 + 129, 10 * (513 * 32 + 33)

    def count(name: str) -> int:
        from baselines_for_tests import MODELS

        return sum(p.numel() for p in MODELS[name](2048, 10).parameters())

    assert count("shared_bottom_amil") == expert + towers
    assert count("moe_amil") == 5 * expert + 2049 * 5 + towers
    assert count("mmoe_amil") == 5 * expert + 10 * 2049 * 5 + towers
    first, later = 2049 * (10 * 2 + 11), 513 * 10 * 2
    assert count("ple_amil") == 11 * expert + first + 11 * 513 * 512 + later + towers


@pytest.mark.parametrize("hidden", [0, 5])
def test_gates_of_one_row_are_gates_of_that_row_for_each(hidden: int) -> None:
    torch.manual_seed(0)
    gates, row = Gates(6, 4, 3, hidden=hidden).double(), torch.randn(6).double()
    alone = torch.stack([gate(row).softmax(dim=0) for gate in gates])
    torch.testing.assert_close(gates(row), alone, atol=1e-12, rtol=0)
    torch.testing.assert_close(gates(row.expand(3, -1)), alone, atol=1e-12, rtol=0)


def test_experts_of_a_level_read_the_row_of_their_task() -> None:
    rows = torch.arange(4.0)[:, None].expand(4, 2)  # three tasks and the shared row
    read = Extraction(2, 3, own=2, shared=3).inputs(rows)
    assert read[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3]
