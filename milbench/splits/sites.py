"""Site-preserved folds of TCGA: no tissue source site on two sides.

Slides of one hospital share scanner, stain and patients' origin, from which a model can tell the label
(Howard et al., Nature Communications 2021). The site is the second field of the barcode: `TCGA-3C-AALI` -> `3C`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.errors import SplitError
from milbench.labels.barcode import tissue_source_site
from milbench.splits.table import TEST_SHARE, role_table


def site(patients: NDArray[np.object_], labels: NDArray[np.bool_], n_folds: int) -> pd.DataFrame:
    """Roles of a k-fold with one test side, all made of whole sites.

    Parameters
    ----------
    patients : [P] TCGA barcodes.
    labels : [P, L].

    Raises
    ------
    SplitError : a patient without a TCGA barcode, or fewer sites than sides.
    """
    names, site_of = np.unique(_sites(patients), return_inverse=True)
    if len(names) < n_folds + 1:
        raise SplitError(
            f"the patients come from {len(names)} tissue source sites ({', '.join(names[:5])}); {n_folds} folds and a "
            f"test side of whole sites need at least {n_folds + 1}. Use --splits kfold."
        )
    columns = np.column_stack([np.ones(len(patients), dtype=bool), labels])
    counts = np.stack([np.bincount(site_of, weights=column) for column in columns.T], axis=1).astype(
        np.float64
    )  # [sites, 1 + L]
    shares = np.array([TEST_SHARE, *np.full(n_folds, (1 - TEST_SHARE) / n_folds)])
    side_of = _whole_sites(counts, shares)[site_of]
    return role_table(patients, side_of == 0, side_of - 1)


def _sites(patients: NDArray[np.object_]) -> list[str]:
    sites = [tissue_source_site(patient) for patient in patients]
    odd = [patient for patient, name in zip(patients, sites, strict=True) if name is None]
    if odd:
        raise SplitError(
            f"the site protocol reads the tissue source site from TCGA barcodes such as TCGA-3C-AALI; {len(odd)} "
            f"patients have none ({', '.join(odd[:3])}). Use --splits kfold."
        )
    return [name for name in sites if name is not None]


def _whole_sites(counts: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Side of every site, so that each side gets its share of patients and of every label.

    Large sites first, each to the side where the squared distance from the wanted counts shrinks most; labels
    weigh the same whatever their frequency. As many last sites as sides are empty go to an empty one. No chance.
    """
    total = np.maximum(counts.sum(axis=0), 1)
    lacking = np.outer(shares, np.ones_like(total))  # share of each column that a side still wants, [sides, 1 + L]
    side_of = np.full(len(counts), -1)
    order = np.argsort(-counts[:, 0], kind="stable")
    for place, number in enumerate(order):
        gives = counts[number] / total
        empty = np.array([side not in side_of for side in range(len(shares))])
        # how much closer to its share a side comes, relative to that share: else the big test side would take all
        gain = ((lacking**2 - (lacking - gives) ** 2) / shares[:, None]).sum(axis=1)
        if empty.sum() >= len(order) - place:
            gain = np.where(empty, gain, -np.inf)
        side_of[number] = chosen = int(np.argmax(gain))
        lacking[chosen] -= gives
    return side_of
