"""Refusals: what a model must not do in a training step, told when it has done it."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from milbench.errors import MilbenchError
from milbench.models import MILModel


def refuse_changed_buffers(model: MILModel, buffers: Iterable[tuple[str, Tensor, int]]) -> None:
    """Raise if a step changed a buffer: neither checkpoints nor the kept epoch's weights would hold the change.

    Parameters
    ----------
    buffers : name, tensor and version of each, as it was before.
    """
    for name, buffer, version in buffers:
        if buffer._version != version:
            raise MilbenchError(
                f"{type(model).__name__} changes its buffer '{name}' as it trains, and a model keeps no state between bags. "
                "Use LayerNorm, or a BatchNorm with track_running_stats=False."
            )


def refuse_unsmoothed_labels(model: MILModel, label_smoothing: float) -> None:
    """Raise if the model's own loss leaves label smoothing out: it would be compared as if it had it."""
    if label_smoothing and not model.asked_for_smoothing:
        raise MilbenchError(
            f"{type(model).__name__} has a loss of its own that leaves trainer.label_smoothing out. Get losses of logits "
            "from self.task_losses, or smooth labels by self.smoothing (docs/models.md)."
        )
