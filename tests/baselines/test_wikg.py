"""WiKG against the official code's numbers, and its options."""

import pytest
import torch
from golden_rules import Golden
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import leaky_relu
from two_logit_goldens import assert_official
from vmap_rules import (
    assert_many_bags_equal_one_by_one,
    assert_stacked_copies_equal_each_alone,
    assert_training_works_together,
)

from milbench.errors import CheckpointError, UsageError
from milbench.models import MILModel
from milbench.training.activations import saved_bytes
from milbench.training.precision import arithmetic
from milbench_baselines import wikg
from milbench_baselines.wikg import WiKG, highest

FILES = ("wikg_attn", "wikg_mean")


def load(state_dict: dict[str, Tensor]) -> MILModel:
    return WiKG.from_official(state_dict, dead_layer=True)


def small(**options: object) -> WiKG:
    torch.manual_seed(0)
    return WiKG(12, 1, **{"hidden": 16, "attention": 4, **options}).eval().double()  # type: ignore[arg-type]


def bag(n: int, width: int = 12) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(n)).double()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_outputs_losses_and_gradients_are_the_official_ones(file: str, dtype: torch.dtype, tolerance: float) -> None:
    assert_official(Golden(file), load, dtype, tolerance)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neighbours_are_the_official_ones_highest_first(file: str, dtype: torch.dtype) -> None:
    golden = Golden(file)
    model = load(golden.state_dict()).to(dtype)
    for n in (6, 7, 100, 257):
        chosen = model(golden.bag(n).to(dtype)).aux["neighbours"]
        assert torch.equal(chosen, torch.from_numpy(golden[f"in_nbr/{n}"]).long())


@pytest.mark.parametrize("file", FILES)
def test_dead_layers_are_left_out_of_the_model_and_of_a_checkpoint(file: str) -> None:
    golden = Golden(file)
    weights = golden.state_dict()
    with_dead, without = load(weights), WiKG.from_official(weights)
    x = golden.bag(7)
    assert torch.equal(with_dead(x).logits, without(x).logits)
    counts = [sum(p.numel() for p in model.parameters()) for model in (with_dead, without)]
    assert counts[0] - counts[1] == 394_240


@pytest.mark.parametrize(
    ("in_features", "readout", "count"),
    [
        (1024, "attention", 2_103_299),
        (2048, "attention", 2_627_587),
        (1024, "mean", 1_971_714),
        (2048, "mean", 2_496_002),
    ],
)
def test_the_parameter_count_is_the_official_one(in_features: int, readout: str, count: int) -> None:
    with torch.device("meta"):
        model = WiKG(in_features, 1, readout=readout, dead_layer=True)  # type: ignore[arg-type]
    assert sum(p.numel() for p in model.parameters()) == count


def by_pairs(model: WiKG, x: Tensor) -> Tensor:
    """The head's logits with all pairs written out: equations (1) to (8), in the paper's or the code's weights."""
    h = leaky_relu(model.embed(x))
    h = (h + h.mean(dim=0)) / 2
    e, t = model.head_of_edge(h), model.tail_of_edge(h)
    scores, places = (e @ t.T / e.shape[1] ** 0.5).topk(min(model.neighbours, len(x)), dim=1)
    p = scores.softmax(dim=1)[..., None]
    told, asked = t[places], e[:, None]
    gate = (asked + p * told + (1 - p) * asked).tanh()
    if model.weight == "inner_product":
        u = torch.einsum("ijk,ijk->ij", told, gate)
    else:
        u = torch.einsum("ijk,ijm->ij", told, gate)
    n = torch.einsum("ij,ijk->ik", u.softmax(dim=1), told)
    rows = leaky_relu(model.of_sum(e + n)) + leaky_relu(model.of_product(e * n))
    bag = rows.mean(dim=0) if model.attention is None else (model.attention(rows).softmax(dim=0) * rows).sum(dim=0)
    return model.head(model.norm(bag))  # type: ignore[no-any-return]


@pytest.mark.parametrize("weight", ["product_of_sums", "inner_product"])
@pytest.mark.parametrize("readout", ["attention", "mean"])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_chunks_give_the_answer_and_gradients_of_all_pairs_at_once(
    weight: str, readout: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wikg, "SCORES_AT_ONCE", 3 * n)
    monkeypatch.setattr("milbench_baselines.layers.row_chunks.ENTRIES", 7 * 16 * min(n, 6))
    model, x = small(weight=weight, readout=readout), bag(n)
    ours, theirs = model(x).aux["head_logits"], by_pairs(model, x)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    pairs = [torch.autograd.grad(y[1] - y[0], list(model.parameters())) for y in (ours, theirs)]
    for gradient, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)
    together = vmap(lambda each: model(each).aux["head_logits"])(torch.stack([x, 2 * x]))
    torch.testing.assert_close(together, torch.stack([by_pairs(model, x), by_pairs(model, 2 * x)]), atol=1e-12, rtol=0)


