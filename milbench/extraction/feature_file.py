"""Feature file: one HDF5 file per slide, filled patch by patch and seen by others when it is whole.

::

    {slide}.h5
      attributes   milbench_features = 1, milbench_version, slide_id, slide_file, slide_bytes, slide_ends_sha256, grid,
                   settings_sha256
      features     [N, D] float16 or float32; attributes encoder, weights_sha256 (or weights, in words), pooling,
                   transform (JSON)
      coords       [N, 2] int64, upper left corners, x and y in level-0 pixels; attributes patch_size_level0, patch_size,
                   mpp, magnification (if known), level0_mpp_x, level0_mpp_y, level0_mpp_told (by the user), level0_width,
                   level0_height
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

import milbench
from milbench.errors import DataError
from milbench.extraction.settings import FORMAT, sha256_of
from milbench.extraction.writing import writing
from milbench.store.disk import Disk
from milbench.store.files import refuse_to_replace, temporary_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from milbench.extraction.folder import SlideState
    from milbench.extraction.plan import Plan


class FeatureFile:
    """The feature file of one slide, while it is written.

    Parameters
    ----------
    facts : what stands in `features.json`.
    state : of the slide, to see later whether it has changed.

    Raises
    ------
    StoreError : the system refuses to write.
    """

    def __init__(self, folder: Path, plan: Plan, facts: Mapping[str, Any], state: SlideState) -> None:
        self.final = folder / f"{plan.slide.slide_id}.h5"
        self.missing = len(plan.corners)
        self._temporary = folder / temporary_name(f".{self.final.name[:40]}")
        with writing(folder):
            refuse_to_replace(self.final)
            self._disk = Disk(self._temporary, "w+")
            self._file = h5py.File(self._disk, "w")
            try:
                _describe(self._file, plan, facts, state)
                self._disk.raise_error()
            except BaseException:
                self.drop()
                raise
        self._features = self._file["features"]

    def write(self, first: int, rows: NDArray[np.float32]) -> None:
        """Write features [B, D] of the patches from number `first` on.

        Raises
        ------
        DataError : a value is NaN or infinite, or beyond float16, or all of a patch are too small for it.
        StoreError : the system refuses to write.
        """
        with writing(self.final.parent):
            self._features[first : first + len(rows)] = _stored(rows, self._features.dtype)
            self._disk.raise_error()
        self.missing -= len(rows)

    def finish(self) -> None:
        """Give the file its final name.

        Raises
        ------
        StoreError : the system refuses to write.
        """
        with writing(self.final.parent):
            self._file.close()
            self._disk.raise_error()
            os.fsync(self._disk.fileno())
            self._disk.close()
            self._temporary.replace(self.final)

    def drop(self) -> None:
        """Delete what was written."""
        self._file.close()
        self._disk.close()
        self._temporary.unlink(missing_ok=True)


def _describe(file: h5py.File, plan: Plan, facts: Mapping[str, Any], state: SlideState) -> None:
    slide, reading = plan.slide, plan.reading
    file.attrs.update(
        milbench_features=FORMAT, milbench_version=milbench.__version__, slide_id=slide.slide_id,
        slide_file=slide.path.name, slide_bytes=state.size, slide_ends_sha256=state.ends_sha256, grid=facts["grid"],
        settings_sha256=sha256_of(facts),
    )  # fmt: skip
    features = file.create_dataset("features", (len(plan.corners), facts["width"]), facts["dtype"])
    features.attrs.update({name: facts[name] for name in ("encoder", "weights_sha256", "pooling")})
    if "weights" in facts:
        features.attrs["weights"] = facts["weights"]
    features.attrs["transform"] = json.dumps(facts["transform"], sort_keys=True)
    coords = file.create_dataset("coords", data=plan.corners)
    coords.attrs.update(
        patch_size_level0=reading.patch_size_level0, patch_size=facts["patch_size"], mpp=reading.mpp,
        level0_mpp_x=plan.mpp[0], level0_mpp_y=plan.mpp[1], level0_width=plan.size[0], level0_height=plan.size[1],
        level0_mpp_told=slide.mpp is not None,
    )  # fmt: skip
    if reading.magnification is not None:
        coords.attrs["magnification"] = reading.magnification


def _stored(rows: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    if not np.isfinite(rows).all():
        raise DataError(
            "the encoder gives NaN or infinite values for some of its patches. Check the weights and the transform."
        )
    if np.abs(rows).max(initial=0) > np.finfo(dtype).max:
        raise DataError(
            f"the encoder gives values up to {np.abs(rows).max():.3g}, beyond {dtype.name}. Use --dtype float32 and another --out."
        )
    largest = np.abs(rows).max(axis=1)
    if ((largest > 0) & (largest < np.finfo(dtype).tiny)).any():
        raise DataError(
            f"the encoder gives patches whose values are all below {np.finfo(dtype).tiny:.2g}, which {dtype.name} rounds away. "
            "Use --dtype float32 and another --out."
        )
    return rows.astype(dtype)
