"""Models that need coordinates: alone, stacked, in groups, with drawn patches, and where a slide has no coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from neighbourly import Neighbourly
from stacks_for_tests import (
    RECIPES,
    SLIDES,
    TRAIN,
    VALIDATION,
    WIDTH,
    InMemory,
    learner,
    losses,
    model_of,
    probabilities,
    trained,
)  # fmt: skip

from milbench.bag import Bag
from milbench.errors import BagError
from milbench.layout import Patches, nearest, patches_of
from milbench.models import MILModel
from milbench.serving.feature_store import FeatureStore
from milbench.training.activations import saved_bytes
from milbench.training.contract import findings_of
from milbench.training.draws import Visit
from milbench.training.step_memory import StepMemory
from milbench.training.trainer import bags_for


def places(n: int, seed: int) -> torch.Tensor:
    """Corners of n patches of 256 px on a grid, in random order."""
    cells = np.random.default_rng(seed).permutation(36)[:n]
    return torch.from_numpy(np.stack([cells % 6, cells // 6], axis=1) * 256)


class Placed(InMemory):
    """The bags of `InMemory` with places, and with neighbours as many as a store would hold for the greediest model."""

    def __init__(self, n_neighbours: int = 9, without: Sequence[str] = ()) -> None:
        super().__init__()
        self.n_neighbours, self.without = n_neighbours, without

    def in_order(self, slide_ids: Sequence[str]) -> Iterator[tuple[str, Patches]]:
        for slide, patches in super().in_order(slide_ids):
            yield slide, self.placed(slide, patches.features)

    def placed(self, slide: str, features: torch.Tensor) -> Patches:
        if slide in self.without:
            return Patches(features, problem=f"slide '{slide}' has no coordinates")
        coords = places(len(features), SLIDES.index(slide))
        return patches_of(Bag(features, slide, coords=coords, patch_size=256.0), self.n_neighbours)


def start(seed: int = 11, **options: object) -> MILModel:
    torch.manual_seed(seed)
    return Neighbourly(WIDTH, 4, **options).double()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_stack_and_each_trial_alone_learn_the_same(recipe: object) -> None:
    model = start()
    (stack,) = trained(learner([0, 1, 2], model, recipe), features=Placed())
    for member in range(3):
        (alone,) = trained(learner([member], model, recipe), features=Placed())
        np.testing.assert_allclose(losses(stack.progress[member]), losses(alone.progress[0]), rtol=1e-9)


@pytest.mark.parametrize("n_neighbours", [4, 6, 9])
def test_more_neighbours_than_a_model_asks_for_change_nothing(n_neighbours: int) -> None:
    """A pass finds as many as its greediest model wants."""
    (usual,) = trained(learner([0], start(), RECIPES["one bag per step"]), features=Placed(4))
    (more,) = trained(learner([0], start(), RECIPES["one bag per step"]), features=Placed(n_neighbours))
    assert losses(more.progress[0]) == losses(usual.progress[0])


def test_a_model_without_coordinates_learns_the_same_beside_one_with_them() -> None:
    (alone,) = trained(learner([0], model_of("amil"), RECIPES["clipped"]))
    beside, other = trained(
        learner([0], model_of("amil"), RECIPES["clipped"]), learner([0], start(), RECIPES["clipped"]), features=Placed()
    )
    assert other.error is None
    assert losses(beside.progress[0]) == losses(alone.progress[0])


def test_a_slide_without_coordinates_ends_the_training_of_the_model_that_needs_them_alone() -> None:
    features = Placed(without=[TRAIN[3]])
    blind, seeing = trained(
        learner([0], start(), RECIPES["clipped"]), learner([0], model_of("amil"), RECIPES["clipped"]), features=features
    )
    assert isinstance(blind.error, BagError)
    assert str(blind.error) == f"slide '{TRAIN[3]}' has no coordinates"
    assert seeing.error is None
    assert len(seeing.progress[0].history) == RECIPES["clipped"].epochs


def test_drawn_patches_have_the_neighbours_that_they_have_among_themselves() -> None:
    recipe = replace(RECIPES["one bag per step"], bag_patches=5)
    each = learner([0], start(), recipe)
    shown = list(bags_for({each: {TRAIN[2]: 1}}, [Visit(TRAIN[2])], Placed(), {each: each.patch_draw}))
    ((_, _, patches),) = shown
    assert patches.layout is not None
    assert len(patches) == 5
    assert np.array_equal(patches.layout.neighbours, nearest(patches.layout.coords.double().numpy(), 9))
    whole = Placed().placed(TRAIN[2], InMemory().bags[TRAIN[2]])
    assert whole.layout is not None
    rows = [whole.features.tolist().index(row) for row in patches.features.tolist()]
    assert torch.equal(patches.layout.coords, whole.layout.coords[rows])
    trained(each, features=Placed())
    assert each.error is None


def test_answers_follow_the_places() -> None:
    (each,) = trained(learner([0], start(), RECIPES["one bag per step"]), features=Placed())
    model = each.model_of(0)
    features = InMemory().bags["slide2"]
    usual = model(*model.inputs(Placed().placed("slide2", features))).logits
    elsewhere = patches_of(Bag(features, "slide2", coords=places(13, 99), patch_size=256.0), 4)
    assert not torch.allclose(model(*model.inputs(elsewhere)).logits, usual)


def test_predictions_of_a_stack_are_those_of_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stacks_for_tests.InMemory", lambda device: Placed())
    (stack,) = trained(learner([0, 1], start(), RECIPES["clipped"]), features=Placed())
    said = probabilities(stack, [0, 1])
    for member in (0, 1):
        model = stack.model_of(member)
        for place, slide in enumerate(VALIDATION):
            alone = model(*model.inputs(Placed().placed(slide, InMemory().bags[slide]))).logits.sigmoid()
            np.testing.assert_allclose(said[member, place], alone.detach(), rtol=1e-9)


def test_memory_limits_hold_as_for_others() -> None:
    model = start()
    assert saved_bytes(start().float(), WIDTH, 100) > saved_bytes(start().float(), WIDTH, 50)
    (free,) = trained(learner([0, 1, 2], model, RECIPES["five bags per step"]), features=Placed())
    tight = learner([0, 1, 2], model, RECIPES["five bags per step"])
    tight.step_memory = StepMemory(3, tight.device)
    tight.step_memory.at_once, tight.step_memory.must_recompute = 1, True
    trained(tight, features=Placed())
    assert tight.error is None
    np.testing.assert_allclose(losses(tight.progress[0])[0][1], losses(free.progress[0])[0][1], rtol=0.2)


def test_the_contract_is_tried_with_places() -> None:
    assert findings_of(Neighbourly, 5, 3, {"hidden": 4}) == []


def test_a_forward_without_places_says_what_to_give() -> None:
    with pytest.raises(BagError, match=r"Neighbourly needs the places of the patches too: model\(features, layout\)"):
        start()(torch.zeros(3, WIDTH).double())
    bag = start().bag_like(torch.zeros(7, WIDTH).double())
    assert bag.layout is not None
    wrong = bag.layout._replace(neighbours=bag.layout.neighbours[:, :2].long())
    with pytest.raises(
        BagError, match=r"expects coordinates \(7, 2\) and neighbours \(7, 4\) .* got \(7, 2\) and \(7, 2\)"
    ):
        start()(bag.features, wrong)


# ---- serving -------------------------------------------------------------------------------------


def store(n_kept: int, loads: list[str]) -> FeatureStore:
    def load(slide: str) -> Bag:
        loads.append(slide)
        number = int(slide[1:])
        coords = None if slide == "s2" else places(6, number)
        return Bag(torch.full((6, 3), float(number)), slide, coords=coords, patch_size=256.0)

    size = 6 * 3 * 4 + 6 * 2 * 4 + 6 * 4 * 4
    return FeatureStore(load, device=torch.device("cpu"), device_bytes=0, host_bytes=n_kept * size)


def test_a_store_finds_neighbours_once_for_each_bag_that_stays() -> None:
    loads: list[str] = []
    each = store(3, loads)
    each.ask_for_layouts(4)
    for _ in range(3):
        for slide, patches in each.in_order(["s0", "s1", "s3"]):
            assert patches.layout is not None
            assert patches.layout.neighbours.shape == (6, 4)
            assert patches.layout.neighbours.dtype == torch.int32
            assert np.array_equal(patches.layout.neighbours, nearest(places(6, int(slide[1:])).numpy() / 256.0, 4))
    assert sorted(loads) == ["s0", "s1", "s3"]


def test_a_store_that_is_asked_for_more_reads_again_and_for_less_does_not() -> None:
    loads: list[str] = []
    each = store(3, loads)
    assert each["s0"].layout is None
    each.ask_for_layouts(None)
    each.ask_for_layouts(2)
    assert each["s0"].layout is not None
    each.ask_for_layouts(1)
    assert each["s0"].layout.neighbours.shape == (6, 2)
    each.ask_for_layouts(4)
    assert each["s0"].layout.neighbours.shape == (6, 4)
    assert loads == ["s0", "s0", "s0"]
    assert each.host.left == 2 * 216


def test_a_store_hands_out_a_slide_without_coordinates_with_the_reason() -> None:
    each = store(3, [])
    each.ask_for_layouts(4)
    patches = each["s2"]
    assert patches.layout is None
    assert "slide 's2' cannot go through a model that needs coordinates: it has no coordinates" in patches.problem
