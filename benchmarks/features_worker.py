"""Worker of `features_speed.py`: one measurement in a process of its own. It reads a line of JSON and prints one.

`alone` encodes tiles that lie in memory. `command` does what `milbench features` does after its imports. torch is imported
inside functions, because processes that `command` starts import this file too.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import numpy as np

from milbench.extraction.asked_slides import asked_slides
from milbench.extraction.features import BATCH_ON_CPU, Watch, encoded, extract
from milbench.extraction.plan import plan_of
from milbench.extraction.settings import Settings
from milbench.machine.allocator import tune_allocator
from milbench.slides import open_slide

if TYPE_CHECKING:
    from milbench.extraction.encoder import Encoder

BATCH = BATCH_ON_CPU


class Timed(Watch):
    """When the first batch was done, and how much memory readers have held at most."""

    def __init__(self) -> None:
        self.first = 0.0
        self.first_patches = self.reader_bytes = 0

    def encoded(self, slide_id: str, patches: int) -> None:
        if not self.first:
            self.first, self.first_patches = perf_counter(), patches
        for reader in active_children():
            self.reader_bytes = max(self.reader_bytes, peak_of(str(reader.pid)))


def peak_of(process: str) -> int:
    """Most bytes that a process has held; 0 where the system does not tell. `ru_maxrss` of a child begins at its parent's."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def encoder_of(task: dict[str, Any]) -> Encoder:
    import torch
    import torchvision_operators  # noqa: F401 - where torchvision is built for CUDA and torch is not

    from milbench.extraction.encoder import find_encoder

    weights, plugin = (Path(task[name]) if task.get(name) else None for name in ("weights", "plugin"))
    return find_encoder(
        task["encoder"], weights=weights, pretrained=True, patch_size=256, device=torch.device("cpu"), plugin=plugin
    )


def alone(task: dict[str, Any]) -> dict[str, float]:
    """Tiles of the first slide, read before the clock starts."""
    encoder, settings = encoder_of(task), Settings()
    asked = asked_slides([Path(task["slides"])], {})[0]
    out = Path(task["out"])
    out.mkdir()
    with open_slide(asked.path) as slide:
        corners = plan_of(slide, asked, settings, out / "sheet.png").corners
        tiles = np.stack([slide.read(0, x, y, 256, 256) for x, y in corners.tolist()])
    tune_allocator(from_disk=False)  # as `extract` does
    encoded(encoder, tiles[:BATCH])
    began, used = perf_counter(), processor_seconds()
    rows = [encoded(encoder, tiles[first : first + BATCH]) for first in range(0, len(tiles), BATCH)]
    seconds = perf_counter() - began
    np.save(out / "features.npy", np.concatenate(rows))
    np.save(out / "coords.npy", corners)
    return {"tiles": len(tiles), "seconds": seconds, "processor": processor_seconds() - used, "steady": seconds}


def command(task: dict[str, Any]) -> dict[str, float]:
    """Slides to files, from the first open to the last rename; readers begin inside."""
    encoder, watch = encoder_of(task), Timed()
    slides = asked_slides([Path(task["slides"])], {})
    encoded(encoder, np.zeros((BATCH, 256, 256, 3), np.uint8))
    began, used = perf_counter(), processor_seconds()
    outcome = extract(slides, encoder, Settings(), Path(task["out"]), workers=task["workers"], batch=BATCH, watch=watch)
    ended = perf_counter()
    tiles = sum(outcome.done.values())
    return {
        "tiles": tiles, "seconds": ended - began, "processor": processor_seconds() - used,
        "steady": (ended - watch.first) * tiles / max(tiles - watch.first_patches, 1),
        "command_mb": peak_of("self") / 2**20, "reader_mb": watch.reader_bytes / 2**20,
    }  # fmt: skip


if __name__ == "__main__":
    asked_for = json.loads(sys.argv[1])
    measure: Callable[[dict[str, Any]], dict[str, float]] = {"alone": alone, "command": command}[asked_for["what"]]
    print(json.dumps(measure(asked_for)))
