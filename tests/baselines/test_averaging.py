"""The mean of answers, against the mean of what is stored of each."""

import numpy as np
import pytest
import torch
from outputs_for_tests import EVERY, MIXED, SINGLE
from torch.func import vmap

from milbench.endpoints.answers import answers_of
from milbench_baselines.layers.averaging import logits_of_mean_answer


def several(kind: str, n: int = 3) -> torch.Tensor:
    return torch.randn(n, int(EVERY[kind]), generator=torch.Generator().manual_seed(1)).double() * 2


@pytest.mark.parametrize("kind", [kind for kind in SINGLE if kind != "grade"])
def test_its_stored_answer_is_the_mean_of_the_stored_answers(kind: str) -> None:
    answers = several(kind)
    stored = answers_of(SINGLE[kind], answers.numpy())
    mean = logits_of_mean_answer(EVERY[kind], answers)
    assert mean.shape == (int(EVERY[kind]),)
    np.testing.assert_allclose(answers_of(SINGLE[kind], mean[None].numpy())[0], stored.mean(axis=0), atol=1e-12)


def test_grades_learned_as_numbers_are_averaged_as_they_are() -> None:
    answers = several("grade")
    torch.testing.assert_close(logits_of_mean_answer(EVERY["grade"], answers), answers.mean(dim=0))


def test_each_task_is_averaged_by_its_own_kind() -> None:
    answers = several("mixed")
    mean = logits_of_mean_answer(MIXED, answers)
    for endpoint, own in zip(MIXED.endpoints, MIXED.slices, strict=True):
        stored = answers_of(endpoint, answers[:, own].numpy())
        ours = answers_of(endpoint, mean[None, own].numpy())[0]
        np.testing.assert_allclose(ours, stored.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("kind", EVERY)
def test_one_answer_stays_as_it_is_and_extreme_ones_stay_finite(kind: str) -> None:
    one = several(kind, n=1)
    assert torch.equal(logits_of_mean_answer(EVERY[kind], one), one[0])
    extreme = torch.stack([one[0].sign() * 200, -one[0].sign() * 200]).float()
    assert torch.isfinite(logits_of_mean_answer(EVERY[kind], extreme)).all()
    together = vmap(lambda each: logits_of_mean_answer(EVERY[kind], each))(extreme.expand(4, -1, -1))
    torch.testing.assert_close(together[3], logits_of_mean_answer(EVERY[kind], extreme))
