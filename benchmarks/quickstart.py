"""The first command of the README, `milbench run` on digits with all nine models: trained as stacks, and one by one.

    python benchmarks/quickstart.py [--repetitions 2] [--save]

Wall seconds of the whole command. Train seconds are the sums over a model's trials of what trial.json says.
"""

from __future__ import annotations

import argparse

from command import add_run_flags
from results_file import add_save_flag, publish
from stacked import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_flags(parser, repetitions=2)
    parser.add_argument("--models", nargs="+", default=["all"])
    parser.add_argument("--folds", nargs="+", default=[], help="default: those of the first command")
    add_save_flag(parser)
    options = parser.parse_args()
    folds = ["--folds", *options.folds] if options.folds else []
    publish(options, compare(["--models", *options.models, *folds], options))


if __name__ == "__main__":
    main()
