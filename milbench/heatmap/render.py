"""Render: a panel like the paper's Fig. 5, the slide or its tissue, then one map per model and one per expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from milbench.heatmap.canvas import Grid, grid_around, grid_over, paint
from milbench.heatmap.maps import Map, Scale, SlideMaps
from milbench.heatmap.places import PIXELS
from milbench.heatmap.slide import SlidePicture
from milbench.report.figures import blank_figure, plain_names, show_hidden

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "viridis"
"""Perceptually uniform, rising in lightness, told apart by the colour-blind and in grey."""

TISSUE, EVIDENCE = "0.82", "#D55E00"
OVER_SLIDE = 0.6
"""Opacity of a map over the slide, whose tissue must still be seen."""

MARGIN = 0.03
"""Part of the tissue's longer edge that is left free around it."""

MOST_COLUMNS = 4
"""Panels side by side where there is one slide; several slides get one row each."""

CELL, GAP, TITLE, HEAD, BAR, FOOT = 2.3, 0.14, 0.26, 0.42, 0.9, 0.26
"""Inches: edge of a panel, space between two, their titles, the slide's line, the shared colour bar's column, and the
room below a panel for its own colour bar."""

FLAT, TALL = 0.45, 1.7
"""Least and greatest height of a panel over its width: beyond, a slide gets white sides."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """One slide to draw, over its picture where there is one."""

    maps: SlideMaps
    picture: SlidePicture | None = None

    @property
    def grid(self) -> Grid:
        """Pixels to paint on: the picture's own, or a grid around the patches."""
        if self.picture is None:
            return grid_around(self.maps.places)
        rows, columns = self.picture.pixels.shape[:2]
        return grid_over(self.picture.width, self.picture.height, columns, rows)


