"""AMIL, MMoE and M4 against the official code's numbers, file by file and N by N."""

from collections.abc import Mapping

import pytest
import torch
from golden_rules import Golden, gradients_of
from outputs_for_tests import EVERY, MIXED, SINGLE
from torch import Tensor, nn
from vmap_rules import assert_many_bags_equal_one_by_one

from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.errors import CheckpointError
from milbench.models import MILModel
from milbench_baselines.amil import AMIL
from milbench_baselines.m4 import M4
from milbench_baselines.mmoe import MMoEAMIL, MMoEMPAMIL

SIZES = [1, 2, 7, 100, 257]
MODELS = {"amil": AMIL, "mmoe_t3": MMoEAMIL, "mmoe_mpamil_t3": MMoEMPAMIL, "m4_t3": M4, "m4_t10": M4}
MULTI_TASK = [file for file in MODELS if file != "amil"]


def load(file: str, state_dict: Mapping[str, Tensor]) -> MILModel:
    options = {} if file == "amil" else {"dead_layer": True}
    return MODELS[file].from_official(state_dict, **options)


def official_output(file: str, logits: Tensor) -> Tensor:
    """The multi-task models' official output is a probability."""
    return logits if file == "amil" else logits.sigmoid()


@pytest.mark.parametrize("file", MODELS)
@pytest.mark.parametrize("n", SIZES)
def test_outputs_are_the_official_ones(file: str, n: int) -> None:
    golden = Golden(file)
    for dtype, key, tolerance in ((torch.float32, "y", 1e-5), (torch.float64, "y64", 1e-12)):
        model = load(file, golden.state_dict()).to(dtype)
        output = official_output(file, model(golden.bag(n).to(dtype)).logits).detach()
        torch.testing.assert_close(output, torch.from_numpy(golden[f"{key}/{n}"]).flatten(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("file", MODELS)
@pytest.mark.parametrize("n", [7, 100])
def test_loss_and_gradients_are_the_official_ones(file: str, n: int) -> None:
    golden = Golden(file)
    model = load(file, golden.state_dict()).double()
    label = torch.from_numpy(golden["label"]).double().flatten()
    loss = model.loss(model(golden.bag(n).double()), label, torch.ones_like(label))
    assert loss.item() == pytest.approx(golden[f"loss64/{n}"].item(), abs=1e-12)
    names = golden.official_names(lambda state_dict: load(file, state_dict))
    assert golden.gradient_error(f"{n}_f64", gradients_of(model, loss, names)) < 1e-12


@pytest.mark.parametrize("file", MULTI_TASK)
@pytest.mark.parametrize("n", SIZES)
def test_experts_gates_and_raw_attention_are_the_official_ones(file: str, n: int) -> None:
    golden = Golden(file)
    aux = load(file, golden.state_dict())(golden.bag(n)).aux
    for ours, key in (("experts", "expert"), ("gates", "gate"), ("scores", "expert_attn_raw")):
        torch.testing.assert_close(aux[ours].detach(), torch.from_numpy(golden[f"{key}/{n}"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", SIZES)
def test_amils_slide_feature_and_raw_attention_are_the_official_ones(n: int) -> None:
    golden = Golden("amil")
    aux = AMIL.from_official(golden.state_dict())(golden.bag(n)).aux
    torch.testing.assert_close(aux["slide"].detach(), torch.from_numpy(golden[f"slide_feat/{n}"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(aux["scores"][0].detach(), torch.from_numpy(golden[f"attn_raw/{n}"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("file", MULTI_TASK)
def test_dropping_the_dead_layers_changes_no_output(file: str) -> None:
    golden = Golden(file)
    bag = golden.bag(7)
    with_dead, without = load(file, golden.state_dict()), MODELS[file].from_official(golden.state_dict())
    assert torch.equal(with_dead(bag).logits, without(bag).logits)
    assert count(with_dead) - count(without) == 5 * (512 * 4 + 4)


def count(model: MILModel) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_the_official_ones() -> None:
    assert count(AMIL(2048, 1)) == 1_312_514
    assert count(MMoEAMIL(2048, 10, dead_layer=True)) == 6_179_925
    assert count(MMoEMPAMIL(2048, 10, dead_layer=True)) == 6_509_525
    assert count(M4(2048, 10, dead_layer=True)) == 7_462_613
    assert count(M4(2048, 10)) == 7_462_613 - 10_260
    assert count(M4(2048, 10, gate="per_task")) - count(M4(2048, 10)) == 9 * (2048 * 512 + 512)


@pytest.mark.parametrize("file", MODELS)
@pytest.mark.parametrize("damage", ["missing", "left over", "shape"])
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(file: str, damage: str) -> None:
    weights = dict(Golden(file).state_dict())
    last = next(name for name in reversed(weights) if name.endswith("bias"))
    if damage == "missing":
        del weights[last]
    elif damage == "left over":
        weights["another.weight"] = torch.ones(2)
    else:
        weights[last] = torch.ones(77)
    with pytest.raises(CheckpointError, match=damage):
        load(file, weights)


def m4(**options: object) -> M4:
    torch.manual_seed(0)
    model = M4(12, 3, hidden=16, attention=4, **options).eval()
    torch.manual_seed(1)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return model


BAG = torch.randn(7, 12, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("option", ["position_encoding", "layer_norm", "residual", "activate_identity"])
def test_every_ablation_changes_the_answer(option: str) -> None:
    assert not torch.allclose(m4()(BAG).logits, m4(**{option: False})(BAG).logits)


def test_masking_duplicates_matters_only_where_there_are_some() -> None:
    whole, masked = m4(), m4(mask_duplicates=True)
    masked.load_state_dict(whole.state_dict())
    assert not torch.allclose(whole(BAG).logits, masked(BAG).logits)
    square = torch.randn(9, 12, generator=torch.Generator().manual_seed(4))
    assert torch.equal(whole(square).logits, masked(square).logits)


def test_masked_attention_is_the_softmax_over_the_true_patches() -> None:
    whole, masked = m4(), m4(mask_duplicates=True)
    masked.load_state_dict(whole.state_dict())
    scores = whole(BAG).aux["scores"][:, : len(BAG)]
    torch.testing.assert_close(masked(BAG).attention, scores.softmax(dim=1))


def test_an_appended_copys_attention_goes_to_its_patch() -> None:
    output = m4()(BAG)
    weights = output.aux["scores"].softmax(dim=1)
    assert weights.shape == (5, 9)
    torch.testing.assert_close(output.attention[:, :2], weights[:, :2] + weights[:, 7:])
    torch.testing.assert_close(output.attention.sum(dim=1), torch.ones(5))


def test_the_mean_loss_is_the_sum_over_the_number_of_known_tasks() -> None:
    summed, mean = m4(), m4(loss_over_tasks="mean")
    targets, known = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 1.0])
    torch.testing.assert_close(mean.loss(mean(BAG), targets, known), summed.loss(summed(BAG), targets, known) / 2)


def test_per_task_gates_of_equal_weights_are_the_shared_gate() -> None:
    shared, per_task = m4(), m4(gate="per_task")
    weights = shared.state_dict()
    copies = {f"gate_first.{t}.{p}": weights[f"gate_first.0.{p}"] for t in range(3) for p in ("weight", "bias")}
    per_task.load_state_dict(weights | copies)
    torch.testing.assert_close(shared(BAG).logits, per_task(BAG).logits)


@pytest.mark.parametrize("model", [AMIL, MMoEAMIL, MMoEMPAMIL, M4])
@pytest.mark.parametrize("n", [1, 5, 9])
def test_many_bags_at_once_give_what_each_gives_alone(model: type[MILModel], n: int) -> None:
    torch.manual_seed(0)
    assert_many_bags_equal_one_by_one(model(12, 3, hidden=16, attention=4), n)


Layers = dict[str, nn.Module]


def amil_expert() -> Layers:
    """Layers of an official AMIL expert, made in the official order."""
    return {
        "attention_net.0": nn.Linear(12, 16),
        "attention_net.3.attention_a.0": nn.Linear(16, 4),
        "attention_net.3.attention_b.0": nn.Linear(16, 4),
        "attention_net.3.attention_c": nn.Linear(4, 1),
        "classifier": nn.Linear(16, 4),
    }


def mp_amil_expert() -> Layers:
    """Layers of an official MP-AMIL expert, made in the official order."""
    layers: Layers = {
        "fc.0": nn.Linear(12, 16),
        "cpe.proj": nn.Conv2d(16, 16, 3, groups=16),
        "norm1": nn.LayerNorm(16),
    }
    for i, kernel in enumerate((3, 5, 7), start=1):
        layers[f"hierarchical.agg{i}.conv1"] = nn.Conv2d(4, 4, kernel, groups=4, bias=False)
        layers[f"hierarchical.agg{i}.pointwise_conv"] = nn.Conv2d(4, 4, 1, bias=False)
    return layers | {
        "attention_net.attention_a.0": nn.Linear(16, 4),
        "attention_net.attention_b.0": nn.Linear(16, 4),
        "attention_net.attention_c": nn.Linear(4, 1),
        "classifier": nn.Linear(16, 4),
    }


def with_xavier(layers: Layers) -> Layers:
    for layer in layers.values():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return layers


def drawn_as_the_official_model(model: type[MILModel]) -> dict[str, Tensor]:
    """Official state dict of two experts and three tasks, drawn in the order of the official constructor."""
    make = amil_expert if model is MMoEAMIL else mp_amil_expert
    prefix = "experts" if model is M4 else "specific_experts1"
    layers: Layers = {}
    for e in range(2):
        layers |= {f"{prefix}.{e}.{name}": layer for name, layer in with_xavier(make()).items()}
    if model is M4:
        layers["gate1_fc1.0"] = nn.Linear(12, 16)
        layers |= {f"gate1_fc2.{t}.0": nn.Linear(4, 2) for t in range(3)}
    else:
        layers |= {f"gate1.{t}.0": nn.Linear(12, 2) for t in range(3)}
    for t in range(3):
        layers |= {f"towers.{t}.fc1": nn.Linear(16, 32), f"towers.{t}.fc2": nn.Linear(32, 1)}
    return {f"{name}.{p}": tensor for name, layer in layers.items() for p, tensor in layer.state_dict().items()}


@pytest.mark.parametrize("model", [MMoEAMIL, MMoEMPAMIL, M4])
def test_with_dead_layers_a_seed_draws_the_official_weights(model: type[MILModel]) -> None:
    torch.manual_seed(42)
    expected = model.from_official(drawn_as_the_official_model(model), dead_layer=True).state_dict()
    torch.manual_seed(42)
    ours = model(12, 3, hidden=16, attention=4, experts=2, dead_layer=True).state_dict()
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


# ---- tasks of other kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["mmoe_t3", "m4_t3"])
def test_an_official_tower_of_several_outputs_is_a_task_of_classes(file: str) -> None:
    golden = Golden(file)
    weights = dict(golden.state_dict())
    for part in ("weight", "bias"):
        weights[f"towers.1.fc2.{part}"] = torch.cat([weights[f"towers.1.fc2.{part}"]] * 3)
    model = load(file, weights)
    assert model.outputs.widths == (1, 3, 1)
    assert [endpoint.kind for endpoint in model.outputs.endpoints] == ["binary", "multiclass", "binary"]
    logits, y = model(golden.bag(7)).logits.detach().sigmoid(), torch.from_numpy(golden["y/7"]).flatten()
    torch.testing.assert_close(logits, y[[0, 1, 1, 1, 2]], atol=1e-5, rtol=0)
    told = MODELS[file].from_official(
        weights, n_outputs=Outputs([FittedEndpoint(), SINGLE["grades"], FittedEndpoint()])
    )
    assert told.outputs.kinds == {"binary", "ordinal"}


def test_an_official_amil_of_several_logits_is_several_binary_tasks_unless_told() -> None:
    weights = dict(Golden("amil").state_dict())
    weights["classifier.weight"] = torch.cat([weights["classifier.weight"][:1]] * 4)
    weights["classifier.bias"] = torch.cat([weights["classifier.bias"][:1]] * 4)
    assert AMIL.from_official(weights).n_tasks == 4
    told = AMIL.from_official(weights, n_outputs=EVERY["classes"])
    assert told.outputs.kinds == {"multiclass"}
    torch.testing.assert_close(
        told(Golden("amil").bag(7)).logits, AMIL.from_official(weights)(Golden("amil").bag(7)).logits
    )


def test_m4s_mean_loss_counts_the_known_tasks_and_not_their_weights() -> None:
    summed, mean = m4(), m4(loss_over_tasks="mean")
    targets, known = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([4.0, 0.0, 0.5])
    torch.testing.assert_close(mean.loss(mean(BAG), targets, known), summed.loss(summed(BAG), targets, known) / 2)


def test_classes_of_a_task_share_its_map_and_gates_stay_one_row_per_task() -> None:
    torch.manual_seed(0)
    maps = M4(12, MIXED, hidden=16, attention=4).eval().attention_maps(BAG)
    assert maps.gates is not None
    assert maps.gates.shape == (MIXED.n_tasks, 5)
    assert torch.equal(maps.per_task[1], maps.per_task[4])
    assert maps.per_expert is not None
    torch.testing.assert_close(maps.per_task[5], maps.gates[2] @ maps.per_expert)
