"""Towers of several widths, side by side."""

import pytest
import torch
from outputs_for_tests import EVERY, MIXED
from torch import nn

from milbench.endpoints.outputs import Outputs
from milbench_baselines.layers import tower
from milbench_baselines.layers.tower import logits_of, of_tasks


@pytest.mark.parametrize("outputs", [Outputs.of(3), Outputs(EVERY["classes"].endpoints * 3), MIXED, EVERY["bins"]])
def test_towers_together_give_what_each_gives_alone_task_by_task(outputs: Outputs) -> None:
    torch.manual_seed(0)
    towers = of_tasks(outputs, 8, 5, 0.4).eval()
    mixtures = torch.randn(outputs.n_tasks, 8)
    logits = logits_of(towers, mixtures)
    assert logits.shape == (int(outputs),)
    for each, mixture, own in zip(towers, mixtures, outputs.slices, strict=True):
        torch.testing.assert_close(logits[own], each(mixture))


def test_towers_of_equal_widths_take_two_products(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = tower.usual_on_own_bags
    monkeypatch.setattr(
        tower, "usual_on_own_bags", lambda layers, rows: calls.append(len(layers)) or plain(layers, rows)
    )
    logits_of(of_tasks(Outputs(EVERY["classes"].endpoints * 3), 8, 5, 0.0), torch.randn(3, 8))
    assert calls == [3, 3]
    calls.clear()
    logits_of(of_tasks(MIXED, 8, 5, 0.0), torch.randn(7, 8))
    assert calls == [7, 4, 2, 1], "all first layers; four of one output, two of four, one of two"


def test_a_tower_has_one_output_unless_told() -> None:
    last = tower.Tower(8, 5, 0.0)[3]
    assert isinstance(last, nn.Linear)
    assert last.out_features == 1
