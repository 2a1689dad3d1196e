"""A slice of tcga-crc on disk: real slide ids of the packaged endpoints, with invented genes and features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from folders_for_tests import WIDTH, write_h5

from milbench.datasets import dataset
from milbench.datasets.tcga_endpoints import table_of

GENES = dataset("tcga-crc").tasks


def make_crc(data_root: Path, *, n_slides: int = 90) -> pd.DataFrame:
    """The slides that now lie in `data_root/tcga-crc`: those of patients of whom much is known, so that all sides have classes."""
    table = table_of("crc")
    table = table[(table["cms"] != "") & (table["os_days"] != "") & (table["msi"] != "")].head(n_slides)
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"case_id": table["case_id"], "slide_id": table["slide_id"]}).reset_index(drop=True)
    for gene in GENES:
        labels[gene] = rng.integers(0, 2, len(labels))
    labels[list(GENES)] = labels.groupby("case_id")[list(GENES)].transform("first")
    folder = data_root / "tcga-crc"
    (folder / "features").mkdir(parents=True)
    labels.to_csv(folder / "labels.csv", index=False)
    for slide in labels["slide_id"]:
        features = rng.standard_normal((int(rng.integers(2, 6)), WIDTH)).astype(np.float32)
        write_h5(folder / "features" / f"{slide}.h5", features)
    return labels
