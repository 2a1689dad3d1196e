"""Folder: an export, written beside its place and put there by one rename.

What lies at that place already is never lost. The same model makes the same bytes, so exporting twice is no mistake.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from milbench.errors import StoreError
from milbench.export.card import card_of
from milbench.export.chosen import Chosen
from milbench.export.exported import ExportedModel
from milbench.export.facts import facts_of, stored_sha256, weight_files
from milbench.export.layout import CARD, FACTS, ONNX, facts_bytes
from milbench.export.onnx_graph import CHECKED, INPUT, TOLERANCE, NoGraphError, metadata, onnx_bytes, output_names
from milbench.export.scores import scores_of
from milbench.heatmap.stored import StoredModel
from milbench.labels.finding import some
from milbench.store.files import file_sha256, replacing_folder, temporary_name, writing
from milbench.store.trial import WEIGHTS as STORED_WEIGHTS
from milbench.store.trial import StoredTrial


class Written(NamedTuple):
    """What an export wrote.

    Attributes
    ----------
    files : names of its files.
    no_onnx : why there is no ONNX file; empty if there is one.
    """

    files: tuple[str, ...]
    no_onnx: str


def export(chosen: Chosen, out: Path, draws: int) -> Written:
    """Write the chosen trainings to the folder `out`, whole or not at all.

    Parameters
    ----------
    draws : of a bootstrap interval.

    Raises
    ------
    StoreError : something else lies at `out`, it cannot be written, or the run kept no weights.
    DataError : scalers have to be fitted again, and the cohort is not there or has changed.
    """
    out = out.absolute()
    _refuse_no_export(out)
    models, weights = chosen.source.models(chosen.trials), weight_files(chosen)
    digests = {name: stored_sha256(trial) for name, trial in weights.items()}
    facts = facts_of(chosen, models, scores_of(chosen, draws), digests)
    graph, no_onnx = _graph(models, facts)
    small = {FACTS: facts_bytes(facts), CARD: card_of(facts).encode(), **({ONNX: graph} if graph else {})}
    with writing(out.parent), replacing_folder(out, out.with_name(temporary_name(f".{out.name[:40]}"))) as folder:
        _fill(folder, weights, digests, small)
        _refuse_other_content(out, folder)
        files = tuple(sorted(path.name for path in folder.iterdir()))
    return Written(files, no_onnx)


def _graph(models: Sequence[StoredModel], facts: dict[str, Any]) -> tuple[bytes, str]:
    """Content of the ONNX file, or why there is none; `facts` then say either."""
    try:
        names = output_names(facts)
        for told, name in zip(facts["trainings"], names, strict=True):
            told["onnx_output"] = name
        content = onnx_bytes(ExportedModel(models, facts), metadata(facts))
    except NoGraphError as error:
        for told in facts["trainings"]:
            del told["onnx_output"]
        facts["onnx"] = {"file": None, "reason": str(error)}
        return b"", str(error)
    facts["onnx"] = {
        "file": ONNX,
        "sha256": hashlib.sha256(content).hexdigest(),
        "input": INPUT,
        "outputs": names,
        "scaling_is_inside": True,
        "compared_with_torch": {"patches": list(CHECKED), "largest_difference_allowed": TOLERANCE},
    }
    return content, ""


def _fill(
    folder: Path, weights: Mapping[str, StoredTrial], digests: Mapping[str, str], small: Mapping[str, bytes]
) -> None:
    for name, trial in weights.items():
        shutil.copyfile(trial.path / STORED_WEIGHTS, folder / name)
        if file_sha256(folder / name) != digests[name]:
            raise StoreError(f"{trial.path / STORED_WEIGHTS} has changed meanwhile. Give the same command again.")
    for name, content in small.items():
        (folder / name).write_bytes(content)


def _refuse_no_export(out: Path) -> None:
    """StoreError if something else than an export lies at `out`; an empty folder is nothing."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise StoreError(f"{out} is no folder. It was left as it is. Choose another place with --out.")
    found = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if found and FACTS not in found:
        raise StoreError(
            f"{out} holds {some(found)}, which is no exported model. It was left as it is. Choose another folder with --out."
        )


def _refuse_other_content(out: Path, folder: Path) -> None:
    """StoreError if `out` holds anything that `folder` does not: somebody may have filled in the card."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    former, own = ({path.name: path for path in side.iterdir()} for side in (out, folder))
    other = sorted(former.keys() ^ own.keys())
    other += sorted(name for name in former.keys() & own.keys() if not _same(former[name], own[name]))
    if other:
        raise StoreError(
            f"{out} holds another export, or one that was edited: {some(other)} would change. It was left as it is. "
            "Move it away, or choose another folder with --out."
        )


def _same(a: Path, b: Path) -> bool:
    return a.is_file() and not a.is_symlink() and file_sha256(a) == file_sha256(b)
