"""Prevalence against gain: a relation is found where there is one, and not where there is none."""

import numpy as np
import pandas as pd

from milbench.report.gain import gain_figure, gain_sentence, prevalence_and_gain


def frames(slope: float, seed: int = 0, n_tasks: int = 10) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    rows = [(dataset, f"g{task}", rng.random()) for dataset in ("one", "two") for task in range(n_tasks)]
    tasks = pd.DataFrame(rows, columns=["dataset", "task", "prevalence"]).assign(is_control=False)
    delta = slope * tasks["prevalence"] + 0.02 * rng.standard_normal(len(tasks)) + 5.0 * (tasks["dataset"] == "two")
    against = tasks[["dataset", "task"]].assign(model="m4", delta=delta, low=delta - 0.1, high=delta + 0.1)
    return against, tasks


def test_rarer_tasks_that_gain_more_are_found_inside_cohorts() -> None:
    gain = prevalence_and_gain(*frames(-1.0), "m4", "amil")
    assert gain is not None
    assert gain.rho < -0.8
    assert gain.p < 0.001
    assert "rarer tasks gain more" in gain_sentence(gain, {"m4": "M4", "amil": "AMIL"})


def test_no_relation_is_rejected_about_as_often_as_promised() -> None:
    p_values = [prevalence_and_gain(*frames(0.0, seed), "m4", "amil").p for seed in range(60)]
    assert sum(p < 0.05 for p in p_values) <= 8


def test_a_difference_between_cohorts_is_no_relation() -> None:
    against, tasks = frames(0.0)
    tasks.loc[tasks["dataset"] == "two", "prevalence"] *= 0.1  # rarer, and its gain is 5 higher throughout
    assert prevalence_and_gain(against, tasks, "m4", "amil").p > 0.05


def test_too_few_tasks_and_controls_give_no_answer() -> None:
    against, tasks = frames(-1.0, n_tasks=2)
    assert prevalence_and_gain(against, tasks, "m4", "amil") is None
    against, tasks = frames(-1.0)
    assert prevalence_and_gain(against, tasks.assign(is_control=True), "m4", "amil") is None


def test_the_figure_names_every_task_and_cohort() -> None:
    gain = prevalence_and_gain(*frames(-1.0), "m4", "amil")
    figure = gain_figure(gain, {"m4": "M4", "amil": "AMIL"}, {"one": "One", "two": "Two"})
    assert len(figure.axes[0].texts) == 20
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["One", "Two"]
