"""Picture of `peers.py`: patches against milliseconds per patch, on two logarithmic axes, a panel per method."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from growth_figure import log_axes
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milbench.report.figures import plain_names

OURS, THEIRS, PRODUCTS = "milbench", "torchmil", "products"
LOOKS = {
    OURS: {"color": "#0072b2", "marker": "o", "label": "milbench"},
    THEIRS: {"color": "#d55e00", "marker": "s", "label": "torchmil"},
    PRODUCTS: {"color": "0.45", "linewidth": 2.4, "zorder": 0, "label": "milbench's matrix products alone"},
}
TITLES = {"step": "Training step", "inference": "Inference"}


@plain_names()
@rc_context({"svg.hashsalt": "peers", "svg.fonttype": "none"})
def save(rows: pd.DataFrame, stem: Path) -> None:
    """PNG and SVG; the same rows give the same bytes, since no date is written."""
    times = rows[rows["kind"].isin(TITLES)]
    methods = list(dict.fromkeys(times["method"]))
    figure = Figure(figsize=(10.4, 5.6))
    panels = figure.subplots(len(TITLES), len(methods), sharex=True, sharey="row", squeeze=False)
    for line, (kind, title) in zip(panels, TITLES.items(), strict=True):
        for axes, method in zip(line, methods, strict=True):
            _panel(axes, times[(times["kind"] == kind) & (times["method"] == method)])
        line[0].set_ylabel(f"{title}, ms per patch", fontsize=9)
    for axes, method in zip(panels[0], methods, strict=True):
        axes.set_title(method, fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("patches (× 1,024 features)", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(LOOKS), frameon=False, fontsize=9)
    figure.subplots_adjust(left=0.075, right=0.975, top=0.94, bottom=0.15, wspace=0.2, hspace=0.1)
    figure.savefig(stem.with_suffix(".png"), dpi=130, metadata={"Software": None})
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    for library, look in LOOKS.items():
        own = rows[rows["library"] == library].sort_values("patches")
        axes.plot(own["patches"], own["milliseconds"] / own["patches"], **look)
    log_axes(axes, rows["patches"].unique())
