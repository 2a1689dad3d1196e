"""RRT-MIL against the official code's numbers, and its options."""

import pytest
import torch
from golden_rules import Golden
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import conv2d
from two_logit_goldens import Load, assert_official
from vmap_rules import (
    assert_many_bags_equal_one_by_one,
    assert_stacked_copies_equal_each_alone,
    assert_training_works_together,
)

from milbench.errors import CheckpointError, UsageError
from milbench.models import MILModel
from milbench.training.activations import saved_bytes
from milbench.training.precision import arithmetic, as_float32
from milbench.trials.arguments import refuse_odd_arguments
from milbench_baselines.rrt_mil import RRTMIL, RegionAttention, RegionLayer

FILES = ("rrt_c16_r50", "rrt_brca_r50", "rrt_nsclc_r50", "rrt_nsclc_plip", "rrt_region4")

PARTS = {
    "attn_raw": lambda output: output.aux["scores"][0],
    "tok0_rmsa": lambda output: output.aux["after_rmsa"][0],
    "tok0_crmsa": lambda output: output.aux["after_crmsa"][0],
    "tokN_crmsa": lambda output: output.aux["after_crmsa"][-1],
    "tok0_enc": lambda output: output.aux["rows"][0],
}


def loader(golden: Golden) -> Load:
    """`from_official` with the settings that no tensor shows."""
    cfg = golden.meta["cfg"]
    options = {
        "regions": cfg["region_num"], "crmsa_heads": cfg["crmsa_heads"], "all_shortcut": cfg["all_shortcut"],
    }  # fmt: skip

    def load(state_dict: dict[str, Tensor]) -> MILModel:
        return RRTMIL.from_official(state_dict, **options)

    return load


def small(**options: object) -> RRTMIL:
    torch.manual_seed(0)
    return RRTMIL(12, 1, **{"hidden": 16, "attention": 4, "heads": 2, **options}).eval().double()  # type: ignore[arg-type]


def bag(n: int) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(n)).double()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_outputs_losses_and_gradients_are_the_official_ones(file: str, dtype: torch.dtype, tolerance: float) -> None:
    golden = Golden(file)
    assert_official(golden, loader(golden), dtype, tolerance, PARTS)


@pytest.mark.parametrize(
    ("in_features", "epeg", "crmsa_k", "count"),
    [(1024, 15, 1, 2_696_450), (2048, 15, 1, 3_220_738), (1024, 21, 5, 2_698_546), (2048, 21, 5, 3_222_834)],
)
def test_the_parameter_count_is_the_official_one(in_features: int, epeg: int, crmsa_k: int, count: int) -> None:
    with torch.device("meta"):
        model = RRTMIL(in_features, 1, epeg=epeg, crmsa_k=crmsa_k)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("n", [1, 4, 100])
def test_convolved_queries_give_the_attention_of_convolved_scores(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench_baselines.layers.row_chunks.ENTRIES", 2 * 2 * n * max(n, 8))  # two regions at a time
    torch.manual_seed(n)
    layer, rows = RegionAttention(16, 2, epeg=5, dropout=0.0).double(), torch.randn(5, n, 16).double()
    assert layer.epeg is not None
    nn.init.normal_(layer.epeg.bias)  # type: ignore[arg-type]
    q, k, v = layer.qkv(rows).reshape(5, n, 3, 2, 8).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT / 8**0.5
    scores = scores + conv2d(scores, layer.epeg.weight, layer.epeg.bias, padding=(2, 0), groups=2)
    expected = layer.out((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(rows), expected, atol=1e-12, rtol=0)
    weights = [p for name, p in layer.named_parameters() if name != "epeg.bias"]
    target = torch.randn(expected.shape).double()
    ours, theirs = (torch.autograd.grad((y * target).sum(), weights) for y in (layer(rows), expected))
    for gradient, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-11, rtol=0)
    torch.testing.assert_close(vmap(layer)(rows[None])[0], expected, atol=1e-12, rtol=0)


class Numbered(nn.Module):
    """In place of an attention: the number of each row's region."""

    def forward(self, rows: Tensor) -> Tensor:
        return torch.arange(len(rows)).to(rows)[:, None, None].expand(rows.shape[0], rows.shape[1], 1)


def test_regions_are_squares_of_the_square_on_which_patches_lie_row_by_row() -> None:
    layer = RegionLayer(Numbered(), 12, 2).double()  # 13 patches: side 4, four regions of 2 x 2
    regions = layer(bag(13))[:, 0].tolist()
    assert regions == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2]
    assert layer(bag(17))[:6, 0].tolist() == [0, 0, 0, 1, 1, 1], "side 5 is raised to 6"


