"""CLAM-SB and CLAM-MB against the official code's numbers, and what milbench adds."""

import numpy as np
import pytest
import torch
from golden_rules import Golden, gradients_of
from outputs_for_tests import CLASSES, GRADES, SINGLE
from torch import Tensor
from torch.nn.functional import cross_entropy

from milbench.endpoints.outputs import Outputs
from milbench.errors import CheckpointError, UsageError
from milbench.models import BagOutput
from milbench_baselines.clam import CLAM, CLAMMB, CLAMSB, smooth_svms

FILES = ("clam_sb_c2", "clam_mb_c2", "clam_sb_c3_sub", "clam_mb_c3_sub", "clam_sb_c2_nogate")
VARIANTS = {
    "": {},
    "ce_ce": {"instance_loss": "ce"},
    "svm_svm": {"bag_loss": "svm"},
    "label0": {},
    "bag_ce": {"instance_loss": "none"},
}
DTYPES = [(torch.float32, "", 1e-5), (torch.float64, "64", 1e-10)]


def load(file: str, state_dict: dict[str, Tensor], **options: object) -> CLAM:
    return (CLAMSB if "_sb" in file else CLAMMB).from_official(state_dict, **options)


def small(model: type[CLAM], kind: str = "binary", **options: object) -> CLAM:
    torch.manual_seed(0)
    return model(12, Outputs([SINGLE[kind]]), **{"hidden": 16, "attention": 4, **options}).eval()


def bag(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), DTYPES)
def test_outputs_are_the_official_ones(file: str, dtype: torch.dtype, suffix: str, tolerance: float) -> None:
    golden = Golden(file)
    model = load(file, golden.state_dict()).to(dtype)
    for n in golden.meta["Ns"]:
        with torch.no_grad():
            output = model(golden.bag(n).to(dtype))
        y = torch.from_numpy(golden[f"y{suffix}/{n}"])
        answer = y[1:] - y[:1] if len(y) == 2 else y
        torch.testing.assert_close(output.logits, answer, atol=2 * tolerance, rtol=0)
        for ours, key in (("head_logits", "y"), ("scores", "attn_raw"), ("slide", "slide_feat")):
            expected = torch.from_numpy(golden[f"{key}{suffix}/{n}"])
            torch.testing.assert_close(
                output.aux[ours], expected, atol=tolerance * max(1, float(expected.abs().max())), rtol=0
            )


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), DTYPES)
def test_losses_and_gradients_are_the_official_ones(
    file: str, variant: str, dtype: torch.dtype, suffix: str, tolerance: float
) -> None:
    golden, infix = Golden(file), f"{variant}/" if variant else ""
    options = {"subtyping": golden.meta["cfg"]["subtyping"], **VARIANTS[variant]}
    names = golden.official_names(lambda state_dict: load(file, state_dict, **options))
    model = load(file, golden.state_dict(), **options).to(dtype)
    label = torch.tensor([0.0 if variant == "label0" else 1.0], dtype=dtype)
    sizes = [n for n in golden.meta["Ns"] if f"loss64/{infix}{n}" in golden.arrays]
    assert sizes[-4:] == [8, 11, 100, 257]
    for n in sizes:
        loss = model.loss(model(golden.bag(n).to(dtype)), label, torch.ones_like(label))
        assert loss.item() == pytest.approx(golden[f"loss{suffix}/{infix}{n}"].item(), abs=tolerance)
        tag = f"{infix}{n}" + ("_f64" if suffix else "")
        if f"grad/{tag}/none" in golden.arrays:
            ours = gradients_of(model, loss, names)
            unused = {name for name, none in zip(golden.names, golden[f"grad/{tag}/none"], strict=True) if none}
            assert all(ours[name].count_nonzero() == 0 for name in unused & set(ours)), "official: no gradient at all"
            assert golden.gradient_error(tag, {**ours, **dict.fromkeys(unused)}) < tolerance


