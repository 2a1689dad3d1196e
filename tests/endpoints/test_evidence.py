"""Evidence against the answers that are stored, which NumPy computes apart."""

import numpy as np
import pytest
import torch
from outputs_for_tests import EVERY, MIXED, SINGLE
from torch.func import vmap

from milbench.endpoints.answers import answers_of
from milbench.endpoints.evidence import evidence, task_evidence


def logits_for(kind: str, n: int = 40) -> torch.Tensor:
    return torch.randn(n, int(EVERY[kind]), generator=torch.Generator().manual_seed(1)).double() * 2


@pytest.mark.parametrize("kind", [kind for kind in SINGLE if kind != "classes"])
def test_it_ranks_patches_as_the_first_stored_answer_does(kind: str) -> None:
    logits = logits_for(kind)
    (endpoint,) = EVERY[kind].endpoints
    stored = answers_of(endpoint, logits.float().numpy())[:, 0]
    found = evidence(EVERY[kind], logits)
    assert found.shape == (40, 1)
    order = np.argsort(found[:, 0].numpy())
    assert (np.diff(stored[order]) >= 0).all()


def test_of_a_class_it_is_the_logit_of_its_probability() -> None:
    logits = logits_for("classes")
    p = answers_of(SINGLE["classes"], logits.float().numpy())
    np.testing.assert_allclose(evidence(EVERY["classes"], logits), np.log(p) - np.log(1 - p), atol=1e-5)


def test_of_a_certain_class_it_still_tells_patches_apart() -> None:
    logits = torch.tensor([[60.0, 0, 0, 0], [80.0, 0, 0, 0]])
    assert (logits.softmax(dim=1)[:, 0] == 1).all()
    first, second = evidence(EVERY["classes"], logits)[:, 0]
    assert first < second


def test_a_task_of_classes_has_that_of_its_likeliest_class() -> None:
    logits = logits_for("classes")
    found = task_evidence(EVERY["classes"], logits)
    assert found.shape == (40, 1)
    likeliest = logits.softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(found[:, 0].sigmoid(), likeliest)


def test_tasks_of_several_kinds_have_a_row_per_map_and_a_number_per_task() -> None:
    logits = logits_for("mixed")
    rows, tasks = evidence(MIXED, logits), task_evidence(MIXED, logits)
    assert rows.shape == (40, len(MIXED.maps))
    assert tasks.shape == (40, MIXED.n_tasks)
    of_classes = [row for row, (task, _) in enumerate(MIXED.maps) if task == 1]
    torch.testing.assert_close(tasks[:, 1], rows[:, of_classes].amax(dim=1))
    torch.testing.assert_close(tasks[:, 2], rows[:, of_classes[-1] + 1])


def test_logits_of_binary_tasks_are_their_evidence() -> None:
    logits = logits_for("binary")
    assert evidence(EVERY["binary"], logits) is logits
    assert task_evidence(EVERY["binary"], logits) is logits


@pytest.mark.parametrize("kind", EVERY)
def test_many_at_once_equal_one_by_one(kind: str) -> None:
    logits = logits_for(kind)
    for of in (evidence, task_evidence):
        together = vmap(lambda row, of=of: of(EVERY[kind], row))(logits)
        torch.testing.assert_close(together, torch.stack([of(EVERY[kind], row) for row in logits]))
