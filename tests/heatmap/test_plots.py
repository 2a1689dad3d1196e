"""Plots of experts: drawn whatever the tasks are called."""

from pathlib import Path

import numpy as np
from matplotlib.text import Text
from names_for_tests import WILD

from milbench.heatmap.experts import ExpertUsage
from milbench.heatmap.plots import usage_figure
from milbench.heatmap.render import save_panel
from milbench.visible import is_hidden, visible

DOLLARS = "A_$x^$B"
"""matplotlib would take it for a formula, and for a wrong one."""


def test_tasks_with_dollars_and_control_characters_are_drawn_as_they_are_written(tmp_path: Path) -> None:
    overlap = np.array([[1.0, 0.4], [0.4, 1.0]])
    usage = ExpertUsage(
        "toy", "m4", f"M4 {DOLLARS}", 0, (WILD, DOLLARS), ("expert 1", "expert 2"),
        np.array([[0.3, 0.7], [0.6, 0.4]]), np.array([0.5, 0.25]), overlap, 0.3, 4,
    )  # fmt: skip
    figure = usage_figure(usage)
    paths = save_panel(figure, tmp_path / "experts")
    drawn = {text.get_text() for text in figure.findobj(Text)}
    assert {f"{visible(WILD)} (0.50)", f"{DOLLARS} (0.25)", f"M4 {DOLLARS} on toy, fold 0, 4 test slides"} <= drawn
    assert not [text for text in drawn if any(map(is_hidden, text))]
    assert [path.suffix for path in paths if path.stat().st_size > 1000] == [".png", ".svg"]
