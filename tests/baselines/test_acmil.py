"""ACMIL against the official code's numbers, and its random mask."""

from itertools import combinations

import pytest
import torch
from golden_rules import Golden, gradients_of
from outputs_for_tests import SINGLE
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import cosine_similarity

from milbench.endpoints.outputs import Outputs
from milbench.errors import CheckpointError, UsageError
from milbench_baselines.acmil import ACMIL, mean_cosine

FILES = ("acmil_c2", "acmil_c3", "acmil_c2_tok1")
DTYPES = [(torch.float32, "", 1e-5), (torch.float64, "64", 1e-10)]
OF_ONE_TOKEN = "classifier.0."


def small(kind: str = "binary", **options: object) -> ACMIL:
    torch.manual_seed(0)
    return ACMIL(12, Outputs([SINGLE[kind]]), **{"hidden": 16, "attention": 4, **options}).eval()


def bag(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), DTYPES)
def test_outputs_are_the_official_ones(file: str, dtype: torch.dtype, suffix: str, tolerance: float) -> None:
    golden = Golden(file)
    model = ACMIL.from_official(golden.state_dict()).to(dtype)
    for n in golden.meta["Ns"]:
        mask = torch.from_numpy(golden[f"in_train_mask/{n}"])
        with torch.no_grad():
            seen, masked = model(golden.bag(n).to(dtype)), model.forward_masked(golden.bag(n).to(dtype), mask)
        for output, prefix in ((seen, ""), (masked, "train_")):
            y, sub = (torch.from_numpy(golden[f"{prefix}{key}{suffix}/{n}"]) for key in ("y", "sub"))
            torch.testing.assert_close(output.aux["slide_logits"], y, atol=tolerance, rtol=0)
            answer = y[1:] - y[:1] if len(y) == 2 else y
            torch.testing.assert_close(output.logits, answer, atol=2 * tolerance, rtol=0)
            if len(sub) > 1:
                torch.testing.assert_close(output.aux["token_logits"], sub, atol=tolerance, rtol=0)
        raw = torch.from_numpy(golden[f"attn_raw{suffix}/{n}"])
        torch.testing.assert_close(seen.aux["scores"], raw, atol=tolerance, rtol=0)
        torch.testing.assert_close(masked.aux["scores"], raw.masked_fill(mask, -1e9), atol=tolerance, rtol=0)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("variant", ["", "train", "label0"])
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), DTYPES)
def test_losses_and_gradients_are_the_official_ones(
    file: str, variant: str, dtype: torch.dtype, suffix: str, tolerance: float
) -> None:
    golden, infix = Golden(file), f"{variant}/" if variant else ""
    names = golden.official_names(ACMIL.from_official)
    model = ACMIL.from_official(golden.state_dict()).to(dtype)
    label = torch.tensor([0.0 if variant == "label0" else 1.0], dtype=dtype)
    for n in golden.meta["Ns"]:
        features, mask = golden.bag(n).to(dtype), torch.from_numpy(golden[f"in_train_mask/{n}"])
        output = model.train().forward_masked(features, mask) if variant == "train" else model.eval()(features)
        loss = model.loss(output, label, torch.ones_like(label))
        assert loss.item() == pytest.approx(golden[f"loss{suffix}/{infix}{n}"].item(), abs=tolerance)
        tag = f"{infix}{n}" + ("_f64" if suffix else "")
        if f"grad/{tag}/none" in golden.arrays:
            left_out = {
                name: None for name in golden.names if file == "acmil_c2_tok1" and name.startswith(OF_ONE_TOKEN)
            }
            assert golden.gradient_error(tag, gradients_of(model, loss, names) | left_out) < tolerance


def test_parameter_counts_are_the_official_ones() -> None:
    counts = [sum(p.numel() for p in ACMIL(width, 1).parameters()) for width in (1024, 2048)]
    assert counts == [662_417, 1_186_705]


@pytest.mark.parametrize(("n", "dropped"), [(1, 0), (2, 1), (7, 4), (10, 6), (40, 6)])
def test_training_masks_a_share_of_each_tokens_highest_scores(n: int, dropped: int) -> None:
    model = small().train()
    raw, seen = small()(bag(n)).aux["scores"], []
    for seed in range(40):
        torch.manual_seed(seed)
        scores = model(bag(n)).aux["scores"]
        masked = scores == -1e9
        assert masked.sum(dim=1).tolist() == [dropped] * 5
        torch.testing.assert_close(scores[~masked], raw[~masked])
        seen.append(masked)
    ever = torch.stack(seen).any(dim=0)
    salient = torch.zeros_like(ever).scatter(1, raw.topk(min(10, n)).indices, True)
    assert torch.equal(ever, salient if dropped else torch.zeros_like(ever))
    if dropped:
        share = torch.stack(seen).float().mean(dim=0)[salient]
        assert (share - dropped / min(10, n)).abs().max() < 0.4, "each of the salient patches as often as another"
        assert not torch.equal(seen[0][0], seen[0][1]) or n == 2, "tokens draw on their own"


