"""Stored trial: one folder of predictions, history and weights, sealed by `trial.json` with their checksums."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.store.files import as_os_error, json_bytes

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PREDICTIONS, HISTORY, WEIGHTS, TRIAL = "predictions.parquet", "history.parquet", "model.safetensors", "trial.json"


@dataclass(frozen=True, repr=False)
class StoredTrial:
    """One finished trial on disk.

    Attributes
    ----------
    path : its folder.
    id : "digits/amil/has_0/fold0-seed42-1f3a9c02".
    info : what `trial.json` holds: identity, chosen epoch, timings, memory, parameter count.
    """

    path: Path
    id: str
    info: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"StoredTrial({self.id})"

    def predictions(self) -> pd.DataFrame:
        """Rows (slide_id, patient_id, role val/test, task, target, probability)."""
        import pandas as pd

        return pd.read_parquet(self.path / PREDICTIONS)

    def history(self) -> pd.DataFrame:
        """One row per epoch (epoch, lr, train_loss, val_loss, val_auroc)."""
        import pandas as pd

        return pd.read_parquet(self.path / HISTORY)


def read_trial(folder: Path, trial_id: str) -> StoredTrial | None:
    """The finished trial in `folder`, or None where it is absent, half-written or damaged."""
    try:
        info = json.loads((folder / TRIAL).read_text())
        intact = all(_sha256(folder / name) == digest for name, digest in info["payload_sha256"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return StoredTrial(folder, trial_id, info) if intact else None


def fill_trial_folder(
    folder: Path,
    info: Mapping[str, Any],
    predictions: pd.DataFrame,
    history: pd.DataFrame,
    weights: Mapping[str, np.ndarray[Any, Any]] | None,
) -> None:
    """Write a trial's files into an empty folder, `trial.json` last, with the checksums of the others."""
    predictions.to_parquet(folder / PREDICTIONS, index=False)
    history.to_parquet(folder / HISTORY, index=False)
    if weights is not None:
        _write_weights(folder / WEIGHTS, weights)
    digests = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    (folder / TRIAL).write_bytes(json_bytes({**info, "payload_sha256": digests}))


def _write_weights(path: Path, weights: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write the arrays in the order of their values, read them back and compare.

    safetensors stores bytes as they lie in memory. Those of a transposed array are in another order than its values.
    """
    import numpy as np
    from safetensors.numpy import load_file, save_file

    ordered = {name: np.ascontiguousarray(values).reshape(values.shape) for name, values in weights.items()}
    with as_os_error():
        save_file(ordered, path)
        stored = load_file(path)
    changed = [name for name in ordered if name not in stored or stored[name].tobytes() != ordered[name].tobytes()]
    if changed:
        raise OSError(errno.EIO, f"{path.name} holds other values of {', '.join(changed[:3])} than were written")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
