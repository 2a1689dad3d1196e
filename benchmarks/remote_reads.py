"""Training from a file system that answers late: seconds of training with and without a delay per slide, and whether they end alike.

    python benchmarks/remote_reads.py [--reference CHECKOUT] [--delay 0.1] [--slides 200] [--model amil] [--save]

One trial with one worker, `milbench run` as a user runs it, on a cohort that does not fit into `--memory`. A plug-in lets every
read of a slide sleep before it begins, which is what a network file system does without taking a core. The run without a delay
tells what steps and the disk itself take. Builds take turns. The predictions of all runs of a build must be the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from made_cohort import Size, add_folder_flag, add_size_flags, asked_size, temporary_cohort
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio

USUAL = Size(200, 500, 256, 1)
HERE = Path(__file__).resolve().parents[1]

PLUGIN = """
import time
from milbench.formats import FeatureFolder

read = FeatureFolder.load

def late(self, slide_id):
    time.sleep({delay})
    return read(self, slide_id)

FeatureFolder.load = late
"""


COMMAND = """
import sys
try:
    from milbench.cli import main
except ImportError:
    from milbench.commands.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""milbench's command, in builds of before and after it was split into rooms."""


class Trained(NamedTuple):
    """What one run tells."""

    seconds: float
    predictions: bytes
    said: str


def trained(root: Path, cohort: Path, delay: float, options: argparse.Namespace) -> Trained:
    with tempfile.TemporaryDirectory() as place:
        plugin = Path(place) / "late.py"
        plugin.write_text(PLUGIN.format(delay=delay))
        words = [
            *(sys.executable, "-c", COMMAND, "run", "--run", "run", "--no-tracking", "--plugin", str(plugin)),
            *("--cohort", str(cohort), "--models", options.model, "--folds", "0", "--memory", options.memory),
            *("--workers", "1", "--threads", str(options.threads), "--set", f"trainer.epochs={options.epochs}"),
        ]
        environment = {**os.environ, "PYTHONPATH": f"{root}:{root / '.typing'}", "COLUMNS": "250"}
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
        (trial,) = Path(place).glob("run/trials/**/trial.json")
        said = next((line.strip() for line in done.stdout.splitlines() if "features" in line and "disk" in line), "")
        predictions = sorted(trial.parent.glob("*.csv"))
        return Trained(
            json.loads(trial.read_text())["train_seconds"], b"".join(p.read_bytes() for p in predictions), said
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser, USUAL)
    parser.add_argument(
        "--reference", type=Path, metavar="CHECKOUT", help="another build, which takes turns with this one"
    )
    parser.add_argument("--delay", type=float, default=0.1, help="seconds per slide (default 0.1)")
    parser.add_argument("--model", default="amil")
    parser.add_argument("--memory", default="560MB")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    add_folder_flag(parser)
    add_save_flag(parser)
    options = parser.parse_args()
    builds = {"now": HERE, **({"reference": options.reference.resolve()} if options.reference else {})}
    size = asked_size(options)
    with temporary_cohort(size, options.folder) as cohort:
        contestants: dict[str, Callable[[], Trained]] = {
            f"{name}, {text}": lambda root=root, delay=delay: trained(root, cohort, delay, options)
            for name, root in builds.items()
            for text, delay in (("no delay", 0.0), (f"{options.delay * 1e3:.0f} ms per slide", options.delay))
        }
        found = interleaved(contestants, options.repetitions, warm_ups=0)
    seconds = {name: [each.seconds for each in runs] for name, runs in found.items()}
    first = next(iter(seconds.values()))
    rows = [[name, f"{median(each):.2f}", f"{ratio(each, first):.2f}"] for name, each in seconds.items()]
    alike = all(
        len({run.predictions for name, runs in found.items() if name.startswith(build) for run in runs}) == 1
        for build in builds
    )
    said = next(iter(found.values()))[0].said
    publish(
        options,
        f"{options.model} on {size} under `--memory {options.memory}`, {options.epochs} epochs; medians of {options.repetitions} "
        f"interleaved runs. A run says: `{said}`.\n\n{table(['', 'training s', 'of now without delay'], rows)}\n\n"
        f"Predictions of all runs of a build are the same bytes: {'yes' if alike else 'NO'}.",
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
