"""Scoring: logits that models of finished trials give to slides, each slide read once for all of them.

What is scored already is written down every minute, so that a killed command reads no slide twice for more than that.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from milbench.bag import Bag
from milbench.errors import DataError, MilbenchError
from milbench.heatmap.stored import StoredModel
from milbench.layout import Patches, patches_of
from milbench.store.files import refuse_no_plain_file, write_atomically
from milbench.store.identity import canonical_json
from milbench.training.bag_guard import BagGuard
from milbench.training.precision import arithmetic, float32_products
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
    n_neighbours : that layouts of bags hold; None = no model asks where patches lie.
    """

    def __init__(self, models: Sequence[StoredModel], device: str) -> None:
        self.device = torch.device(device)
        self.models = [model.to(self.device) for model in models]
        asked = (model.model.wanted_neighbours for model in models)
        self.n_neighbours = max((number for number in asked if number is not None), default=None)
        self._guards = [BagGuard(model.name) for model in models]
        # once per seed: torch.manual_seed takes longer than a small forward, and what it queues for a GPU that is not there stays
        self._random = {seed: Randomness(seed, self.device) for seed in {_seed(model) for model in models}}
        self._start = {seed: random.mark() for seed, random in self._random.items()}
        self._alike: dict[tuple[int, str], list[int]] = {}
        for number, model in enumerate(models):
            self._alike.setdefault((_seed(model), str(model.trial.info.get("precision", "float32"))), []).append(number)

    def logits(self, bag: Bag) -> list[Logits]:
        """Logits [W] of each model.

        Raises
        ------
        DataError : a model cannot take the bag.
        """
        here = patches_of(bag, self.n_neighbours).each(lambda tensor: tensor.to(self.device))
        scaled: dict[int, Patches] = {}
        found: dict[int, Logits] = {}
        for (seed, precision), numbers in self._alike.items():
            random = self._random[seed]
            random.go_back(self._start[seed])
            with torch.no_grad(), random.in_use(), float32_products(precision):
                for number in numbers:
                    scaler = self.models[number].scaler
                    if id(scaler) not in scaled:
                        scaled[id(scaler)] = Patches(scaler(here.features), here.layout)
                    # from the seed for each model and slide: what one draws must not depend on what was scored before
                    random.start_again(self._start[seed])
                    found[number] = self._logits(number, precision, scaled[id(scaler)], bag.slide_id)
        return [found[number] for number in range(len(self.models))]

    def each(self, slides: Iterable[str], load: Callable[[str], Bag]) -> Iterator[Scored]:
        """Slides with their logits, each read once."""
        return (Scored(slide, self.logits(load(slide))) for slide in slides)

    def _logits(self, number: int, precision: str, patches: Patches, slide_id: str) -> Logits:
        """Logits [W] in the precision of the training, as the trial's own test side was scored."""
        model = self.models[number]
        # one autocast per model: while it is open, it keeps a copy of all weights
        autocast = arithmetic(precision, self.device) if precision == "bf16" else nullcontext()
        try:
            with self._guards[number].lent([patches]):
                torch.set_grad_enabled(False)  # a model before may have left it on
                with autocast:
                    output = model.model(*model.model.inputs(patches))
                # a copy: torch's small tensors, kept, pin the memory of the forwards around them (4 MB per slide and 45 models)
                return np.array(output.logits.float().cpu().numpy(), dtype=np.float32)
        except MilbenchError as error:
            raise DataError(f"{model.trial.id} cannot score slide {slide_id}: {error}") from error
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DataError(
                f"{model.trial.id} cannot score slide {slide_id} ({len(patches):,} patches): {reason}. "
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
    """Logits [n, W] of every model for `slides`, in their order; it goes on from the checkpoint, also after an error.

    Parameters
    ----------
    each : scores slides, and hands them back in any order.
    """
    done = checkpoint.read()
    left = [slide for slide in slides if slide not in done]
    scored, last = each(left), monotonic()
    try:
        for _ in watch(left, "slides"):
            slide, logits = next(scored)
            done[slide] = logits
            if monotonic() - last > CHECKPOINT_SECONDS and len(done) < len(slides):
                checkpoint.write(done)
                last = monotonic()
    except (MilbenchError, KeyboardInterrupt):
        if len(done) > len(slides) - len(left):
            checkpoint.write(done)
        raise
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