@pytest.mark.parametrize("file", FILES)
def test_patches_of_the_instance_loss_and_their_answers_are_the_official_ones(file: str) -> None:
    golden = Golden(file)
    model = load(file, golden.state_dict(), subtyping=golden.meta["cfg"]["subtyping"]).double()
    for n in (8, 11, 100, 257):
        logits = model(golden.bag(n).double()).aux["instance_logits"]
        said = logits.argmax(dim=-1)  # [C, 16]
        heads = [said[c] if c == 1 else said[c, :8] for c in range(len(said)) if c == 1 or model.subtyping]
        assert torch.cat(heads).tolist() == golden[f"loss_inst_preds64/{n}"].tolist()


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_smooth_svm_is_the_official_one_on_both_its_branches(classes: int) -> None:
    golden = Golden("smooth_top1_svm")
    assert 0 < golden[f"hard/{classes}"].sum() < 24
    label = torch.from_numpy(golden[f"t/{classes}"])[:, None]
    for dtype, suffix, tolerance in DTYPES:
        scores = torch.from_numpy(golden[f"x/{classes}"]).to(dtype).requires_grad_()
        losses = smooth_svms(scores).gather(1, label).squeeze(1)
        losses.mean().backward()
        for ours, key in ((losses.detach(), "per_row"), (losses.mean().detach(), "loss"), (scores.grad, "grad")):
            expected = torch.from_numpy(np.asarray(golden[f"{key}{suffix}/{classes}"]))
            torch.testing.assert_close(
                ours, expected.to(dtype), atol=tolerance * max(1, float(expected.abs().max())), rtol=0
            )


def test_parameter_counts_are_the_official_ones() -> None:
    def count(model: CLAM) -> int:
        return sum(p.numel() for p in model.parameters())

    assert [count(CLAMSB(width, 1)) for width in (1024, 2048)] == [790_791, 1_315_079]
    assert [count(CLAMMB(width, 1)) for width in (1024, 2048)] == [791_048, 1_315_336]


def loss_in_words(model: CLAM, output: BagOutput, label: int) -> Tensor:
    """Loss of one bag, class by class and half by half, with torch's cross-entropy."""
    z, total = output.aux["instance_logits"], 0.0
    for c in range(len(z)):
        kept = z.shape[1] // 2
        if c == label:
            total = total + cross_entropy(z[c], torch.tensor([1] * kept + [0] * kept))
        elif model.subtyping:
            total = total + cross_entropy(z[c, :kept], torch.zeros(kept, dtype=torch.long))
    bag = cross_entropy(output.aux["head_logits"], torch.tensor(label))
    return 0.7 * bag + 0.3 * total / (len(z) if model.subtyping else 1)


@pytest.mark.parametrize("model", [CLAMSB, CLAMMB])
@pytest.mark.parametrize("kind", ["binary", "classes", "grades"])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_the_loss_of_every_label_is_what_the_words_say(model: type[CLAM], kind: str, n: int) -> None:
    made = small(model, kind, instance_loss="ce").double()
    assert made.subtyping == (kind == "classes")
    output = made(bag(n).double())
    assert output.aux["instance_logits"].shape[1] == 2 * min(8, n)
    for label in range(made.n_classes):
        ours = made.loss(output, torch.tensor([float(label)]).double(), torch.ones(1).double())
        torch.testing.assert_close(ours, loss_in_words(made, output, label), atol=1e-12, rtol=0)


def test_heads_see_the_most_and_the_least_attended_patches_of_their_own_branch() -> None:
    made, features = small(CLAMMB, "classes", instances=3), bag(20)
    output = made(features)
    h = made.embed(features)
    for c in range(4):
        order = output.attention[c].argsort(descending=True)
        rows = h[torch.cat((order[:3], order[-3:].flip(0)))]
        torch.testing.assert_close(output.aux["instance_logits"][c], made.instance_heads[c](rows))


def test_grades_without_a_logit_each_rank_by_the_threshold_above_the_last_by_the_last() -> None:
    made, features = small(CLAMMB, "thresholds", instances=2), bag(20)
    output, h = made(features), made.embed(features)
    assert output.attention.shape == (2, 20)
    for grade, branch in ((0, 0), (1, 1), (2, 1)):
        order = output.attention[branch].argsort(descending=True)
        rows = h[torch.cat((order[:2], order[-2:].flip(0)))]
        torch.testing.assert_close(output.aux["instance_logits"][grade], made.instance_heads[grade](rows))


@pytest.mark.parametrize("model", [CLAMSB, CLAMMB])
@pytest.mark.parametrize("kind", ["value", "bins", "risk"])
def test_values_and_survival_have_the_usual_loss_and_no_instance_heads(model: type[CLAM], kind: str) -> None:
    made, target = small(model, kind), torch.ones(1)
    output = made(bag(9))
    assert not made.instance_heads
    assert torch.equal(made.loss(output, target, torch.ones(1)), made.task_losses(output.logits, target)[0])


