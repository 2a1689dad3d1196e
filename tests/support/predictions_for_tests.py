"""Stored predictions of a run, by trial."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from milbench.store.run import Run


def predictions(run: Path) -> pd.DataFrame:
    frames = [trial.predictions().assign(trial=trial.id.rsplit("-", 1)[0]) for trial in Run(run).trials()]
    return pd.concat(frames, ignore_index=True)