@pytest.mark.parametrize("n", [1, 40, 64])
def test_up_to_64_patches_neither_layer_lets_patches_interact(n: int) -> None:
    model, x = small(), bag(n)
    output, first = model(x), model(x[:1])
    torch.testing.assert_close(output.aux["after_crmsa"], output.aux["after_rmsa"], atol=0, rtol=0)
    torch.testing.assert_close(output.aux["rows"][:1], first.aux["rows"])


@pytest.mark.parametrize("n", [65, 300])
def test_above_64_patches_both_do(n: int) -> None:
    model, x = small(), bag(n)
    output, first = model(x), model(x[:1])
    assert far_apart(output.aux["after_rmsa"][:1], first.aux["after_rmsa"])
    assert far_apart(output.aux["after_crmsa"], output.aux["after_rmsa"])


def far_apart(first: Tensor, second: Tensor) -> bool:
    return float((first - second).detach().abs().max()) > 1e-3


def test_a_step_keeps_no_scores() -> None:
    model = RRTMIL(12, 1, hidden=16, attention=4, heads=2, regions=1)
    sizes = [saved_bytes(model, 12, side**2) for side in (16, 32, 64)]
    assert sizes[2] < 4.2 * sizes[1] < 4.2 * 4.2 * sizes[0]
    assert sizes[2] < 4096 * 16 * 4 * 60 < 4096**2 * 4


@pytest.mark.parametrize(
    "options",
    [{}, {"crmsa_mlp": True, "all_shortcut": True}, {"epeg": 0, "crmsa_k": 1}, {"regions": 2, "crmsa_heads": 1}],
)
@pytest.mark.parametrize("n", [7, 70])
def test_many_at_once_equal_one_by_one(options: dict[str, object], n: int) -> None:
    assert_many_bags_equal_one_by_one(small(**options), n)
    assert_stacked_copies_equal_each_alone(lambda: small(**options), n)
    assert_training_works_together(lambda: small(**options).float(), n)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 64, 65, 300])
def test_it_answers_in_its_own_precision(dtype: torch.dtype, n: int) -> None:
    output = small().to(dtype)(bag(n).to(dtype))
    assert output.logits.dtype == dtype
    assert torch.isfinite(output.logits).all()
    assert output.attention is not None
    assert output.attention.shape == (1, n)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"heads": 3}, "3 heads"), ({"crmsa_heads": 3}, "3 heads"), ({"crmsa_heads": 0}, "0 heads"), ({"epeg": 4}, "odd")],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        small(**options)


def test_epeg_can_be_left_out_from_the_command_line_too() -> None:
    refuse_odd_arguments(RRTMIL, "rrt_mil", {"epeg": None})
    assert small(epeg=None).rmsa.attn.epeg is None


def test_several_tasks_and_a_misfit_checkpoint_are_refused() -> None:
    with pytest.raises(UsageError, match="n_tasks=2"):
        RRTMIL(12, 2)
    weights = Golden("rrt_c16_r50").state_dict()
    del weights["online_encoder.norm.bias"]
    with pytest.raises(CheckpointError, match=r"missing.*norm\.bias"):
        RRTMIL.from_official(weights)


def test_weights_start_as_the_official_ones() -> None:
    torch.manual_seed(0)
    model = RRTMIL(1024, 1)
    assert float(model.embed[0].weight.detach().std()) == pytest.approx((2 / 1536) ** 0.5, rel=0.02)  # type: ignore[union-attr, operator]
    assert not model.head.bias.detach().any()
    phi = model.crmsa.attn.phi  # type: ignore[union-attr]
    assert float(phi.detach().abs().max()) == pytest.approx(3**-0.5, rel=0.02)  # type: ignore[union-attr, operator]


def test_a_step_in_bfloat16_with_filled_regions_has_about_the_gradient_of_float32() -> None:
    model, x = small(hidden=32).float(), bag(300).float()
    gradients = []
    for precision in ("float32", "bf16"):
        with arithmetic(precision, torch.device("cpu")):
            output = model(x)
        loss = model.loss(as_float32(output), torch.ones(1), torch.ones(1))
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.95