def test_the_instance_loss_trains_embedding_and_heads_but_never_the_attention() -> None:
    made = small(CLAMSB, bag_weight=0.0)
    made.loss(made(bag(20)), torch.ones(1), torch.ones(1)).backward()
    assert made.embed[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.count_nonzero() == 0 for p in made.attention.parameters())


def test_of_equal_scores_the_earlier_patch_ranks_higher() -> None:
    made = small(CLAMSB, instances=2)
    with torch.no_grad():
        made.attention.score.weight.zero_()
    features = bag(30)
    h, logits = made.embed(features), made(features).aux["instance_logits"]
    torch.testing.assert_close(logits[0], made.instance_heads[0](h[[0, 1, 29, 28]]))


def test_the_attention_drops_entries_only_where_the_embedding_does() -> None:
    assert small(CLAMSB, dropout=0.1).attention.dropout.p == pytest.approx(1 - 0.75**2)
    assert small(CLAMSB, dropout=0.1, gate=False).attention.dropout.p == 0.25
    assert small(CLAMSB, dropout=0.0).attention.dropout.p == 0


def test_a_svm_of_the_bag_acts_where_each_class_has_a_logit() -> None:
    known = torch.ones(1)
    for kind in ("binary", "classes", "grades", "thresholds", "value"):
        usual, svm = small(CLAMSB, kind), small(CLAMSB, kind, bag_loss="svm")
        losses = [made.loss(made(bag(9)), known, known) for made in (usual, svm)]
        assert torch.equal(*losses) == (kind in ("thresholds", "value"))


def test_the_map_of_a_binary_task_is_the_branch_of_class_1() -> None:
    made = small(CLAMMB)
    maps, attention = made.attention_maps(bag(7)), made(bag(7)).attention.detach()
    torch.testing.assert_close(maps.per_task, attention[1:])
    torch.testing.assert_close(maps.per_expert, attention)
    assert maps.experts == made.attention_rows() == ("branch 0", "branch 1")


def test_maps_of_classes_are_their_branches_and_of_grades_a_mean() -> None:
    for kind, shares in (
        ("classes", torch.eye(4)),
        ("grades", torch.tensor([[0, 1, 2]]) / 3),
        ("thresholds", torch.tensor([[1.0, 1]]) / 2),
    ):
        made = small(CLAMMB, kind)
        torch.testing.assert_close(made.attention_maps(bag(7)).per_task, shares @ made(bag(7)).attention.detach())


def test_a_checkpoint_may_carry_buffers_of_its_loss_and_answer_other_kinds() -> None:
    weights = Golden("clam_mb_c3_sub").state_dict() | {"instance_loss_fn.labels": torch.arange(2)}
    assert CLAMMB.from_official(weights).outputs.endpoints[0].kind == "multiclass"
    grades = CLAMMB.from_official(weights, n_outputs=Outputs([SINGLE["grades"]]))
    assert not grades.subtyping
    assert len(grades.instance_heads) == 3


@pytest.mark.parametrize("damage", ["missing", "left over", "shape"])
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(damage: str) -> None:
    weights = Golden("clam_sb_c2").state_dict()
    if damage == "missing":
        del weights["attention_net.3.attention_c.bias"]
    elif damage == "left over":
        weights["another.weight"] = torch.ones(2)
    else:
        weights["classifiers.bias"] = torch.ones(77)
    with pytest.raises(CheckpointError, match=damage):
        CLAMSB.from_official(weights)
    with pytest.raises(CheckpointError):
        CLAMMB.from_official(Golden("clam_sb_c2").state_dict())


def test_a_single_task_and_known_words_are_asked_for() -> None:
    with pytest.raises(UsageError, match="CLAM-MB answers one task"):
        CLAMMB(12, Outputs([CLASSES, GRADES]))
    for share in (-0.1, 2.5, float("nan")):
        with pytest.raises(UsageError, match="bag_weight is"):
            CLAMSB(12, 1, bag_weight=share)
    with pytest.raises(UsageError, match="instance_loss"):
        CLAMSB(12, 1, instance_loss="hinge")
