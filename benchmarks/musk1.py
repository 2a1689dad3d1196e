"""MUSK1 in ten folds with nine models at full width, trained as stacks and one by one.

    python benchmarks/musk1.py --data ../shared/data/musk1 [--epochs 3] [--save]

92 bags of 2 to 40 patches: a step is so short that what surrounds the arithmetic decides. A cohort.yaml with ten folds,
written to a temporary folder, points at the data.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import yaml
from command import add_run_flags
from results_file import add_save_flag, publish
from stacked import compared, report

FOLDS = 10


def write_cohort_file(folder: Path, data: Path, folds: int = FOLDS) -> Path:
    """A cohort.yaml for the data, with so many folds; the data stay where they are."""
    settings = {
        "name": "musk1",
        "labels": str(data.absolute() / "labels.csv"),
        "features": str(data.absolute() / "features"),
        "splits": "kfold",
        "n_folds": folds,
    }
    path = folder / "cohort.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv and features/")
    parser.add_argument("--models", nargs="+", default=["study"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"how many folds (default {FOLDS})")
    add_run_flags(parser, repetitions=2)
    add_save_flag(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        cohort = write_cohort_file(Path(place), options.data, options.folds)
        words = ["--cohort", str(cohort), "--models", *options.models, "--set", f"trainer.epochs={options.epochs}"]
        publish(options, report(compared(words, options)))


if __name__ == "__main__":
    main()
