"""`milbench features` beside its encoder alone: tiles per second, processor time, memory against the number of slides.

    python benchmarks/features_speed.py [--lazyslide PYTHON] [--encoder timm:resnet50] [--save]

    python3 -m venv peer && peer/bin/pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31 lazyslide==0.13.0 wsidata==0.12.0
    python benchmarks/features_speed.py --lazyslide peer/bin/python

The slide is a made pyramid of JPEG tiles, 0.5 µm per pixel; the encoder has random weights from a file. "Encoder alone"
encodes the slide's tiles from memory, with the threads that the command has. "From the first batch on" leaves out what happens once:
readers begin and tissue is found. lazyslide gets milbench's tiles and weights, and the script asserts that features are equal. Each
measurement is a process of its own, imports and one warm-up batch not counted. Contestants take turns.

Memory is that of copies of a small slide, with an encoder that costs nothing: the most that the command, and one of its
readers, have held.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import h5py
import numpy as np
import torch
import torchvision_operators  # noqa: F401 - where torchvision is built for CUDA and torch is not
from made_slides import tiff_slide, tissue_pixels
from results_file import add_save_flag, publish, table
from safetensors.torch import save_file
from timing import interleaved, ratio

HERE = Path(__file__).resolve().parent
ALONE, COMMAND, PEER, PEER_LOADING = "encoder alone", "milbench features", "lazyslide", "lazyslide, 1 loading process"
SMALL_WIDTH, LEAST_TILES = 3072, 129
PLUGIN = """
from milbench.extraction.encoders.plugin import register_encoder


@register_encoder("colours")
def colours(images):
    return images.mean(dim=(2, 3))
"""

Measured = dict[str, float]


def write_slide(path: Path, width: int) -> Path:
    path.parent.mkdir(parents=True)
    return tiff_slide(path, tissue_pixels(width, width * 3 // 4), 0.5, compression="jpeg")


def write_weights(path: Path, encoder: str) -> Path:
    import timm

    torch.manual_seed(0)
    save_file(timm.create_model(encoder.removeprefix("timm:"), num_classes=0).state_dict(), path)
    return path


def measured(python: str, script: str, task: dict[str, Any]) -> Measured:
    """What a script of this folder measures; its `out` is made anew."""
    shutil.rmtree(task["out"], ignore_errors=True)
    root = HERE.parent
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / '.typing'}"} if python == sys.executable else None
    words = [python, str(HERE / script), json.dumps(task, default=str)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def speed(folder: Path, options: argparse.Namespace) -> str:
    """The table of tiles per second."""
    write_slide(folder / "large" / "large.tiff", options.width)
    task = {"slides": folder / "large", "encoder": options.encoder,
            "weights": write_weights(folder / "weights.safetensors", options.encoder), "workers": options.workers}  # fmt: skip
    contestants: dict[str, Callable[[], Measured]] = {
        ALONE: lambda: measured(
            sys.executable, "features_worker.py", {**task, "what": "alone", "out": folder / "alone"}
        ),
        COMMAND: lambda: measured(
            sys.executable, "features_worker.py", {**task, "what": "command", "out": folder / "out"}
        ),
    }
    if options.lazyslide:
        for name, workers in ((PEER, 0), (PEER_LOADING, 1)):
            of_peer = {**task, "workers": workers, "out": folder / "peer.zarr", "coords": folder / "alone" / "coords.npy",
                       "features": folder / "peer.npy"}  # fmt: skip
            contestants[name] = lambda of_peer=of_peer: measured(options.lazyslide, "features_peer.py", of_peer)
    found = interleaved(contestants, options.repetitions, warm_ups=0)
    assert found[ALONE][0]["tiles"] >= LEAST_TILES, "a wider slide is needed: on this one all is start-up"
    assert_equal_features(folder, has_peer=bool(options.lazyslide))
    return speed_table(found)


def assert_equal_features(folder: Path, *, has_peer: bool) -> None:
    """All contestants computed the same: milbench to the bit of float16, the peer within rounding."""
    alone = np.load(folder / "alone" / "features.npy")
    with h5py.File(folder / "out" / "large.h5") as file:
        assert np.array_equal(file["features"][...], alone.astype(np.float16))
    if has_peer:
        assert np.allclose(np.load(folder / "peer.npy"), alone, rtol=1e-3, atol=1e-3 * np.abs(alone).max())


def speed_table(found: dict[str, list[Measured]]) -> str:
    rate = {name: [run["tiles"] / run["seconds"] for run in runs] for name, runs in found.items()}
    steady = {name: [run["tiles"] / run["steady"] for run in runs] for name, runs in found.items()}
    rows = [
        [
            name, f"{median(rate[name]):.1f}", f"{ratio(rate[name], rate[ALONE]):.2f}", f"{ratio(steady[name], rate[ALONE]):.2f}",
            f"{median(1000 * run['processor'] / run['tiles'] for run in runs):.1f}",
        ]
        for name, runs in found.items()
    ]  # fmt: skip
    head = [
        "",
        "tiles per second",
        "of the encoder alone",
        "the same, from the first batch on",
        "processor ms per tile",
    ]
    return f"{found[ALONE][0]['tiles']:,.0f} tiles of 256 pixels.\n\n{table(head, rows)}"


def memory(folder: Path, counts: Sequence[int], workers: int) -> str:
    """The table of memory against the number of slides."""
    small = write_slide(folder / "small" / "0.tiff", SMALL_WIDTH)
    (folder / "colours.py").write_text(PLUGIN)
    rows = []
    for count in counts:
        slides = folder / f"slides{count}"
        slides.mkdir()
        for number in range(count):
            os.link(small, slides / f"{number}.tiff")
        task = {"what": "command", "slides": slides, "out": folder / f"out{count}", "encoder": "colours",
                "plugin": folder / "colours.py", "workers": workers}  # fmt: skip
        run = measured(sys.executable, "features_worker.py", task)
        rows.append([f"{count}", f"{run['tiles']:,.0f}", f"{run['command_mb']:.0f}", f"{run['reader_mb']:.0f}",
                     f"{1000 * run['processor'] / run['tiles']:.1f}"])  # fmt: skip
    return table(["slides", "tiles", "command MiB", "a reader MiB", "processor ms per tile"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lazyslide", metavar="PYTHON", help="interpreter of an environment that has lazyslide")
    parser.add_argument("--encoder", default="timm:resnet50", help="a timm model that takes 256 pixels")
    for name, default in (("--width", 6144), ("--workers", 1), ("--repetitions", 2)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument(
        "--slides", type=int, nargs="*", default=[2, 8, 32], help="numbers of slides whose memory is measured"
    )
    add_save_flag(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = [f"{options.encoder}, {options.workers} reading process(es). {speed(Path(folder), options)}"]
        if options.slides:
            parts.append(f"An encoder that costs nothing, copies of a slide of {SMALL_WIDTH} pixels.\n\n"
                         f"{memory(Path(folder), options.slides, options.workers)}")  # fmt: skip
    publish(options, "\n\n".join(parts), threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
