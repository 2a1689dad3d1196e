"""Cells of docs/notebook.ipynb: kind and source of each, in order. `notebook.py` executes them."""

from __future__ import annotations

CELLS: tuple[tuple[str, str], ...] = (
    (
        "markdown",
        """\
# From features to a figure

This notebook looks at a bag, trains a model, and draws its ROC curve and its attention. Then it compares two models of a
stored run. It takes about a minute on two cores. [In Python](python.md) lists all functions.

The cohort is `digits`, which is part of milbench. For your own, write `mb.read_cohort("cohort.yaml")`
([Cohorts](cohorts.md)).""",
    ),
    (
        "code",
        """\
import matplotlib.pyplot as plt
from sklearn.metrics import RocCurveDisplay

import milbench as mb

cohort = mb.read_cohort("digits")
cohort""",
    ),
    (
        "markdown",
        """\
## Labels and bags

Each slide has one row, with a column per task.""",
    ),
    (
        "code",
        """\
cohort.slides[["slide_id", "patient_id", "has_0", "both_0_2", "many_3"]].head()""",
    ),
    (
        "markdown",
        """\
A bag holds the features of one slide, one row per patch. Here a patch is a handwritten digit of 8 × 8 pixels, and its features
are the pixels. So the bag can be drawn.""",
    ),
    (
        "code",
        """\
bag = cohort.load("digits-0003")
bag""",
    ),
    (
        "code",
        """\
def draw(axes, bag):
    \"\"\"Draw every patch of the bag at its place.\"\"\"
    side = int(bag.coords.max() / bag.patch_size) + 1
    rows = bag.features.reshape(side, side, 8, 8).swapaxes(1, 2).reshape(side * 8, side * 8)
    axes.imshow(rows, cmap="gray_r", extent=(0, side * 8, side * 8, 0))
    axes.set(xticks=range(0, side * 8, 8), yticks=range(0, side * 8, 8), xticklabels=[], yticklabels=[])
    axes.grid(color="tab:blue", alpha=0.3)


figure, axes = plt.subplots(figsize=(3, 3), layout="constrained")
draw(axes, bag)""",
    ),
    (
        "markdown",
        """\
## One training

`mb.fit` trains one model on one fold. If `ipywidgets` is installed, Jupyter shows a bar while it trains. The task
`both_0_2` asks whether the bag shows a 0 and a 2.""",
    ),
    (
        "code",
        """\
training = mb.fit("amil", cohort, task="both_0_2", fold=0, seed=42)
training.history.round(3)""",
    ),
    (
        "markdown",
        """\
The weights are those of the epoch that was best on the validation slides. `training.answers` holds what these weights say of
the validation and test slides.""",
    ),
    (
        "code",
        """\
test = training.answers.query("role == 'test' and target.notna()")
test[["slide_id", "patient_id", "target", "prediction"]].head().round(3)""",
    ),
    (
        "code",
        """\
figure, axes = plt.subplots(figsize=(4, 4))
RocCurveDisplay.from_predictions(test["target"], test["prediction"], ax=axes, name="AMIL", plot_chance_level=True)
axes.set_title("both_0_2, test slides of fold 0");""",
    ),
    (
        "markdown",
        """\
## Where the model looks

`mb.attention` gives one map per task, with a value for each patch. In digits it is known which patches decide
(`bag.instance_labels`). They have green frames. Here the model looks most at the 0, and hardly at the 2s.""",
    ),
    (
        "code",
        """\
slide = test.query("target == 1")["slide_id"].iloc[0]
bag = cohort.load(slide)
maps = mb.attention(training.model, bag)
evidence = bag.instance_labels[:, cohort.tasks.index("both_0_2")]

figure, (left, right) = plt.subplots(ncols=2, figsize=(7, 3.2), layout="constrained")
draw(left, bag)
left.set_title(slide)
shown = right.imshow(maps.per_task[0].reshape(6, 6), cmap="magma", extent=(0, 48, 48, 0))
right.set(title=maps.kind, xticks=[], yticks=[])
figure.colorbar(shown, ax=right)
for axes in (left, right):
    for x, y in bag.coords[evidence > 0].tolist():
        axes.add_patch(plt.Rectangle((x, y), 8, 8, fill=False, color="tab:green", linewidth=2))""",
    ),
    (
        "markdown",
        """\
## A stored run

`milbench run` trains all folds and tasks, and keeps every prediction. If it is killed, the same command goes on.
`mb.open_run` opens the run folder.""",
    ),
    (
        "code",
        """\
!milbench run --models mean_pooling amil --no-tracking > run.log
run = mb.open_run("runs/digits")
run""",
    ),
    (
        "code",
        """\
run.predictions()[["model", "task", "fold", "slide_id", "role", "target", "probability"]].head().round(3)""",
    ),
    (
        "markdown",
        """\
## Which model is better

The statistics are those of `milbench report`: mean AUROC over tasks and folds, with 95 % intervals over patients and folds
([Statistics](statistics.md)).""",
    ),
    (
        "code",
        """\
analysis = mb.statistics(run, draws=1000)["binary"]
analysis.cohorts[["model", "score", "low", "high", "n_tasks"]].round(3)""",
    ),
    (
        "code",
        """\
analysis.pairs[["model_a", "model_b", "delta", "low", "high", "p_holm"]].round(3)""",
    ),
    (
        "markdown",
        """\
## All folds together

An ensemble averages the models of all folds. Ask it about slides that none of them has trained on. Here the
slide is only an example, because other folds trained on it.""",
    ),
    (
        "code",
        """\
together = run.ensemble("amil", task="both_0_2")
dict(zip(together.names, together.answers(bag.features).round(3).tolist(), strict=True))""",
    ),
    (
        "markdown",
        """\
Next: [a model of your own](models.md), [your own features](features.md), [the report](report.md).""",
    ),
)
