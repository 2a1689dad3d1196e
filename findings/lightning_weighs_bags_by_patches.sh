#!/usr/bin/env bash
# Versions   lightning 2.6.6, torch 2.13.0 (public packages from PyPI, without milbench)
# Behaviour  self.log in a validation step averages over an epoch, with the size of the batch as weight. The size is the length
#            of the first tensor that is found in the batch. With one bag per batch, that is its number of patches if features
#            come first, and 1 if the label does. So val_loss, by which checkpoints are chosen and training is stopped, is the
#            loss of long slides. A warning that the batch is ambiguous names one number, and comes as well if the weights are
#            right. With a batch size of 1 and the default collate function all bags count the same.
# A guess    would be the mean over bags, in which the order of the fields of a batch is of no account.
# Seen       three bags of 100 patches with a loss of 0, one of 9,700 with a loss of 1, the same model
#            features first: val_loss 0.97. Label first: 0.25. Features first, with batch_size=1 told to self.log: 0.25
# Known as   Lightning-AI/pytorch-lightning issue 10093, closed by the warning
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 lightning==2.6.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import sys

import lightning
import torch
from torch.utils.data import DataLoader

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
PATCHES, LOSSES = (100, 100, 100, 9700), (0.0, 0.0, 0.0, 1.0)
ORDERS = {"features first": ("features", "label"), "label first": ("label", "features")}


class OfOneBag(lightning.LightningModule):
    """A model whose loss of a bag is the bag's first value."""

    def __init__(self, told):
        super().__init__()
        self.told = told

    def validation_step(self, batch, number):
        self.log("val_loss", batch["features"][0, 0], **self.told)


seen = []
for name, told in (("features first", {}), ("label first", {}), ("features first", {"batch_size": 1})):
    bags = [{"features": torch.full((n, 4), loss), "label": torch.tensor([1])} for n, loss in zip(PATCHES, LOSSES, strict=True)]
    ordered = [{field: bag[field] for field in ORDERS[name]} for bag in bags]
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                                enable_model_summary=False)
    (result,) = trainer.validate(OfOneBag(told), DataLoader(ordered, batch_size=None), verbose=False)
    seen.append(round(result["val_loss"], 4))
    print(f"{name} {told}: val_loss {seen[-1]}")
sys.exit(0 if seen == [0.97, 0.25, 0.25] else "lightning now weighs bags otherwise: look again")
PYTHON
