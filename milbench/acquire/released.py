"""The label tables released with the M4 study, pinned by commit and SHA-256."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from milbench.acquire.download import Wanted, clear_leftovers, download, file_sha256
from milbench.acquire.http import Http
from milbench.errors import AcquireError, unknown_name

COMMIT = "192a77b"
LABELS_URL = f"https://raw.githubusercontent.com/Bigyehahaha/M4/{COMMIT}/M4_csv/10genes"
NOTICE = f"""labels.csv is M4_csv/10genes/{{file}} of https://github.com/Bigyehahaha/M4, commit {COMMIT}, as released.
MIT License, Copyright (c) 2024 yezhang. The full text is the file LICENSE of that repository.
"""


class Released(NamedTuple):
    """One cohort's table as it was released, and the cBioPortal studies that hold the same patients."""

    short: str
    bytes: int
    sha256: str
    n_slides: int
    studies: tuple[str, ...]

    @property
    def name(self) -> str:
        """The dataset's name in the catalogue."""
        return f"tcga-{self.short}"

    @property
    def file(self) -> str:
        """The table's name at its source."""
        return f"all_{self.short}.csv"


def _released(short: str, size: int, sha256: str, n_slides: int, *studies: str) -> Released:
    return Released(short, size, sha256, n_slides, tuple(f"{study}_tcga_pan_can_atlas_2018" for study in studies))


TABLES = (
    _released("gbmlgg", 96145, "c4a14e8c36cb7c1a283f7e7b5428b6ab195113607314d92207df2f6fa0e842a4", 1022, "gbm", "lgg"),
    _released("brca", 95169, "07213204aab2b46e2b1d0154af757dc2f69f75753649ef4cf04604db9e1d8dc3", 1001, "brca"),
    _released("crc", 54028, "ec134fb5c4c4072f6da96bd94f3804f39cd5992bcad92f6070b7bc22e5bc2d24", 574, "coadread"),
    _released("ucec", 49804, "79b8658c3cdb3287c9d4c258e41b13a587151132aa678235c7c99ca15a812250", 529, "ucec"),
    _released("luad", 50328, "aae43c7628a0d9a4727be09d789a4dede5660ecbf6c387fe3e17a54d7aec8dc1", 529, "luad"),
)


def chosen(patterns: list[str]) -> list[Released]:
    """The cohorts that the names or patterns mean, in the catalogue's order.

    Raises
    ------
    UsageError : a pattern that fits none, with the nearest name.
    """
    for pattern in patterns:
        if not any(fnmatch(table.name, pattern) for table in TABLES):
            raise unknown_name("cohort", pattern, [table.name for table in TABLES])
    return [table for table in TABLES if any(fnmatch(table.name, pattern) for pattern in patterns)]


def fetch_labels(client: Http, table: Released, data_root: Path, *, url: str = LABELS_URL) -> bool:
    """Whether the table was fetched; False if it was there. It lies in `data_root/tcga-x/labels.csv`, as released.

    Raises
    ------
    AcquireError : it cannot be had, or is another than the released one; or another labels.csv lies there.
    """
    folder = data_root / table.name
    path = folder / "labels.csv"
    if path.exists():
        _refuse_another(path, table)
        return False
    clear_leftovers(folder)
    download(client, f"{url}/{table.file}", Wanted(path, table.bytes, table.sha256))
    (folder / "labels.NOTICE").write_text(NOTICE.format(file=table.file), encoding="utf-8")
    return True


def _refuse_another(path: Path, table: Released) -> None:
    if file_sha256(path) != table.sha256:
        raise AcquireError(
            f"{path} is not the released {table.file} (another SHA-256), and is left as it is. "
            "Move it away, or give another --data-root."
        )
