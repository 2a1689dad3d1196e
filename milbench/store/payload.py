"""Payload: what a trial's files hold, held against what its record says. A checksum alone tells nothing of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pyarrow.parquet import ParquetFile

TEXT_COLUMNS = ("slide_id", "patient_id", "role", "task")
NUMBER_COLUMNS = ("target", "probability")
HISTORY_COLUMNS = ("epoch", "lr", "train_loss", "val_loss", "val_auroc")
ROLES_PREDICTED = {"val", "test"}

MOST_ROWS = 10_000_000
"""Of one trial's predictions: 2,000 slides with 5,000 tasks. A file of kilobytes can declare billions."""


def refuse_other_predictions(path: Path, tasks: Sequence[str], n_slides: Mapping[str, float]) -> None:
    """Raise unless the file holds one probability per slide and task of both roles, and nothing else.

    A probability may be NaN: a model that overflowed on a slide said so, and its AUROC is undefined.

    Raises
    ------
    ValueError : other columns, types, roles, tasks or values, or a row twice.
    """
    import numpy as np
    import pyarrow.compute as pc

    table = _table(path, TEXT_COLUMNS, NUMBER_COLUMNS)
    codes = {name: _text_codes(path, table, name) for name in TEXT_COLUMNS}
    if extra := set(codes["role"].dictionary.to_pylist()) - ROLES_PREDICTED:
        raise ValueError(f"{path.name} holds the role {ascii(min(extra))[:60]}; expected val and test")
    if set(codes["task"].dictionary.to_pylist()) != set(tasks):
        raise ValueError(f"{path.name} holds other tasks than {', '.join(tasks)[:200]}")
    target, probability = (_numbers(table, name) for name in NUMBER_COLUMNS)
    if not (np.isnan(target) | (target == 0) | (target == 1)).all():
        raise ValueError(f"{path.name} holds a target that is neither 0 nor 1")
    if not _are_shares(probability):
        raise ValueError(f"{path.name} holds a probability below 0 or above 1")
    place = np.zeros(table.num_rows, dtype=np.int64)
    for name in ("role", "task", "slide_id"):
        place = place * len(codes[name].dictionary) + codes[name].indices.to_numpy()
    if len(np.unique(place)) < table.num_rows:
        raise ValueError(f"{path.name} holds a slide twice")
    for role in ROLES_PREDICTED & n_slides.keys():
        n_rows = pc.sum(pc.equal(table["role"], role)).as_py() or 0
        if n_rows != n_slides[role] * len(tasks):
            raise ValueError(f"{path.name} holds {n_rows} rows of role {role}; expected {n_slides[role]} slides")


def refuse_other_history(path: Path, n_epochs: float | None) -> None:
    """Raise unless the file holds one row of numbers per epoch, epochs counted from 0.

    Raises
    ------
    ValueError : other columns or types, or an epoch that is missing.
    """
    table = _table(path, (), HISTORY_COLUMNS)
    if not _are_shares(_numbers(table, "val_auroc")):
        raise ValueError(f"{path.name} holds an AUROC below 0 or above 1")
    if table["epoch"].to_pylist() != list(range(table.num_rows)):
        raise ValueError(f"{path.name} holds other epochs than 0, 1, 2, ...")
    if n_epochs is not None and n_epochs != table.num_rows:
        raise ValueError(f"{path.name} holds {table.num_rows} epochs; expected {n_epochs}")


def refuse_other_weights(path: Path, n_parameters: float, layout: Mapping[str, str] | None = None) -> None:
    """Raise unless the file's tensors are those of `layout`, and hold as many numbers as the model has parameters.

    Only the file's header is read. Buffers may add to the parameters.

    Parameters
    ----------
    layout : as `weights_layout` tells it of the file that the trial wrote; None = not recorded, as in older folders.

    Raises
    ------
    ValueError : no safetensors, too few numbers, or a tensor of another name, type or shape.
    """
    tensors = _tensors(path)
    held = sum(prod(shape) for _, shape in tensors.values())
    if held < n_parameters:
        raise ValueError(f"{path.name} holds {held:,} weights; expected at least {n_parameters:,}")
    if layout is not None and (found := _in_words(tensors)) != layout:
        name = min(name for name in {*found, *layout} if found.get(name) != layout.get(name))
        theirs, ours = (words.get(name, "none") for words in (found, layout))
        raise ValueError(f"{path.name} holds {ascii(name)[1:-1][:100]} as {theirs}; expected {ascii(ours)[1:-1][:100]}")


def weights_layout(path: Path) -> dict[str, str]:
    """Type and shape of each tensor in a safetensors file, such as "F32 [64, 512]", by its name.

    Raises
    ------
    ValueError : no safetensors.
    """
    return _in_words(_tensors(path))


def _in_words(tensors: Mapping[str, tuple[str, list[int]]]) -> dict[str, str]:
    return {name: f"{kind} {shape}" for name, (kind, shape) in tensors.items()}


def _tensors(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of each tensor by its name; nothing but the file's header is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return {name: (tensor.get_dtype(), tensor.get_shape()) for name, tensor in slices.items()}
    except SafetensorError as error:
        raise ValueError(f"{path.name} is no safetensors file ({error})") from error


def _table(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> pa.Table:
    """The file's table, text columns as codes of their values; its columns and types are checked before it is read."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path, pre_buffer=False) as file:
            _refuse_other_columns(path, file, texts, numbers)
        with ParquetFile(path, pre_buffer=False, read_dictionary=list(texts)) as file:
            return file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} is no Parquet file ({error})") from error


def _refuse_other_columns(path: Path, file: ParquetFile, texts: Sequence[str], numbers: Sequence[str]) -> None:
    import pyarrow as pa

    schema, n_rows = file.schema_arrow, file.metadata.num_rows
    if sorted(schema.names) != sorted((*texts, *numbers)):
        found = ascii(", ".join(schema.names))[1:-1][:200]
        raise ValueError(f"{path.name} has columns {found}; expected {', '.join((*texts, *numbers))}")
    if n_rows > MOST_ROWS:
        raise ValueError(f"{path.name} has {n_rows:,} rows; expected at most {MOST_ROWS:,}")
    for name in (*texts, *numbers):
        kind = schema.field(name).type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        is_number = pa.types.is_integer(kind) if name == "epoch" else pa.types.is_floating(kind)
        if not (is_text if name in texts else is_number):
            raise ValueError(
                f"{path.name} has {kind} in column {name}; expected {'text' if name in texts else 'numbers'}"
            )


def _text_codes(path: Path, table: pa.Table, name: str) -> pa.DictionaryArray:
    """The column's values, each once, and their numbers row by row."""
    if table[name].null_count:
        raise ValueError(f"{path.name} has an empty cell in column {name}")
    return table[name].unify_dictionaries().combine_chunks()


def _are_shares(values: NDArray[np.float64]) -> bool:
    """Whether all lie between 0 and 1, or are undefined."""
    return bool(((values >= 0) & (values <= 1) | (values != values)).all())  # noqa: PLR0124 - NaN is undefined


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """The column as float64; an empty cell is NaN."""
    values: NDArray[np.float64] = table[name].to_numpy().astype(float)
    return values