def panel(drawings: Sequence[Drawing], scale: Scale, smooth: float = 0.0) -> Figure:
    """Every slide with all its maps. All slides have maps of the same names.

    Parameters
    ----------
    scale : "share" or "rank" (one colour bar for all), or "softmax" (each map from its own least to its greatest value).
        Under "share" a map that is no distribution has a bar of its own.
    smooth : standard deviation of a Gaussian, in patches; 0 = none.
    """
    n_panels = 1 + len(drawings[0].maps.maps)
    columns = n_panels if len(drawings) > 1 or n_panels <= MOST_COLUMNS + 1 else MOST_COLUMNS
    lines = ceil(n_panels / columns)
    height = CELL * max(_shape(drawing) for drawing in drawings)
    shared = scale != "softmax" and any(_is_shared(drawn, scale) for drawing in drawings for drawn in drawing.maps.maps)
    own = any(not _is_shared(drawn, scale) for drawing in drawings for drawn in drawing.maps.maps)
    line = TITLE + height + (FOOT if own else GAP)
    block = HEAD + lines * line
    size = (GAP + columns * (CELL + GAP) + (BAR if shared else 0), len(drawings) * block + GAP)
    figure = blank_figure(size)
    for index, drawing in enumerate(drawings):
        _heading(figure, drawing.maps, size, index * block)
        upper = index * block + HEAD + TITLE
        places = [(GAP + (i % columns) * (CELL + GAP), upper + (i // columns) * line) for i in range(n_panels)]
        axes = [_axes(figure, size, place, (CELL, height)) for place in places]
        _draw(drawing, axes, scale, smooth)
    if shared:
        _shared_bar(figure, size, scale)
    return figure


def _is_shared(drawn: Map, scale: Scale) -> bool:
    """Whether the map is coloured by the bar that all maps share."""
    return scale == "rank" or (scale == "share" and drawn.is_distribution)


LEAST_SHARE, MOST_SHARE = 0.1, 100.0
"""Multiples of an even share at which the colour ends, the same in every picture."""


def _norm(scale: Scale) -> Any:
    """From values to colours of the shared bar."""
    from matplotlib.colors import LogNorm, Normalize

    return LogNorm(LEAST_SHARE, MOST_SHARE) if scale == "share" else Normalize(0, 1)


def _norm_of_patient(drawn: Map) -> Any:
    """From values to colours between the ends of all slides of the patient; None = those of the map itself."""
    from matplotlib.colors import Normalize

    return None if drawn.of_patient is None else Normalize(drawn.of_patient.min(), drawn.of_patient.max())


@plain_names()
def save_panel(figure: Figure, stem: Path) -> list[Path]:
    """PNG and SVG of `figure`; the same figure gives the same bytes."""
    import matplotlib as mpl

    show_hidden(figure)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg")]
    figure.savefig(paths[0], dpi=130, metadata={"Software": None})
    with mpl.rc_context({"svg.hashsalt": "milbench"}):
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths


# ---- layout --------------------------------------------------------------------------------------


def _view(drawing: Drawing) -> tuple[float, float, float, float]:
    """Left, right, bottom, top end of what is shown: the tissue and a margin."""
    left, top, right, bottom = drawing.maps.places.bounds
    margin = MARGIN * max(right - left, bottom - top)
    return left - margin, right + margin, bottom + margin, top - margin


def _shape(drawing: Drawing) -> float:
    """Height over width of a panel."""
    left, right, bottom, top = _view(drawing)
    return min(max((bottom - top) / (right - left), FLAT), TALL)


def _axes(figure: Figure, size: tuple[float, float], place: tuple[float, float], edges: tuple[float, float]) -> Axes:
    """Axes at `place`, inches from the left and upper end."""
    (width, height), (left, upper), (across, down) = size, place, edges
    axes: Axes = figure.add_axes((left / width, 1 - (upper + down) / height, across / width, down / height))
    axes.set_axis_off()
    return axes


def _heading(figure: Figure, maps: SlideMaps, size: tuple[float, float], upper: float) -> None:
    slide = f"{maps.slide_id} of {maps.patient}" if maps.patient else maps.slide_id
    text = f"{slide}   {_task_and_label(maps)}   {maps.dataset}, fold {maps.fold}, {maps.role} side"
    figure.text(GAP / size[0], 1 - (upper + 0.1) / size[1], text, fontsize=10, weight="bold", va="top")
    if maps.caption:
        figure.text(GAP / size[0], 1 - (upper + 0.28) / size[1], maps.caption, fontsize=8, color="0.3", va="top")


def _task_and_label(maps: SlideMaps) -> str:
    """ "TP53 = 1", or for the maps of one class "subtype = Basal, is LumA"."""
    is_of_class = " = " in maps.task
    return f"{maps.task}, is {maps.label_text}" if is_of_class else f"{maps.task} = {maps.label_text}"


def _shared_bar(figure: Figure, size: tuple[float, float], scale: Scale) -> None:
    from matplotlib.cm import ScalarMappable

    length = min(0.7 * size[1], CELL)
    axes = figure.add_axes((1 - (BAR - 0.08) / size[0], 1 - (HEAD + TITLE + length) / size[1], 0.13 / size[0], length / size[1]))  # fmt: skip
    bar = figure.colorbar(ScalarMappable(_norm(scale), cmap=COLOURS), cax=axes)
    if scale == "share":
        bar.set_ticks([0.1, 1, 10, 100], labels=["≤ 0.1", "1", "10", "≥ 100"])
        bar.ax.minorticks_off()
    else:
        bar.set_ticks([0, 0.5, 1])
    bar.set_label("attention / even share" if scale == "share" else "percentile rank", fontsize=8, labelpad=1)
    bar.ax.tick_params(labelsize=7)


# ---- one slide -----------------------------------------------------------------------------------


def _draw(drawing: Drawing, axes: Sequence[Axes], scale: Scale, smooth: float) -> None:
    _draw_tissue(drawing, axes[0])
    for drawn, place in zip(drawing.maps.maps, axes[1:], strict=True):
        _draw_map(drawing, drawn, place, scale, smooth)
    for place in axes:
        left, right, bottom, top = _view(drawing)
        place.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", anchor="N")


def _draw_tissue(drawing: Drawing, axes: Axes) -> None:
    """The slide, or grey patches; patches that carry the task's evidence in orange, where that is known."""
    maps, truth = drawing.maps, drawing.maps.truth
    marked = truth is not None and truth.any()
    if drawing.picture is not None:
        _underlay(drawing.picture, axes)
    elif maps.pixels is not None:
        _pictures(drawing, axes, maps.pixels)
    else:
        _flat(drawing, axes, np.zeros(len(maps.places.corners)), TISSUE)
    if truth is not None and marked and maps.pixels is None:
        _flat(drawing, axes, np.where(truth, 0.0, np.nan), EVIDENCE)
    title = "slide" if drawing.picture is not None else "patches"
    axes.set_title(f"{title}, evidence in orange" if marked else title, fontsize=9, pad=4)
    _scale_bar(drawing, axes)


def _pictures(drawing: Drawing, axes: Axes, pixels: NDArray[np.float64]) -> None:
    """The patches themselves, dark on white; those that carry the task's evidence in an orange frame."""
    from matplotlib.patches import Rectangle

    places, truth = drawing.maps.places, drawing.maps.truth
    size = places.patch_size
    for index, (x, y) in enumerate(places.corners.tolist()):
        axes.imshow(
            pixels[index], extent=(x, x + size, y + size, y), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest"
        )
        marked = truth is not None and bool(truth[index])
        colour, line, layer = (EVIDENCE, 1.8, 4) if marked else ("0.75", 0.6, 3)
        axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=colour, linewidth=line, zorder=layer))


def _flat(drawing: Drawing, axes: Axes, values: Any, colour: str) -> None:
    """Patches whose value is not NaN, in one colour."""
    from matplotlib.colors import ListedColormap

    shown = ~np.isnan(values)
    places = drawing.maps.places
    kept = type(places)(places.corners[shown], places.patch_size, places.unit)
    canvas = paint(kept, values[shown], drawing.grid)
    axes.imshow(canvas.pixels, extent=canvas.extent, cmap=ListedColormap([colour]), interpolation="nearest")


def _draw_map(drawing: Drawing, drawn: Map, axes: Axes, scale: Scale, smooth: float) -> None:
    if drawing.picture is not None:
        _underlay(drawing.picture, axes)
    shared = _is_shared(drawn, scale)
    canvas = paint(drawing.maps.places, drawn.scaled(scale if shared else "softmax"), drawing.grid, smooth)
    pixels = np.clip(canvas.pixels, LEAST_SHARE, MOST_SHARE) if shared and scale == "share" else canvas.pixels
    image = axes.imshow(
        pixels, extent=canvas.extent, cmap=COLOURS, alpha=OVER_SLIDE if drawing.picture else None,
        interpolation="nearest", norm=_norm(scale) if shared else _norm_of_patient(drawn),
    )  # fmt: skip
    axes.set_title(_title(drawing.maps, drawn), fontsize=9, pad=4)
    if not shared:
        _own_bar(axes, image)


def _title(maps: SlideMaps, drawn: Map) -> str:
    if drawn.name != "attention":
        return f"{drawn.title}, {drawn.name}"
    logits = ", logits" if drawn.kind == "instance logits" else ""
    return f"{drawn.title}{logits}   {maps.answers[drawn.model]}"


def _underlay(picture: SlidePicture, axes: Axes) -> None:
    axes.imshow(picture.pixels, extent=(0, picture.width, picture.height, 0), interpolation="antialiased")


def _own_bar(axes: Axes, image: Any) -> None:
    """A bar of the map's own values below its picture."""
    inset = axes.inset_axes((0.2, -0.05, 0.6, 0.025))
    bar = axes.figure.colorbar(image, cax=inset, orientation="horizontal")
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    low, high = image.get_clim()
    bar.set_ticks([low, high], labels=[f"{low:.2g}", f"{high:.2g}"])


def _scale_bar(drawing: Drawing, axes: Axes) -> None:
    """A bar of a round length below the tissue: in micrometres where the slide tells, else in the places' unit."""
    left, right, bottom, top = _view(drawing)
    length, text = _bar_length(drawing, right - left)
    y, x = bottom - (bottom - top) * 0.002, left + MARGIN * (right - left)
    axes.plot([x, x + length], [y, y], color="black", linewidth=2, solid_capstyle="butt", clip_on=False)
    axes.annotate(
        text, (x + length, y), (4, 0), "data", "offset points", fontsize=7, va="center", annotation_clip=False
    )


def _bar_length(drawing: Drawing, width: float) -> tuple[float, str]:
    """Length in the places' unit of some fifth of the width, and its text."""
    microns = drawing.picture.microns_per_pixel if drawing.picture else None
    unit = drawing.maps.places.unit
    if microns is None or unit != PIXELS:
        length = round_length(width / 5)
        return length, f"{length:,g} {unit}"
    length = round_length(width / 5 * microns)
    return length / microns, f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"


def round_length(wanted: float) -> float:
    """The greatest 1, 2 or 5 times a power of ten that is not above `wanted`."""
    power = float(10.0 ** floor(log10(wanted)))
    return max(step * power for step in (1, 2, 5) if step * power <= wanted * (1 + 1e-9))