def test_the_papers_weight_is_another_number() -> None:
    golden = Golden("wikg_attn")
    x = golden.bag(100)
    code, paper = (
        WiKG.from_official(golden.state_dict(), weight=weight)(x).aux["head_logits"].detach()
        for weight in ("product_of_sums", "inner_product")
    )
    assert 0.03 < float((code - paper).norm() / code.norm()) < 0.3


def test_a_bag_of_fewer_patches_than_neighbours_uses_them_all() -> None:
    for n in range(1, 6):
        assert model_neighbours(small(), n) == [list(range(n))] * n
    assert model_neighbours(small(neighbours=3), 3) == [[0, 1, 2]] * 3


def model_neighbours(model: WiKG, n: int) -> list[list[int]]:
    return model(bag(n)).aux["neighbours"].sort(dim=1).values.tolist()  # type: ignore[no-any-return]


def test_the_highest_rows_are_those_of_all_scores_highest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wikg, "SCORES_AT_ONCE", 100)
    e, t = bag(50), bag(51)[:50]
    assert torch.equal(highest(e, t, 4), (e @ t.T).argsort(dim=1, descending=True)[:, :4])


def test_neighbours_are_chosen_by_float32_scores_in_bfloat16_too() -> None:
    torch.manual_seed(0)
    e, t = torch.randn(300, 16).bfloat16(), torch.randn(300, 16).bfloat16()
    wanted = (e.float() @ t.float().T).topk(6, dim=1).indices
    assert not torch.equal((e @ t.T).topk(6, dim=1).indices, wanted), "rounded scores choose others"
    assert torch.equal(highest(e, t, 6), wanted)
    with arithmetic("bf16", torch.device("cpu")):
        assert torch.equal(highest(e.float(), t.float(), 6), wanted)


def test_a_step_keeps_nothing_per_pair_and_nothing_per_neighbour() -> None:
    model = WiKG(12, 1, hidden=16, attention=4)
    per_patch = (saved_bytes(model, 12, 2000) - saved_bytes(model, 12, 1000)) / 1000
    assert saved_bytes(model, 12, 4000) == pytest.approx(saved_bytes(model, 12, 2000) + 2000 * per_patch, rel=0.01)
    few, many = (WiKG(12, 1, hidden=64, attention=4, neighbours=k) for k in (6, 60))
    more = (saved_bytes(many, 12, 2000) - saved_bytes(few, 12, 2000)) / 2000
    assert more < 54 * 64 * 4 / 4, "places of neighbours, and not their rows"


@pytest.mark.parametrize("readout", ["attention", "mean"])
def test_many_at_once_equal_one_by_one(readout: str) -> None:
    for n in (3, 9):
        assert_many_bags_equal_one_by_one(small(readout=readout), n)
        assert_stacked_copies_equal_each_alone(lambda: small(readout=readout), n)
    assert_training_works_together(lambda: small(readout=readout).float(), 9)


@pytest.mark.parametrize("readout", ["attention", "mean"])
def test_patch_logits_average_to_the_answer_by_the_readouts_weights(readout: str) -> None:
    model = small(readout=readout)
    maps = model.attention_maps(bag(9))
    if readout == "mean":
        assert (maps.kind, maps.is_distribution, model.attention_rows()) == ("patch logits", False, ())
        mean = maps.per_task.mean(dim=1)
    else:
        assert maps.is_distribution
        mean = (maps.alternatives["patch logits"] * maps.per_task).sum(dim=1)
    torch.testing.assert_close(mean, maps.logits)


def test_official_training_takes_the_mean_and_the_class_has_attention() -> None:
    assert WiKG.info.official_recipe["model"] == {"readout": "mean"}
    assert isinstance(WiKG(12, 1, hidden=16).attention, nn.Sequential)


@pytest.mark.parametrize(("option", "named"), [({"readout": "max"}, "attention"), ({"weight": "dot"}, "inner_product")])
def test_unknown_options_are_refused(option: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        small(**option)


def test_several_tasks_and_a_misfit_checkpoint_are_refused() -> None:
    with pytest.raises(UsageError, match="n_tasks=2"):
        WiKG(12, 2)
    weights = Golden("wikg_mean").state_dict()
    del weights["norm.bias"]
    with pytest.raises(CheckpointError, match=r"missing.*norm\.bias"):
        WiKG.from_official(weights)
    with pytest.raises(CheckpointError, match=r"left over: 'gate_X\.bias'"):
        WiKG.from_official({**Golden("wikg_mean").state_dict(), "gate_X.bias": torch.ones(2)})
