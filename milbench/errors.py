"""The error tree: every mistake a user can make ends in one of these.

::

    MilbenchError                 exit code 2, one message, no traceback
    ├── UsageError                a name, option or configuration key that cannot be used
    ├── DataError                 a file or table that cannot be used as it is
    │   ├── FeatureFileError      one slide's features: missing, corrupt, wrong width, NaN, empty
    │   ├── LabelTableError       the label table: missing columns, duplicate slides, odd labels
    │   ├── SplitError            a split that leaks, is unreadable or cannot be made
    │   └── AcquireError          a download that failed, or is not what was asked for
    ├── BagError                  a tensor that no model accepts (empty bag, wrong width)
    ├── CheckpointError           a state dict that does not fit the model
    ├── StoreError                a run folder that cannot be read or written
    └── TrackingError             the MLflow server or database cannot be reached

A message says what was found, where, what was expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MilbenchError(Exception):
    """Root of every error that milbench raises on purpose."""


class UsageError(MilbenchError):
    """A name, option or configuration key that cannot be used."""


class DataError(MilbenchError):
    """A file or table that cannot be used as it is."""


class FeatureFileError(DataError):
    """One slide's features cannot be used."""


class LabelTableError(DataError):
    """The label table cannot be used."""


class SplitError(DataError):
    """A split leaks, is unreadable or cannot be made."""


class AcquireError(DataError):
    """A download failed, or what came is not what was asked for."""


class BagError(MilbenchError):
    """A tensor that no model accepts."""


class CheckpointError(MilbenchError):
    """A state dict that does not fit the model."""


class StoreError(MilbenchError):
    """A run folder that cannot be read or written."""


class TrackingError(MilbenchError):
    """The MLflow server or database cannot be reached."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Error for an unknown `name`, with the nearest known one and the whole list."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UsageError(f"unknown {kind} '{name}'.{hint} Known: {', '.join(names) or 'none'}.")
