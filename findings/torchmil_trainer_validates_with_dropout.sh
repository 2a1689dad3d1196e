#!/usr/bin/env bash
# Versions   torchmil 1.0.2, torch 2.13.0 (public packages from PyPI, without milbench)
# Behaviour  Trainer takes validation and test bags through the model in training mode: dropout drops. So the numbers that it logs are
#            not those of the model that it hands out, and the best epoch is chosen by them. The model is left in training
#            mode, in which its predictions differ from call to call. There is no error and no warning.
# A guess    would be that validation runs in eval mode, and that the logged loss is the loss of the model.
# Seen       one epoch, the same weights: validation loss 0.7338 logged, 0.7080 in eval mode
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmil==1.0.2
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchmil.data import collate_fn
from torchmil.models import ABMIL
from torchmil.utils.trainer import Trainer


class Logged(list):
    """A logger that keeps what it is given."""

    log = list.append


torch.manual_seed(0)
bags = [{"X": torch.randn(9, 16) + label, "Y": torch.tensor(float(label))} for label in (0, 1) * 12]
training, validation = DataLoader(bags[:12], collate_fn=collate_fn), DataLoader(bags[12:], collate_fn=collate_fn)
model = ABMIL(in_shape=(16,), feat_ext=nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.5)))
logged = Logged()
trainer = Trainer(model, torch.optim.Adam(model.parameters(), 1e-3), logger=logged, device="cpu", verbose=False, disable_pbar=True)
trainer.train(1, training, validation)


def validation_loss():
    """Mean loss of the validation bags, by the weights that the training left."""
    with torch.no_grad():
        losses = [model.compute_loss(batch["Y"], batch["X"], batch["mask"])[1]["BCEWithLogitsLoss"] for batch in validation]
    return float(torch.stack(losses).mean())


logged_loss = next(row["val/loss"] for row in logged if "val/loss" in row)
left_in = "training" if model.training else "eval"
model.eval()
in_eval_mode = validation_loss()
print(f"validation loss {logged_loss:.4f} logged, {in_eval_mode:.4f} in eval mode; the model is left in {left_in} mode")
as_seen = left_in == "training" and abs(logged_loss - in_eval_mode) > 1e-4 and in_eval_mode == validation_loss()
sys.exit(0 if as_seen else "torchmil's Trainer now validates otherwise: look again")
PYTHON
