#!/usr/bin/env bash
# Versions   kaiko-eva 0.4.5, torch 2.13.0 (public packages from PyPI, without milbench)
# Behaviour  The writer of embeddings saves what it has every `save_every_n` patches (100 unless told otherwise). It puts
#            the new patches of a slide in front of those that the file holds. So a slide that is longer than a block is
#            stored with its last block first, and each block in its own order. Nothing in the file tells where blocks end.
# A guess    would be patches in the order in which they were read, as for a slide that fits into one block.
# Seen       seven patches, save_every_n = 2: [5, 6, 3, 4, 0, 1, 2]
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 kaiko-eva==0.4.5
"$folder/venv/bin/python" -W ignore - "$folder/out" <<'PYTHON'
import io
import queue
import sys
from pathlib import Path

import torch
from eva.core.callbacks.writers.embeddings.classification import ClassificationEmbeddingsWriter
from eva.core.callbacks.writers.embeddings.typings import QUEUE_ITEM


def saved(value: torch.Tensor) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer


out, patches = sys.argv[1], queue.Queue()
for number in range(7):
    features, target = saved(torch.full((3,), float(number))), saved(torch.tensor(1))
    patches.put(QUEUE_ITEM(features, target, "normal/a.tif", "normal/a.pt", "train", None))
patches.put(None)
Path(out).mkdir()
ClassificationEmbeddingsWriter._process_write_queue(patches, out, [], save_every_n=2)
stored = [int(patch[0]) for patch in torch.load(f"{out}/normal/a.pt")]
print("seven patches, save_every_n = 2:", stored)
sys.exit(0 if stored == [5, 6, 3, 4, 0, 1, 2] else "kaiko-eva now stores blocks in another order: look again")
PYTHON
