"""Which run: the folder that was named, or the newest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from milbench.errors import UsageError

if TYPE_CHECKING:
    from milbench.store.run import Run


def run_at(path: Path | None) -> Run:
    """The run in `path`; if none was named, the newest in runs/.

    Raises
    ------
    StoreError : there is no run in `path`.
    UsageError : none was named and there is none in runs/.
    """
    from milbench.store.run import open_run

    return open_run(path or _newest())


def _newest() -> Path:
    runs = sorted(Path("runs").glob("*/run.yaml"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise UsageError("there is no run in runs/. Start one with `milbench run`, or name a run folder.")
    return runs[-1].parent
