"""Figures: radar chart of task AUROCs and box plot by model. Readable in grey and for the colour-blind."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from milbench.errors import UsageError
from milbench.process.lazily import import_when_used
from milbench.report.looks import MOST_TOGETHER, styles
from milbench.report.png import png_bytes
from milbench.stats.metric import AUROC, PrimaryMetric
from milbench.stats.scores import coverage
from milbench.store.files import write_atomically
from milbench.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STUDIED = "m4"
"""The model whose claims the study makes: its gain on rare genes, its experts and its number of tasks."""

AUROC_RINGS = {0.5: "0.5", 0.6: "", 0.7: "0.7", 0.8: "", 0.9: "0.9"}
RINGS = {0.0: "0", 0.2: "", 0.4: "0.4", 0.6: "", 0.8: "0.8"}
"""Rings of a radar chart: AUROC and c-index begin at a chance of 0.5, correlations and kappa at 0."""

FEW_TOGETHER = 7
"""Polygons of a circle where there are several circles."""

MOST_SPOKES = 24
"""Tasks beyond which a radar chart is a tangle; the tables and the page hold them."""


def radar(scores: pd.DataFrame, title: str, highlight: str = "", metric: PrimaryMetric = AUROC) -> Figure:
    """One polygon per model over the tasks' mean scores; the legend gives each polygon's area.

    The area is that of the polygon through the scores, as a fraction of the one through 1 everywhere; a score below 0
    counts 0 there. It depends on the order of the tasks and is a reading aid, not a metric. A model that lacks scores which others
    have gets no polygon, and the legend says so. `scores` are rows of one dataset with a defined score, of tasks of one kind.
    Up to `MOST_TOGETHER` models stand in one circle. More are dealt out to several, in their order and on one scale; the
    highlighted model is in all.
    """
    titles = dict(zip(scores["model"], scores["title"], strict=True))
    groups = _dealt(list(titles), highlight)
    if len(groups) == 1:
        figure = blank_figure((9.0, 5.6))
        places, legend = (
            [(0.12, 0.11, 0.46, 0.739)],
            {"loc": "center left", "bbox_to_anchor": (0.7, 0.5), "fontsize": 9},
        )
    else:
        width, height = 4.1 * len(groups), 5.9
        figure = blank_figure((width, height))
        places = [((4.1 * g + 0.75) / width, 2.45 / height, 2.6 / width, 2.6 / height) for g in range(len(groups))]
        legend = {"loc": "upper center", "fontsize": 8.5}
    for number, (group, place) in enumerate(zip(groups, places, strict=True)):
        axes: Any = figure.add_axes(place, projection="polar")
        _polygons(axes, scores, group, titles, highlight, metric)
        if len(groups) > 1:
            legend["bbox_to_anchor"] = ((number + 0.5) / len(groups), 0.35)
        figure.legend(
            *axes.get_legend_handles_labels(), title="model, polygon area", frameon=False, handlelength=3, **legend
        )
    figure.text(0.5, 0.95, title, ha="center", fontsize=11)
    return figure


def _dealt(models: list[str], highlight: str) -> list[list[str]]:
    """Models by circle, in their order, in parts that differ by one at most; the highlighted one is in all."""
    n_groups = 1 if len(models) <= MOST_TOGETHER else -(-len(models) // FEW_TOGETHER)
    cuts = [round(part * len(models) / n_groups) for part in range(n_groups + 1)]
    groups = [models[start:end] for start, end in pairwise(cuts)]
    return [group if highlight in {"", *group} else [*group, highlight] for group in groups]


def _polygons(
    axes: Any, scores: pd.DataFrame, models: list[str], titles: Mapping[str, str], highlight: str, metric: PrimaryMetric
) -> None:
    """Polygons of `models`; scale and tasks are those of all `scores`."""
    tasks = list(dict.fromkeys(scores["task"]))
    means = scores.groupby(["model", "task"], sort=False)["score"].mean().unstack("task").reindex(columns=tasks)
    angles = np.arange(len(tasks)) * 2 * np.pi / len(tasks)
    covered = coverage(scores)
    looks = styles(list(titles), highlight)
    for model in models:
        if covered[model].n_missing:
            axes.plot([], [], " ", label=f"{titles[model]}  incomplete, not drawn")
            continue
        values = means.loc[model].to_numpy(dtype=float)
        axes.plot(
            np.r_[angles, angles[0]], np.r_[values, values[0]],
            label=f"{titles[model]}  {polygon_area(values):.3f}", **looks[model],
        )  # fmt: skip
    least, rings = (0.4, AUROC_RINGS) if metric.chance == 0.5 else (-0.1, RINGS)
    axes.set_ylim(min(least, np.floor(np.nanmin(means.to_numpy()) * 10) / 10), 1.0)
    axes.set_theta_offset(np.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_xticks(angles, tasks, fontsize=9)
    axes.tick_params(axis="x", pad=4)
    for angle, label in zip(angles, axes.get_xticklabels(), strict=True):
        label.set_horizontalalignment(_side(float(np.sin(angle))))
    axes.set_yticks(list(rings), list(rings.values()), fontsize=7, color="0.35")
    axes.plot(np.linspace(0, 2 * np.pi, 200), np.full(200, metric.chance), color="0.6", linewidth=0.8)
    axes.grid(color="0.88")


def _side(across: float) -> str:
    """Alignment that lets a label grow away from the circle; `across` is -1 at its left end, 1 at its right."""
    return "center" if abs(across) < 0.1 else "left" if across > 0 else "right"


def polygon_area(values: np.ndarray[Any, Any]) -> float:
    """Area of the radar polygon as a fraction of the largest; NaN for fewer than three tasks."""
    if len(values) < 3:
        return float("nan")
    values = np.maximum(values, 0)  # two scores below 0 would make a positive product
    return float((values * np.roll(values, -1)).sum() / len(values))


BOX_WIDTH = 0.62
"""Of the distance between two models."""

FEWEST_TO_BOX = 5
"""Scores of a model below which a box would show more than there is; they are drawn as dots alone."""


def box(scores: pd.DataFrame, title: str, metric: PrimaryMetric = AUROC) -> Figure:
    """Scores over folds, seeds and tasks, one box per model and one dot per trained (task, fold, seed).

    The box is of quartiles. It has no whiskers: the dots show the range, and a whisker would read as an interval.
    None of `scores` is NaN.
    """
    titles = dict(zip(scores["model"], scores["title"], strict=True))
    left = max(0.738, 0.07 * len(next(iter(titles.values()))) - 0.15)  # inches; the first name reaches beyond the axis
    width = max(7.46, 0.26 + 0.5 * len(titles)) + left
    figure = blank_figure((width, 4.6))
    axes: Any = figure.add_axes((left / width, 0.24, 1 - (left + 0.164) / width, 0.66))
    covered, looks = coverage(scores), styles(list(titles))
    for position, model in enumerate(titles):
        values = scores.loc[scores["model"] == model, "score"].to_numpy()
        _box(axes, position, values)
        _dots(axes, position, values, looks[model]["color"])
    axes.axhline(metric.chance, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    axes.set(xlabel="", ylabel=f"test {metric.title}", xlim=(-0.6, len(titles) - 0.4))
    labels = [f"{title}, incomplete" if covered[model].n_missing else title for model, title in titles.items()]
    axes.set_xticks(range(len(labels)), labels, rotation=28, ha="right", fontsize=9, rotation_mode="anchor")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=11, y=1.0)
    return figure


def _box(axes: Any, position: int, values: np.ndarray[Any, Any]) -> None:
    """Quartiles as a box with the median as a line; too few values get the median alone.

    Not by `Axes.boxplot`, which draws empty whiskers and imports pyplot.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    low, middle, high = np.percentile(values, [25, 50, 75])
    left, right = position - BOX_WIDTH / 2, position + BOX_WIDTH / 2
    if len(values) >= FEWEST_TO_BOX:
        corners = [(left, low), (right, low), (right, high), (left, high), (left, low)]
        axes.add_artist(
            PathPatch(Outline(corners, closed=True), facecolor="0.93", edgecolor="0.4", linewidth=0.9, zorder=2)
        )
    axes.plot([left, right], [middle, middle], color="0.25", linewidth=1.2, zorder=2.1, solid_capstyle="butt")


