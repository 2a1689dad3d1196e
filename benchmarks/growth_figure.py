"""Picture of `growth.py`: patches against milliseconds per patch, on two logarithmic axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from growth_worker import FLOOR
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from milbench.report.figures import plain_names
from milbench.report.looks import styles

KINDS = {"step": "Training step", "inference": "Inference"}


@plain_names()
@rc_context({"svg.hashsalt": "growth", "svg.fonttype": "none"})
def save(rows: pd.DataFrame, titles: Mapping[str, str], stem: Path) -> None:
    """PNG and SVG; the same rows give the same bytes, since no date is written."""
    figure = _figure(rows, titles)
    figure.savefig(stem.with_suffix(".png"), dpi=130, metadata={"Software": None})
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})


def _figure(rows: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Both kinds side by side: this build in the models' looks, the reference faint, the floor grey."""
    figure = Figure(figsize=(10.4, 4.8))
    panels = figure.subplots(1, 2, sharex=True)
    times = rows[rows["kind"].isin(KINDS)]
    models = [model for model in dict.fromkeys(times["model"]) if model != FLOOR]
    for axes, (kind, title) in zip(panels, KINDS.items(), strict=True):
        _panel(axes, times[times["kind"] == kind], models)
        axes.set_title(title, fontsize=10)
    panels[0].set_ylabel("milliseconds per patch", fontsize=9)
    looks = styles(models)
    entries = [Line2D([], [], label=titles[model], **looks[model]) for model in models]
    entries.append(Line2D([], [], color="0.35", linewidth=2.4, label="floor: Linear 1,024 → 512"))
    if (times["build"] == "reference").any():
        entries.append(Line2D([], [], color="0.4", linewidth=1, alpha=0.45, label="the same, reference build"))
    figure.legend(handles=entries, loc="lower center", ncols=4, frameon=False, fontsize=8.5, handlelength=3.2)
    figure.subplots_adjust(left=0.075, right=0.985, top=0.93, bottom=0.255, wspace=0.14)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, models: list[str]) -> None:
    looks = styles(models)
    for (build, model), own in rows.groupby(["build", "model"], sort=False):
        own = own.sort_values("patches")
        x, y = own["patches"].to_numpy(), (own["milliseconds"] / own["patches"]).to_numpy()
        if model == FLOOR:
            if build == "this":
                axes.plot(x, y, color="0.35", linewidth=2.4, zorder=0)
        elif build == "this":
            axes.plot(x, y, **looks[model])
        else:
            axes.plot(x, y, color=looks[model]["color"], linewidth=1, alpha=0.45, zorder=0.5)
    log_axes(axes, rows["patches"].unique())
    axes.set_xlabel("patches (× 1,024 features)", fontsize=9)


def log_axes(axes: Axes, patches: Iterable[int]) -> None:
    """Both axes logarithmic, with a tick at each number of patches."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sorted(patches))
    axes.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8.5)
    axes.grid(color="0.9")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
