"""What holds for the attention maps of every registered model, and what each model's map is."""

import pytest
import torch
from baselines_for_tests import MODELS, bag, make
from layouts_for_tests import answer, inputs
from models_for_tests import Tiny

from milbench.errors import UsageError
from milbench.models import AttentionMaps, BagOutput, MILModel

SIZES = (1, 2, 5, 7, 16, 50)
"""One patch, squares, and bags that are no square."""

MIXTURES = ("mmoe_amil", "mmoe_mp_amil", "m4", "moe_amil", "ple_amil")
NO_DISTRIBUTION = ("mean_pooling", "max_pooling", "transmil", "la_mil")


def maps_of(name: str, n: int = 7) -> tuple[MILModel, AttentionMaps]:
    torch.manual_seed(0)
    model = make(name)
    return model, model.attention_maps(*inputs(model, bag(n)))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", SIZES)
def test_a_map_has_a_row_a_task_and_a_finite_value_a_patch(name: str, n: int) -> None:
    model, maps = maps_of(name, n)
    assert maps.kind
    assert maps.per_task.shape == (model.n_tasks, n)
    for values in (maps.per_task, *maps.alternatives.values()):
        assert values.shape == (model.n_tasks, n)
        assert torch.isfinite(values).all()
        assert not values.requires_grad


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", SIZES)
def test_softmax_maps_sum_to_one_also_where_the_bag_is_no_square(name: str, n: int) -> None:
    _, maps = maps_of(name, n)
    assert maps.is_distribution == (name not in NO_DISTRIBUTION)
    if maps.is_distribution:
        assert (maps.per_task >= 0).all()
        torch.testing.assert_close(maps.per_task.sum(dim=1), torch.ones(len(maps.per_task)))


@pytest.mark.parametrize("name", MODELS)
def test_the_answer_beside_the_maps_is_the_models_answer(name: str) -> None:
    model, maps = maps_of(name)
    torch.testing.assert_close(maps.logits, answer(model, bag(7)).logits.detach())


@pytest.mark.parametrize("name", MODELS)
def test_maps_draw_nothing_and_leave_no_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = make(name)
    state = torch.get_rng_state()
    with torch.no_grad():
        first = model.attention_maps(*inputs(model, bag(9)))
    torch.testing.assert_close(model.attention_maps(*inputs(model, bag(9))).per_task, first.per_task)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_experts_have_a_name_each_and_gates_sum_to_one(name: str) -> None:
    model, maps = maps_of(name)
    assert (maps.gates is not None) == (name in MIXTURES)
    if maps.per_expert is not None:
        assert maps.per_expert.shape == (len(maps.experts), 7)
    if maps.gates is not None:
        assert maps.gates.shape == (model.n_tasks, len(maps.experts))
        torch.testing.assert_close(maps.gates.sum(dim=1), torch.ones(model.n_tasks))


@pytest.mark.parametrize("name", ["mmoe_amil", "mmoe_mp_amil", "moe_amil", "ple_amil"])
def test_a_mixtures_task_map_is_the_gate_weighted_sum_of_its_experts(name: str) -> None:
    model, maps = maps_of(name)
    output = model(bag(7))
    wanted = torch.einsum("te,en->tn", output.aux["gates"], output.attention)
    torch.testing.assert_close(maps.per_task, wanted.detach())


def test_m4_averages_the_gate_weighted_sums_of_its_four_segments() -> None:
    model, maps = maps_of("m4")
    output = model(bag(7))
    by_segment = torch.einsum("tse,en->tsn", output.aux["gates"], output.attention)
    assert by_segment.shape[1] == 4
    torch.testing.assert_close(maps.per_task, by_segment.mean(dim=1).detach())


@pytest.mark.parametrize("name", ["mmoe_mp_amil", "m4"])
def test_what_an_appended_copy_gets_is_folded_onto_its_patch(name: str) -> None:
    model, maps = maps_of(name)  # 7 patches fill a square of 9 with copies of the first two
    raw = model(bag(7)).aux["scores"].softmax(dim=1).detach()
    assert raw.shape[1] == 9
    wanted = raw[:, :7].clone()
    wanted[:, :2] += raw[:, 7:]
    torch.testing.assert_close(maps.per_expert, wanted)


def test_transmils_map_is_the_mean_over_heads_and_gradient_times_input_agrees_with_differences() -> None:
    torch.manual_seed(0)
    model, features = make("transmil").double(), bag(7).double()
    maps = model.attention_maps(features)
    torch.testing.assert_close(maps.per_task[0], model(features).attention.mean(dim=0).detach())
    step, patch = 1e-6, 3
    nudged = [features.clone() for _ in range(2)]
    nudged[0][patch] *= 1 + step
    nudged[1][patch] *= 1 - step
    slope = (model(nudged[0]).logits - model(nudged[1]).logits)[0] / (2 * step)
    torch.testing.assert_close(maps.alternatives["gradient x input"][0, patch], slope.detach(), rtol=1e-5, atol=1e-9)


def test_dsmil_shows_the_bag_stream_and_offers_the_instance_logits() -> None:
    model, maps = maps_of("dsmil")
    output = model(bag(7))
    torch.testing.assert_close(maps.per_task, output.attention.detach())
    torch.testing.assert_close(maps.alternatives["instance logits"], output.aux["instance_logits"].detach().T)


def test_dtfds_instance_scores_are_the_evidence_of_the_attention_weighted_patches() -> None:
    model, maps = maps_of("dtfd_mil")
    attention, h = model(bag(7)).attention[0], model.reduction(bag(7))
    two = (attention[:, None] * h) @ model.classifier.linear.weight.T
    torch.testing.assert_close(maps.alternatives["instance scores"][0], (two[:, 1] - two[:, 0]).detach())
    torch.testing.assert_close(maps.per_task[0] * attention.detach().sum(), attention.detach())


def test_mean_poolings_instance_logits_average_to_its_answer() -> None:
    _, maps = maps_of("mean_pooling")
    torch.testing.assert_close(maps.per_task.mean(dim=1), maps.logits)


class WithRows(Tiny):
    """A third party's model with attention in its output and no method of its own."""

    rows = 1

    def forward(self, features: torch.Tensor) -> BagOutput:
        attention = torch.rand(self.rows, len(features), generator=torch.Generator().manual_seed(0))
        return BagOutput(super().forward(features).logits, attention, {})

    def attention_rows(self) -> tuple[str, ...]:
        return tuple(f"row {row}" for row in range(self.rows))


def test_a_model_without_the_method_shows_the_attention_of_its_output() -> None:
    model = WithRows(12, 1).eval()
    maps = model.attention_maps(bag(7))
    assert torch.equal(maps.per_task, model(bag(7)).attention)
    assert not maps.is_distribution


def test_a_model_with_several_rows_for_all_tasks_shows_their_mean() -> None:
    model = WithRows(12, 2).eval()
    model.rows = 3
    maps = model.attention_maps(bag(7))
    torch.testing.assert_close(maps.per_task[1], model(bag(7)).attention.mean(dim=0))
    assert maps.experts == ("row 0", "row 1", "row 2")


def test_a_model_without_attention_says_what_to_define() -> None:
    with pytest.raises(UsageError, match=r"Tiny has no attention to draw.*define attention_maps"):
        Tiny(12, 1).eval().attention_maps(bag(7))
