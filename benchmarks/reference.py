"""The plain reference: the loop that a competent user writes for one trial, one slide per step, without milbench's trainer.

    python benchmarks/reference.py amil COHORT --task TP53 --fold 0 --epochs 2 --threads 2

As the published scripts: eager PyTorch; a slide's features come from its `.pt` file at every step; torch's own Adam
(lr 1e-4, weight decay 4e-5); a validation pass by the same loading after each epoch; the weights of the best epoch
are kept; a test pass at the end. The model is the published architecture with torch's own Dropout, and the loss is the
model's: binary cross-entropy on the logit, and where a method has more terms (DSMIL, DTFD-MIL) also those, for without
them a part of the model would get no gradient and the step would do less work.

Nothing is slower than it need be: features are neither copied nor converted on their way, the loss is read once
per epoch, and gradients are set to None. `loaders` processes may read ahead, as the published scripts do on a GPU.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from milbench.datasets.source import CohortSource
from milbench.models import MILModel
from milbench.registry import load_models
from milbench.splits import N_FOLDS, make_split

LR, WEIGHT_DECAY = 1e-4, 4e-5
SEED = 42


class Sides(NamedTuple):
    """Slide ids of one fold."""

    train: list[str]
    val: list[str]
    test: list[str]


class Trained(NamedTuple):
    """What the loop leaves: the model with the best epoch's weights.

    Attributes
    ----------
    losses : mean training loss of each epoch.
    best_epoch : from 0.
    probabilities : [S, T] of the test slides.
    seconds : wall time of the whole, from making the model to the test pass.
    """

    model: MILModel
    losses: list[float]
    best_epoch: int
    probabilities: np.ndarray
    seconds: float


class Slides(Dataset):
    """Features [N, D] and labels [T] of slides, each read from its file when it is asked for."""

    def __init__(self, cohort: Path, slide_ids: Sequence[str], tasks: Sequence[str]) -> None:
        table = pd.read_csv(cohort / "labels.csv", dtype={"slide_id": str}).set_index("slide_id")
        self.paths = [cohort / "features" / f"{slide}.pt" for slide in slide_ids]
        self.labels = torch.tensor(table.loc[list(slide_ids), list(tasks)].to_numpy(dtype=np.float32))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.load(self.paths[index], weights_only=True), self.labels[index]  # noqa: TID251 - the published way


def train(
    name: str, cohort: Path, tasks: Sequence[str], sides: Sides, *, epochs: int, device: str = "cpu", loaders: int = 0
) -> Trained:
    """One trial of the model `name`; `tasks` is one task, or all for a model of several."""
    started = perf_counter()
    torch.manual_seed(SEED)
    readers = [
        DataLoader(
            Slides(cohort, ids, tasks),
            batch_size=None,
            shuffle=ids is sides.train,
            num_workers=loaders,
            pin_memory=device != "cpu",
            persistent_workers=loaders > 0,
        )
        for ids in sides
    ]
    first_bag, _ = readers[0].dataset[0]
    model = make_model(name, first_bag.shape[1], len(tasks)).to(device)
    optimizer = make_adam(model)
    losses, best, best_epoch, best_weights = [], 0.0, 0, copy.deepcopy(model.state_dict())
    for epoch in range(epochs):
        losses.append(train_epoch(model, optimizer, readers[0], device))
        score = mean_auroc(*predictions(model, readers[1], device))
        if score > best:
            best, best_epoch, best_weights = score, epoch, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    _, probabilities = predictions(model, readers[2], device)
    return Trained(model, losses, best_epoch, probabilities, perf_counter() - started)


def make_model(name: str, in_features: int, n_tasks: int, **sizes: Any) -> MILModel:
    """The model with torch's own Dropout, in training mode, at its published size where no other is given."""
    model = load_models()[name](in_features, n_tasks, **sizes)
    use_plain_dropout(model)
    return model.train()


class PlainDropout(nn.Dropout):
    """torch's own, for models that ask for the mask alone as well."""

    def mask(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return nn.functional.dropout(like.new_ones(()).expand(shape), self.p, self.training)


def use_plain_dropout(module: nn.Module) -> None:
    """Replace every layer whose class is called something with Dropout, and that has a `p`, by `PlainDropout(p)`."""
    for name, child in module.named_children():
        if "Dropout" in type(child).__name__ and hasattr(child, "p"):
            setattr(module, name, PlainDropout(child.p))
        else:
            use_plain_dropout(child)


def make_adam(model: MILModel) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)


def train_epoch(model: MILModel, optimizer: torch.optim.Optimizer, reader: DataLoader, device: str) -> float:
    """Mean loss over the slides."""
    model.train()
    total = torch.zeros((), device=device)
    for features, labels in reader:
        total += step(model, optimizer, features.to(device, non_blocking=True), labels.to(device, non_blocking=True))
    return total.item() / len(reader)


def step(model: MILModel, optimizer: torch.optim.Optimizer, features: Tensor, labels: Tensor) -> Tensor:
    """Loss of one optimiser step on one bag: features [N, D], labels [T] with NaN where unknown."""
    known = (~labels.isnan()).float()
    optimizer.zero_grad(set_to_none=True)
    loss = model.loss(model(features), labels.nan_to_num(), known)
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def predictions(model: MILModel, reader: DataLoader, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities, both [S, T]."""
    model.eval()
    logits = [model(features.to(device, non_blocking=True)).logits for features, _ in reader]
    return reader.dataset.labels.numpy(), torch.stack(logits).sigmoid().cpu().numpy()


def mean_auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the tasks of which both classes are there; 0 where there is none."""
    scores = []
    for target, said in zip(labels.T, probabilities.T, strict=True):
        known = ~np.isnan(target)
        if len(np.unique(target[known])) == 2:
            scores.append(roc_auc_score(target[known], said[known]))
    return float(np.mean(scores)) if scores else 0.0


def sides_of(cohort: Path, fold: int) -> Sides:
    """The slides that `milbench run --cohort COHORT` puts on the sides of a fold."""
    made = CohortSource(path=cohort).load()
    split = make_split(made.patients_from, made.tasks, made.splits, n_folds=max(N_FOLDS, made.n_folds))
    return Sides(*(split.slides(made.slides, fold, role)["slide_id"].tolist() for role in ("train", "val", "test")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("cohort", type=Path, help="folder with labels.csv and features/*.pt")
    parser.add_argument("--task", nargs="+", required=True, help="one task, or all for a model of several")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--loaders", type=int, default=0, help="processes that read ahead (default 0)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sides = sides_of(options.cohort, options.fold)
    trained = train(options.model, options.cohort, options.task, sides, epochs=options.epochs,
                    device=options.device, loaders=options.loaders)  # fmt: skip
    steps = len(sides.train) * options.epochs
    print(f"training loss by epoch: {', '.join(f'{loss:.4f}' for loss in trained.losses)}")
    print(f"{steps} steps, {trained.seconds:.2f} s with validation and test, {steps / trained.seconds:.2f} steps/s")


if __name__ == "__main__":
    main()