def test_masks_under_vmap_are_each_copys_own_or_the_same_for_all() -> None:
    model, bags = small().train(), bag(40).expand(6, -1, -1)
    for randomness, n_different in (("different", 6), ("same", 1)):
        torch.manual_seed(1)
        scores = vmap(lambda features: model(features).aux["scores"], randomness=randomness)(bags)
        masks = scores == -1e9
        assert masks.sum(dim=2).eq(6).all()
        assert len(masks.flatten(1).unique(dim=0)) == n_different


def test_evaluation_and_a_mask_of_nothing_draw_nothing() -> None:
    raw = small()(bag(20)).aux["scores"]
    for model in (small(), small(mask_drop=0.0).train(), small(masked_patches=0).train()):
        state = torch.get_rng_state()
        assert torch.equal(model(bag(20)).aux["scores"], raw)
        assert torch.equal(torch.get_rng_state(), state)


def test_a_mask_of_all_patches_leaves_finite_numbers() -> None:
    output = small(mask_drop=1.0).train()(bag(3))
    torch.testing.assert_close(output.attention, torch.full((5, 3), 1 / 3))


def test_the_diversity_is_the_mean_cosine_of_all_pairs() -> None:
    rows = bag(4).double().softmax(dim=1)
    pairs = [cosine_similarity(rows[a], rows[b], dim=0) for a, b in combinations(range(4), 2)]
    torch.testing.assert_close(mean_cosine(rows), torch.stack(pairs).mean(), atol=1e-12, rtol=0)
    assert mean_cosine(torch.ones(5, 1)) == 1


@pytest.mark.parametrize("kind", SINGLE)
def test_the_loss_of_every_kind_is_the_sum_of_its_three_parts(kind: str) -> None:
    model, target = small(kind, diversity=0.5), torch.ones(1)
    output = model(bag(9))
    heads = [output.aux["slide_logits"], *output.aux["token_logits"]]
    answers = [head[1:] - head[:1] if kind == "binary" else head for head in heads]
    slide, *tokens = (model.task_losses(answer, target)[0] for answer in answers)
    wanted = slide + torch.stack(tokens).mean() + 0.5 * mean_cosine(output.attention)
    torch.testing.assert_close(model.loss(output, target, torch.tensor([2.0])), 2 * wanted)
    risk = answers[0] + torch.stack(answers[1:]).mean(dim=0)
    torch.testing.assert_close(output.logits, risk if kind == "risk" else answers[0])


def test_one_token_is_attention_pooling_with_the_slides_loss_alone() -> None:
    model, target = small(tokens=1, mask_drop=0.0), torch.ones(1)
    output = model(bag(9))
    assert not model.token_heads
    assert torch.equal(model.loss(output, target, target), model.task_losses(output.logits, target)[0])


def test_the_map_is_the_mean_of_the_tokens_attention() -> None:
    model = small("classes")
    maps, attention = model.attention_maps(bag(7)), model(bag(7)).attention.detach()
    torch.testing.assert_close(maps.per_task, attention.mean(dim=0).expand(4, -1))
    torch.testing.assert_close(maps.per_expert, attention)
    assert maps.experts == ("token 0", "token 1", "token 2", "token 3", "token 4")


def test_options_and_checkpoints_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match=r"mask_drop=1\.5"):
        ACMIL(12, 1, mask_drop=1.5)
    with pytest.raises(UsageError, match="tokens=0"):
        ACMIL(12, 1, tokens=0)
    for diversity in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="diversity is"):
            ACMIL(12, 1, diversity=diversity)
    with pytest.raises(UsageError, match="ACMIL answers one task"):
        ACMIL(12, 3)
    weights = Golden("acmil_c3").state_dict()
    del weights["classifier.4.fc.bias"]
    with pytest.raises(CheckpointError, match=r"missing: the tensor for 'token_heads\.4\.bias'"):
        ACMIL.from_official(weights)
    grades = ACMIL.from_official(Golden("acmil_c3").state_dict(), n_outputs=Outputs([SINGLE["grades"]]))
    assert grades.outputs.endpoints[0].kind == "ordinal"
