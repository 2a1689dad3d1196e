"""What a model draws, from torch, NumPy or Python, depends on its own trial alone."""

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints_for_tests import RECIPES, bits, stopped_after
from stacks_for_tests import CPU, N_MEMBERS, SLIDES, TRAIN, VALIDATION, WIDTH, AsTheyAre, InMemory, labels
from torch import Tensor, nn

from milbench.engines.checkpoint import load_checkpoint
from milbench.models import BagOutput, MILModel, ModelInfo, build
from milbench.training.learner import Learner
from milbench.training.trainer import predict_all, train


class Draws(MILModel):
    """Takes some patches of a bag by chance, in training and in evaluation, from every generator that there is."""

    info = ModelInfo("draws", "Draws", "single", "", "")

    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        self.kept = np.random.permutation(in_features)[: in_features - 1].tolist()  # noqa: NPY002 - what others do
        self.shift = random.random()
        self.head = nn.Linear(in_features - 1, n_tasks)

    def forward(self, features: Tensor) -> BagOutput:
        order = np.random.permutation(len(features))  # noqa: NPY002
        torchs = torch.randperm(len(features))
        taken = features[order[: 1 + random.randrange(len(features))].tolist()][:, self.kept]
        also = features[torchs[:3]][:, self.kept]
        return BagOutput(self.head(taken.mean(0) + also.mean(0) + self.shift), None, {})


def made(seed: int = 7) -> MILModel:
    return build(Draws, WIDTH, 1, {}, seed=seed).double()


def learner(start: MILModel, members: range = range(1), *, at_once: int = 0) -> Learner:
    models = [copy.deepcopy(start) for _ in members]
    sides = labels(list(members), TRAIN, 1), labels(list(members), VALIDATION, 1)
    each = Learner(models, RECIPES["adam"], *sides, seed=7, device=CPU, scaler=AsTheyAre())
    each.step_memory.at_once = at_once or len(members)
    return each


def trained(*learners: Learner) -> list[list[bytes]]:
    train(list(learners), SLIDES, InMemory(), seed=7)
    assert [each.error for each in learners] == [None] * len(learners)
    return [bits(each) for each in learners]


def test_a_seed_decides_what_a_constructor_draws() -> None:
    first, _ = made(7), np.random.rand(3)  # noqa: NPY002
    again, other = made(7), made(8)
    assert (first.kept, first.shift) == (again.kept, again.shift)
    assert other.shift != first.shift


def test_building_a_model_moves_no_generator() -> None:
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    expected = random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    made()
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected  # noqa: NPY002


def test_a_training_alone_and_side_by_side_ends_with_the_same_bits() -> None:
    (alone,) = trained(learner(made()))
    random.seed(99), np.random.seed(99), torch.manual_seed(99)  # noqa: NPY002 - whatever the process drew before
    beside = trained(learner(made(5)), learner(made()), learner(made(6)))
    assert beside[1] == alone


def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    (whole,) = trained(learner(made()))
    stopped_after(learner(made()), 3, tmp_path / "c.safetensors", "mine")
    resumed = learner(made())
    assert load_checkpoint(resumed, tmp_path / "c.safetensors", "mine")
    assert trained(resumed) == [whole]


def test_the_models_of_a_stack_draw_the_same_however_many_go_through_at_once() -> None:
    (together,) = trained(learner(made(), range(N_MEMBERS)))
    (in_turns,) = trained(learner(made(), range(N_MEMBERS), at_once=2))
    for values, others in zip(together[N_MEMBERS:], in_turns[N_MEMBERS:], strict=True):
        np.testing.assert_allclose(np.frombuffer(values), np.frombuffer(others), rtol=1e-9)


def test_what_is_drawn_in_evaluation_does_not_depend_on_what_was_evaluated_before() -> None:
    side = labels([0], VALIDATION, 1)
    one, other = learner(made()), learner(made())
    trained(one), trained(other)
    predict_all([other], [labels([0], TRAIN, 1)], SLIDES, InMemory())
    np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    (first,) = predict_all([one], [side], SLIDES, InMemory())
    (second,) = predict_all([other], [side], SLIDES, InMemory())
    assert first is not None
    assert second is not None
    assert np.array_equal(first.probabilities, second.probabilities)


@pytest.mark.parametrize("place", ["forward", "loss"])
def test_a_model_that_changes_what_all_share_fails_alone_and_it_is_put_back(place: str) -> None:
    class Changes(Draws):
        def forward(self, features: Tensor) -> BagOutput:
            if place == "forward":
                torch.use_deterministic_algorithms(True)
            return super().forward(features)

        def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
            if place == "loss":
                torch.set_num_threads(torch.get_num_threads() + 1)
            return super().loss(output, targets, known)

    (alone,) = trained(learner(made()))
    bad, good = learner(build(Changes, WIDTH, 1, {}, seed=7).double()), learner(made())
    train([bad, good], SLIDES, InMemory(), seed=7)
    assert "Changes changes torch's" in str(bad.error)
    assert "docs/models.md" in str(bad.error)
    assert bits(good) == alone
    assert not torch.are_deterministic_algorithms_enabled()
