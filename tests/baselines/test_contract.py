"""What holds for every registered model; a model file that escapes this suite fails it."""

from pathlib import Path

import pytest
import torch
from baselines_for_tests import MODELS, bag, make
from layouts_for_tests import answer
from vmap_rules import assert_stacked_copies_equal_each_alone, assert_training_works_together

import milbench_baselines
from milbench.errors import BagError
from milbench.models import BagOutput
from milbench.trials.arguments import constructor_arguments
from milbench.trials.recipe import recipe_for

INVARIANT = [name for name, model in MODELS.items() if not model.info.order_matters]
ORDERED = [name for name, model in MODELS.items() if model.info.order_matters]


def test_no_model_file_escapes_this_suite() -> None:
    files = {path.stem for path in Path(milbench_baselines.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {model.__module__.split(".")[-1] for model in MODELS.values()}
    assert sum(model.info.study for model in MODELS.values()) == 9
    assert len(MODELS) == 20


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", [1, 5, 9])
def test_a_stack_of_three_copies_equals_three_separate_calls(name: str, n: int) -> None:
    torch.manual_seed(0)
    assert_stacked_copies_equal_each_alone(lambda: make(name), n)


@pytest.mark.parametrize("name", MODELS)
def test_training_mode_works_for_many_bags_and_many_copies_at_once(name: str) -> None:
    torch.manual_seed(0)
    assert_training_works_together(lambda: make(name), 9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_a_bag_of_any_size_gives_one_finite_logit_a_task(name: str, n: int) -> None:
    output = answer(make(name), bag(n))
    assert isinstance(output, BagOutput)
    assert output.logits.shape == ((MODELS[name].info.tasks == "multi" and 3) or 1,)
    assert torch.isfinite(output.logits).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", [1, 7])
def test_attention_has_a_named_row_each_and_a_column_a_patch(name: str, n: int) -> None:
    model = make(name)
    attention = answer(model, bag(n)).attention
    if attention is None:
        assert model.attention_rows() == ()
    else:
        assert attention.shape == (len(model.attention_rows()), n)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(0, 12), (4, 11), (12,), (1, 4, 12)])
def test_an_empty_or_misshapen_bag_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(BagError, match="empty bag" if shape[0] == 0 else "expects one bag of shape"):
        make(name)(torch.zeros(shape))


@pytest.mark.parametrize("name", INVARIANT)
def test_the_order_of_patches_does_not_matter_where_the_model_says_so(name: str) -> None:
    model, features = make(name).double(), bag(23).double()
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    shuffled = answer(model, features[order], order=order)
    torch.testing.assert_close(shuffled.logits, answer(model, features).logits, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ORDERED)
def test_the_order_of_patches_matters_where_the_model_says_so(name: str) -> None:
    torch.manual_seed(0)
    n = 80  # regions of RRT-MIL hold one patch each up to 64
    model, features = make(name).double(), bag(n).double()
    shuffled = features[torch.randperm(n, generator=torch.Generator().manual_seed(1))]
    assert (model(shuffled).logits - model(features).logits).abs().max() > 1e-9


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_is_deterministic_and_leaves_the_generator_alone(name: str) -> None:
    model = make(name)
    state = torch.get_rng_state()
    assert torch.equal(answer(model, bag(9)).logits, answer(model, bag(9)).logits)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_float_types_work_throughout(name: str, dtype: torch.dtype) -> None:
    assert answer(make(name).to(dtype), bag(9).to(dtype)).logits.dtype == dtype


@pytest.mark.parametrize("name", MODELS)
def test_an_unknown_label_changes_neither_loss_nor_gradient(name: str) -> None:
    model = make(name)
    n_tasks = model.n_tasks
    known = torch.ones(n_tasks)
    known[-1] = 0
    losses = [
        model.loss(answer(model, bag(9)), torch.full((n_tasks,), value) * (1 - known) + known, known)
        for value in (0.0, 1.0)
    ]
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", MODELS)
def test_both_protocols_know_the_model(name: str) -> None:
    assert recipe_for(MODELS[name], "m4", {}, {}).epochs == 32
    official = recipe_for(MODELS[name], "official", {}, {})
    assert official.name == "official"
    assert set(official.model) <= set(constructor_arguments(MODELS[name]))


@pytest.mark.parametrize("name", MODELS)
def test_the_model_says_where_it_comes_from(name: str) -> None:
    info = MODELS[name].info
    assert info.name == name
    assert info.title
    assert info.official or name.endswith("pooling")
