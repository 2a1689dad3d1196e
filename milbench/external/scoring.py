"""Scoring: logits that models of finished trials give to slides, each slide read once for all of them.

What is scored already is written down every minute, so that a killed command reads no slide twice for more than that.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from milbench.bag import Bag
from milbench.errors import DataError, MilbenchError
from milbench.heatmap.stored import StoredModel
from milbench.store.files import refuse_no_plain_file, write_atomically
from milbench.store.identity import canonical_json
from milbench.training.bag_guard import BagGuard
from milbench.training.precision import arithmetic, as_float32
from milbench.training.randomness import Randomness

Logits = NDArray[np.float32]

CHECKPOINT_SECONDS = 60.0
MOST_CHECKPOINT_BYTES = 4_000_000_000


class Scored(NamedTuple):
    """A slide, and the logits [W] that each model gives to it."""

    slide: str
    logits: list[Logits]


class Scorer:
    """Models on one device, and what they say of a bag.

    Attributes
    ----------
    models : as their trials left them; two of one fold share their scaler, so a bag is scaled once for both.
    """

    def __init__(self, models: Sequence[StoredModel], device: str) -> None:
        self.device = torch.device(device)
        self.models = [model.to(self.device) for model in models]
        self._guards = [BagGuard(model.name) for model in models]
        # once per seed: torch.manual_seed takes longer than a small forward, and what it queues for a GPU that is not there stays
        self._random = {seed: Randomness(seed, self.device) for seed in {_seed(model) for model in models}}
        self._start = {seed: random.mark() for seed, random in self._random.items()}

    def logits(self, bag: Bag) -> list[Logits]:
        """Logits [W] of each model.

        Raises
        ------
        DataError : a model cannot take the bag.
        """
        features = bag.features.to(self.device)
        scaled: dict[int, torch.Tensor] = {}
        found = []
        for model, guard in zip(self.models, self._guards, strict=True):
            if id(model.scaler) not in scaled:
                scaled[id(model.scaler)] = model.scaler(features)
            found.append(self._logits(model, guard, scaled[id(model.scaler)], bag.slide_id))
        return found

    def each(self, slides: Iterable[str], load: Callable[[str], Bag]) -> Iterator[Scored]:
        """Slides with their logits, each read once."""
        return (Scored(slide, self.logits(load(slide))) for slide in slides)

    def _logits(self, model: StoredModel, guard: BagGuard, features: torch.Tensor, slide_id: str) -> Logits:
        """Logits [W] in the precision of the training, as the trial's own test side was scored."""
        info = model.trial.info
        # from the seed for each slide: what a model draws in evaluation must not depend on what was scored before
        random = self._random[_seed(model)]
        random.go_back(self._start[_seed(model)])
        try:
            with torch.no_grad(), random.in_use(), guard.lent([features]):
                with arithmetic(str(info.get("precision", "float32")), self.device):
                    output = model.model(features)
                # a copy: torch's small tensors, kept, pin the memory of the forwards around them (4 MB per slide and 45 models)
                return np.array(as_float32(output).logits.cpu().numpy(), dtype=np.float32)
        except MilbenchError as error:
            raise DataError(f"{model.trial.id} cannot score slide {slide_id}: {error}") from error
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DataError(
                f"{model.trial.id} cannot score slide {slide_id} ({len(features):,} patches): {reason}. "
                "Leave the slide out of the labels, or score without this model."
            ) from error


def _seed(model: StoredModel) -> int:
    return int(model.trial.info["seed"])


def score(
    each: Callable[[Sequence[str]], Iterator[Scored]],
    slides: Sequence[str],
    checkpoint: Checkpoint,
    watch: Callable[[Iterable[str], str], Iterable[str]],
) -> list[Logits]:
    """Logits [n, W] of every model for `slides`, in their order; it goes on from the checkpoint.

    Parameters
    ----------
    each : scores slides, and hands them back in any order.
    """
    done = checkpoint.read()
    left = [slide for slide in slides if slide not in done]
    scored, last = each(left), monotonic()
    for _ in watch(left, "slides"):
        slide, logits = next(scored)
        done[slide] = logits
        if monotonic() - last > CHECKPOINT_SECONDS and len(done) < len(slides):
            checkpoint.write(done)
            last = monotonic()
    return [np.stack(own) for own in zip(*(done[slide] for slide in slides), strict=True)]


class Checkpoint:
    """How far a scoring has got: the logits of slides.

    Attributes
    ----------
    path : of the file, which need not be there.
    identity : what must be the same to go on from it.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, canonical_json(identity)

    def read(self) -> dict[str, list[Logits]]:
        """Logits [W] of each model by slide; no slide if there is no checkpoint, or one of something else."""
        with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
            refuse_no_plain_file(self.path, MOST_CHECKPOINT_BYTES)
            with np.load(self.path, allow_pickle=False) as file:
                if str(file["identity"]) == self.identity:
                    every = [file[f"logits_{number}"] for number in range(int(file["n_outputs"]))]
                    rows = (list(row) for row in zip(*every, strict=True))
                    return dict(zip(map(str, file["slides"]), rows, strict=True))
        return {}

    def write(self, done: Mapping[str, Sequence[Logits]]) -> None:
        """Put what is scored so far in place of the former file."""
        content = io.BytesIO()
        every = list(zip(*done.values(), strict=True))
        arrays = {f"logits_{number}": np.stack(own) for number, own in enumerate(every)}
        np.savez(content, identity=np.array(self.identity), slides=np.array(list(done)), n_outputs=np.array(len(every)),
                 **arrays)  # type: ignore[arg-type]  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, content.getvalue())

    def delete(self) -> None:
        """Forget it, because all is scored."""
        self.path.unlink(missing_ok=True)