def _dots(axes: Any, position: int, values: np.ndarray[Any, Any], color: str) -> None:
    """Every score as a dot, spread sideways evenly in the order of the rows, so that no chance enters."""
    offsets = np.linspace(-0.24, 0.24, len(values)) if len(values) > 1 else np.zeros(len(values))
    axes.scatter(position + offsets, values, s=9, color=color, alpha=0.75, linewidths=0, zorder=3)


DPI = 160
"""Dots per inch of a PNG."""

FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei",
    "Arial Unicode MS",
)  # fmt: skip
"""Tried glyph by glyph, as far as the machine has them; DejaVu, which matplotlib ships, lacks Chinese and Japanese."""


@contextmanager
def plain_names() -> Iterator[None]:
    """Inside, names are drawn as they are written: a $ starts no formula, a letter that no font has is a box.

    The user's own settings of matplotlib are left out. They would change the files, and some ask for LaTeX.
    """
    matplotlib = importable_matplotlib()
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    settings = {
        **{name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")},
        "font.family": [font for font in FONTS if font in installed],
        "text.parse_math": False,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def importable_matplotlib() -> Any:
    """The module; raises `UsageError` if the environment names a backend that it does not know."""
    # matplotlib's PDF needs the subsets of fonts only for `pdf.fonttype` 42, and they take a third of the time to import it
    import_when_used("fontTools.subset")
    try:
        import matplotlib
    except ValueError as error:
        raise UsageError(
            f"no figure can be drawn ({error}). Correct the environment variable MPLBACKEND, or unset it."
        ) from error
    return matplotlib


class Files(NamedTuple):
    """What a figure's files hold."""

    png: bytes
    pdf: bytes


@plain_names()
def save(figure: Figure, stem: Path) -> list[Path]:
    """PNG and PDF of `figure`; the same figure gives the same bytes, since no date is written."""
    return write(formats(figure), stem)


def formats(figure: Figure) -> Files:
    """The files that `save` writes, made inside `plain_names`."""
    from milbench.report.two_formats import draw_both

    show_hidden(figure)
    pdf = BytesIO()
    pixels = draw_both(figure, pdf, DPI)
    return Files(png_bytes(pixels, DPI), pdf.getvalue())


def write(files: Files, stem: Path) -> list[Path]:
    """Paths of a figure's files, written at `stem`."""
    paths = [stem.with_suffix(".png"), stem.with_suffix(".pdf")]
    for path, content in zip(paths, files, strict=True):
        write_atomically(path, content, waits_for_disk=False)
    return paths


def show_hidden(figure: Figure) -> None:
    """Write names with nothing hidden and no formula, wherever the figure draws them."""
    from matplotlib.text import Text

    texts: list[Any] = figure.findobj(Text)
    for text in texts:
        text.set_text(visible(text.get_text()))
        text.set_parse_math(False)
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        _show_hidden_in_ticks(axis.get_major_formatter())


def _show_hidden_in_ticks(ticks: Any) -> None:
    """The same for names along an axis, whose texts are made anew whenever the figure is drawn."""
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    if isinstance(ticks, FixedFormatter):
        ticks.seq = [visible(text) for text in ticks.seq]
    elif isinstance(ticks, FuncFormatter):  # what `set_xticks` makes of names
        name_of = ticks.func
        ticks.func = lambda value, place: visible(name_of(value, place))


def blank_figure(size: tuple[float, float]) -> Figure:
    """A figure with a canvas of its own: pyplot would keep state and may ask for a screen."""
    importable_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure
