"""`milbench verify` on a bundle of the study's size: 5 cohorts × 10 tasks × 9 models × 5 folds, 1,575 trials with made scores.

    python benchmarks/verify_speed.py [--folder FOLDER]

The verification is a process of its own. The reference is `milbench report` on the same run, which does the same statistics
and draws the figures besides. Wall seconds depend on who else uses the machine; CPU seconds less so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from made_study import write_run


def timed(*words: str) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    started = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "milbench", *words])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"milbench {words[0]} ended with {process.returncode}")
    return perf_counter() - started, used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        write_run(folder / "study")
        bundled = folder / "study.zip"
        commands = {
            "bundle": ("bundle", str(folder / "study"), "--out", str(bundled), "--licence", "made data"),
            "report": ("report", str(folder / "study"), "--out", str(folder / "report"), "--no-tracking"),
            "verify": ("verify", str(bundled)),
        }
        taken = {}
        for name, words in commands.items():
            taken[name] = timed(*words)
            print(f"{name}: {taken[name][0]:.1f} s wall, {taken[name][1]:.1f} s CPU", flush=True)
        print(f"verify / report, CPU: {taken['verify'][1] / taken['report'][1]:.2f}")
        print(f"zip: {bundled.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
