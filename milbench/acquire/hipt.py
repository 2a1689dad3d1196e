"""HIPT's region features of TCGA slides, from its public Git LFS store; checked, never opened."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from milbench.acquire.download import Wanted, clear_leftovers, download, is_complete
from milbench.acquire.http import Http, rows_of
from milbench.errors import AcquireError, UsageError

LFS_URL = "https://github.com/mahmoodlab/HIPT.git/info/lfs"
LFS_JSON = "application/vnd.git-lfs+json"
BATCH = 100
"""Files asked for at once: the addresses in an answer expire, so few enough to fetch in that time."""

TERMS = """HIPT's slide features (github.com/mahmoodlab/HIPT, commit 780fafa, vit256mean_tcga_slide_embeddings)
  licence   Apache 2.0 with Commons Clause; its README allows non-commercial academic use. They are not milbench's.
  regions   one row per region of 4096 pixels, N x 192 float32, N = 1 to 254; no patches of 256 pixels, no coordinates
  encoder   pre-trained on TCGA slides, so it has seen the test slides: scores are too good for a new hospital
  study     not the features of the M4 paper (RetCCL, 2048 wide): no number is comparable with the paper's
  missing   237 of the study's 3,655 slides have none: run with --allow-missing, which skips and counts them
"""


class Slide(NamedTuple):
    """One slide's file in the store."""

    slide_id: str
    sha256: str
    bytes: int


class Fetched(NamedTuple):
    """What one call did for one cohort."""

    n_new: int
    n_there: int


def slides_of(short: str) -> list[Slide]:
    """The slides of one cohort that have features, by slide id."""
    packed = files("milbench.acquire").joinpath("hipt_manifest.csv.gz").read_bytes()
    rows = csv.DictReader(gzip.decompress(packed).decode().splitlines())
    return [Slide(row["slide_id"], row["sha256"], int(row["bytes"])) for row in rows if row["cohort"] == short]


def refuse_without_licence(*, accepted: bool) -> None:
    """Raise a UsageError that prints the terms unless they are `accepted`."""
    if not accepted:
        raise UsageError(f"read the terms first, then repeat the command with --accept-licence.\n{TERMS}")


def fetch_features(
    client: Http,
    slides: list[Slide],
    folder: Path,
    *,
    url: str = LFS_URL,
    advance: Callable[[int], None] = lambda _: None,
) -> Fetched:
    """Counts of files fetched and found; `folder/{slide_id}.pt` is then complete for every slide.

    Raises
    ------
    AcquireError : other features in `folder`, a server that refuses, or a file that is not the expected one. Files
        that are complete stay, and the same command goes on after them.
    """
    _refuse_others(slides, folder)
    clear_leftovers(folder)
    missing = []
    for slide in slides:
        if is_complete(_wanted(slide, folder)):
            advance(slide.bytes)
        else:
            missing.append(slide)
    for start in range(0, len(missing), BATCH):
        for slide, action in _actions(client, missing[start : start + BATCH], url):
            download(client, action["href"], _wanted(slide, folder), headers=action["header"], advance=advance)
    return Fetched(len(missing), len(slides) - len(missing))


def write_notice(folder: Path) -> None:
    """Leave the terms beside the features."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.NOTICE").write_text(TERMS, encoding="utf-8")


def _actions(client: Http, slides: list[Slide], url: str) -> Iterator[tuple[Slide, dict[str, Any]]]:
    """Every slide with the address and headers to fetch it with."""
    objects = [{"oid": oid, "size": size} for oid, size in {(slide.sha256, slide.bytes) for slide in slides}]
    question = {"operation": "download", "transfers": ["basic"], "objects": sorted(objects, key=str)}
    where = f"{url}/objects/batch"
    answer = client.json(where, question, headers={"Accept": LFS_JSON, "Content-Type": LFS_JSON})
    if not isinstance(answer, dict) or not isinstance(found := answer.get("objects"), list):
        raise AcquireError(f"{where} answered without 'objects'. Is it a Git LFS server?")
    by_oid = {each["oid"]: each for each in rows_of(where, found, {"oid": str}, {"actions": dict})}
    for slide in slides:
        yield slide, _action(where, slide, by_oid.get(slide.sha256, {}))


def _action(where: str, slide: Slide, found: dict[str, Any]) -> dict[str, Any]:
    action = found.get("actions", {}).get("download")
    if not isinstance(action, dict) or not isinstance(action.get("href"), str):
        told = found.get("error")
        told = told if isinstance(told, dict) else {}
        reason = f"{told.get('code', '')} {told.get('message', '')}".strip() or "no address to fetch it from"
        raise AcquireError(
            f"{where} refuses slide {slide.slide_id} (object {slide.sha256[:12]}): {reason}. The store may be over its "
            "monthly quota: try again later, or get the files with `git lfs pull` from a mirror."
        )
    action["header"] = action.get("header") or {}
    rows_of(where, [action], {"header": dict})
    rows_of(where, [action["header"]], dict.fromkeys(action["header"], str))
    return action


def _wanted(slide: Slide, folder: Path) -> Wanted:
    return Wanted(folder / f"{slide.slide_id}.pt", slide.bytes, slide.sha256)


def _refuse_others(slides: list[Slide], folder: Path) -> None:
    """Two encoders in one folder would be read as one cohort."""
    sizes = {f"{slide.slide_id}.pt": slide.bytes for slide in slides}
    for path in sorted([*folder.glob("*.h5"), *folder.glob("*.pt")]):
        if sizes.get(path.name) != path.stat().st_size:
            raise AcquireError(
                f"{path} is no feature file of HIPT's, and features of two encoders must not mix in one cohort. "
                "Move the folder away, or give another --data-root."
            )
