"""How fast a map of many patches is drawn, and with how much memory, beside one polygon per patch.

    python benchmarks/heatmap_speed.py [--patches 100000] [--save]

Drawn: a panel of one map over its tissue (PNG and SVG, as `milbench heatmap` writes them). The reference puts the same
patches as matplotlib polygons, which is how a plotting script does it. Medians over interleaved repetitions; each
drawing runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from results_file import add_save_flag, publish, table

WAYS = {"milbench": "panel of milbench heatmap", "polygons": "one polygon per patch (reference)"}
PATCH = 256


def main() -> None:
    """Print seconds, peak memory and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    add_save_flag(parser)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.patches)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.repetitions):
        for way in WAYS:
            found[way].append(in_a_process(way, options.patches))
    publish(options, report(found, options.patches))


def in_a_process(way: str, patches: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--patches", str(patches)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(printed))


def measure(way: str, patches: int) -> dict[str, float]:
    """Seconds of drawing and saving, imports left out, and the peak of the process."""
    rng = np.random.default_rng(0)
    edge = int(np.ceil(np.sqrt(patches)))
    lattice = np.stack(np.meshgrid(np.arange(edge), np.arange(edge)), axis=-1).reshape(-1, 2)[:patches]
    coords, values = lattice * PATCH, rng.random(patches)
    draw = {"milbench": draw_panel, "polygons": draw_polygons}[way]
    with tempfile.TemporaryDirectory() as folder:
        draw(coords[:100], values[:100], Path(folder) / "warm")
        before = time.perf_counter()
        draw(coords, values, Path(folder) / "map")
        seconds = time.perf_counter() - before
    return {"seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def draw_panel(coords: np.ndarray, values: np.ndarray, stem: Path) -> None:
    from milbench.heatmap.maps import Map, SlideMaps
    from milbench.heatmap.places import PIXELS, Places
    from milbench.heatmap.render import Drawing, panel, save_panel

    places = Places(coords.astype(np.float64), float(PATCH), PIXELS, is_guessed=False)
    drawn = Map("amil", "AMIL", "attention", "softmax attention", values)
    slide = SlideMaps("s", "d", "t", 0, "test", 1.0, "1", places, (drawn,), {"amil": "p = 0.50"})
    save_panel(panel([Drawing(slide)], "rank"), stem)


def draw_polygons(coords: np.ndarray, values: np.ndarray, stem: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.6))
    FigureCanvasAgg(figure)
    corners = coords[:, None, :] + PATCH * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    for place, colours in ((1, np.full(len(values), 0.8)), (2, values)):
        axes = figure.add_subplot(1, 2, place)
        polygons = PolyCollection(corners, array=colours, cmap="viridis", linewidths=0)
        axes.add_collection(polygons)
        axes.autoscale()
    figure.savefig(stem.with_suffix(".png"), dpi=130)
    figure.savefig(stem.with_suffix(".svg"))


def report(found: dict[str, list[dict[str, float]]], patches: int) -> str:
    """The table of medians, and how many times as long the reference takes."""
    medians = {
        way: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for way, rows in found.items()
    }
    rows = [(WAYS[way], f"{row['seconds']:.2f}", f"{row['peak_gb']:.2f}") for way, row in medians.items()]
    times = medians["polygons"]["seconds"] / medians["milbench"]["seconds"]
    told = f"{patches:,} patches, medians of {len(found['milbench'])} interleaved repetitions."
    return f"{told}\n\n{table(['', 'seconds', 'peak GB of the process'], rows)}\n\nReference / milbench: {times:.1f}."


if __name__ == "__main__":
    main()
