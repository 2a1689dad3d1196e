"""Payload: what a trial's files hold, held against what its record says. A checksum alone tells nothing of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.endpoints.fitted import FittedEndpoint
from milbench.store.arrow_arrays import array_in, floats_in

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pyarrow.parquet import ParquetFile

    Floats = NDArray[np.float64]

TEXT_COLUMNS = ("slide_id", "patient_id", "role", "task")
NUMBER_COLUMNS = ("target", "probability")
HISTORY_COLUMNS = ("epoch", "lr", "train_loss", "val_loss", "val_auroc")
ANSWER_TEXTS = (*TEXT_COLUMNS, "answer")
ANSWER_NUMBERS = ("target", "event", "prediction")
"""Columns of trials that have a task of another kind than binary, with one row per slide, task and answer."""

SCORE_HISTORY_COLUMNS = ("epoch", "lr", "train_loss", "val_loss", "val_score")
"""Columns of the history of such trials."""

ROLES_PREDICTED = {"val", "test"}
"""Of an ordinary trial. A trial of a search says nothing of the test side, unless it was asked to."""

MOST_ROWS = 10_000_000
"""Of one trial's predictions: 2,000 slides with 5,000 tasks. A file of kilobytes can declare billions."""


def refuse_other_predictions(path: Path, tasks: Sequence[str], n_slides: Mapping[str, float]) -> pa.Table:
    """The file's table, texts coded; raises unless it holds one probability per slide and task of both roles, and nothing else.

    A probability may be NaN: a model that overflowed on a slide said so, and its AUROC is undefined.

    Raises
    ------
    ValueError : other columns, types, roles, tasks or values, or a row twice.
    """
    import numpy as np

    table = _table(path, TEXT_COLUMNS, NUMBER_COLUMNS)
    codes = {name: _text_codes(path, table, name) for name in TEXT_COLUMNS}
    _refuse_other_roles(path, set(codes["role"].dictionary.to_pylist()), n_slides)
    if set(codes["task"].dictionary.to_pylist()) != set(tasks):
        raise ValueError(f"{path.name} holds other tasks than {', '.join(tasks)[:200]}")
    target, probability = (floats_in(table[name]) for name in NUMBER_COLUMNS)
    if not (np.isnan(target) | (target == 0) | (target == 1)).all():
        raise ValueError(f"{path.name} holds a target that is neither 0 nor 1")
    if not _are_shares(probability):
        raise ValueError(f"{path.name} holds a probability below 0 or above 1")
    place = np.zeros(table.num_rows, dtype=np.int64)
    for name in ("role", "task", "slide_id"):
        place = place * len(codes[name].dictionary) + array_in(codes[name].indices)
    if len(np.unique(place)) < table.num_rows:
        raise ValueError(f"{path.name} holds a slide twice")
    for role in ROLES_PREDICTED & n_slides.keys():
        n_rows = _n_rows_of(codes["role"], role)
        if n_rows != n_slides[role] * len(tasks):
            raise ValueError(f"{path.name} holds {n_rows} rows of role {role}; expected {n_slides[role]} slides")
    return table


def refuse_other_answers(
    path: Path, tasks: Sequence[str], endpoints: Sequence[FittedEndpoint], n_slides: Mapping[str, float]
) -> pa.Table:
    """The file's table, texts coded; raises unless it holds each answer of each task once per slide of both roles, in that order.

    An answer may be NaN: a model that overflowed on a slide said so, and its scores are undefined.

    Raises
    ------
    ValueError : other columns, types, roles, tasks, answers or values, or rows in another order.
    """
    import numpy as np

    table = _table(path, ANSWER_TEXTS, ANSWER_NUMBERS)
    expected = [(task, answer) for task, each in zip(tasks, endpoints, strict=True) for answer in each.answers]
    if table.num_rows % len(expected):
        raise ValueError(f"{path.name} holds {table.num_rows} rows; expected {len(expected)} per slide")
    shape = (table.num_rows // len(expected), len(expected))  # a row per slide, a column per task and answer
    texts = {name: _texts(path, table, name).reshape(shape) for name in ANSWER_TEXTS}
    for column, wanted in zip(("task", "answer"), zip(*expected, strict=True), strict=True):
        if (texts[column] != np.array(wanted, dtype=object)).any():
            raise ValueError(f"{path.name} holds other values of {column} than {', '.join(wanted)[:200]}")
    if any((texts[column] != texts[column][:, :1]).any() for column in ("slide_id", "patient_id", "role")):
        raise ValueError(f"{path.name} holds the rows of a slide apart from each other")
    _refuse_other_slides(path, texts["role"][:, 0], texts["slide_id"][:, 0], n_slides)
    numbers = {name: floats_in(table[name]).reshape(shape) for name in ANSWER_NUMBERS}
    start = 0
    for task, each in zip(tasks, endpoints, strict=True):
        own = slice(start, start + len(each.answers))
        _refuse_odd_answers(path, task, each, {name: values[:, own] for name, values in numbers.items()})
        start = own.stop
    return table


def _n_rows_of(codes: pa.DictionaryArray, text: str) -> int:
    """Number of rows that hold the text."""
    values = codes.dictionary.to_pylist()
    return int((array_in(codes.indices) == values.index(text)).sum()) if text in values else 0


def _refuse_other_roles(path: Path, roles: set[str], n_slides: Mapping[str, float]) -> None:
    """Raise if there are rows of a role that the trial does not predict."""
    expected = ROLES_PREDICTED & n_slides.keys() or ROLES_PREDICTED
    if extra := roles - expected:
        raise ValueError(
            f"{path.name} holds the role {ascii(min(extra))[:60]}; expected {' and '.join(sorted(expected, reverse=True))}"
        )


def _refuse_other_slides(
    path: Path, roles: NDArray[np.object_], slides: NDArray[np.object_], n_slides: Mapping[str, float]
) -> None:
    """Raise unless each role has its number of slides, each once."""
    _refuse_other_roles(path, set(roles), n_slides)
    if len(set(zip(roles, slides, strict=True))) < len(slides):
        raise ValueError(f"{path.name} holds a slide twice")
    for role in ROLES_PREDICTED & n_slides.keys():
        if (roles == role).sum() != n_slides[role]:
            raise ValueError(
                f"{path.name} holds {(roles == role).sum()} slides of role {role}; expected {n_slides[role]}"
            )


def _refuse_odd_answers(path: Path, task: str, endpoint: FittedEndpoint, numbers: Mapping[str, Floats]) -> None:
    """Raise where a target, an event or a probability of the task cannot be one; arrays are [slides, answers]."""
    import numpy as np

    target, event, prediction = (numbers[name] for name in ANSWER_NUMBERS)
    if np.isinf(target).any() or (np.nan_to_num(target - target[:, :1]) != 0).any():
        raise ValueError(f"{path.name} holds several targets of one slide for task {task}, or one that is not finite")
    known = target[:, 0][~np.isnan(target[:, 0])]
    n_classes = 2 if endpoint.kind == "binary" else len(endpoint.endpoint.classes)
    if n_classes and not np.isin(known, np.arange(n_classes)).all():
        raise ValueError(f"{path.name} holds a target of task {task} that is none of its {n_classes} classes")
    if endpoint.kind == "survival":
        if (known <= 0).any() or not (np.isin(event, [0, 1]) | np.isnan(target)).all():
            raise ValueError(
                f"{path.name} holds a time of task {task} that is not above 0, or an event that is not 0 or 1"
            )
    elif not np.isnan(event).all():
        raise ValueError(f"{path.name} holds events of task {task}, which is no survival task")
    shares = [place for place, name in enumerate(endpoint.answers) if name.startswith(("probability", "survival at "))]
    if not _are_shares(prediction[:, shares]):
        raise ValueError(f"{path.name} holds a probability of task {task} below 0 or above 1")


def refuse_other_history(path: Path, n_epochs: float | None, *, has_other_kinds: bool = False) -> pa.Table:
    """The file's table; raises unless it holds one row of numbers per epoch, epochs counted from 0.

    Parameters
    ----------
    has_other_kinds : whether the trial has a task of another kind than binary, and so a score for an AUROC.

    Raises
    ------
    ValueError : other columns or types, or an epoch that is missing.
    """
    columns = SCORE_HISTORY_COLUMNS if has_other_kinds else HISTORY_COLUMNS
    table = _table(path, (), columns)
    if not _are_shares(floats_in(table[columns[-1]])):
        raise ValueError(f"{path.name} holds an AUROC or score below 0 or above 1")
    if table["epoch"].to_pylist() != list(range(table.num_rows)):
        raise ValueError(f"{path.name} holds other epochs than 0, 1, 2, ...")
    if n_epochs is not None and n_epochs != table.num_rows:
        raise ValueError(f"{path.name} holds {table.num_rows} epochs; expected {n_epochs}")
    return table


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
            if not texts:
                return file.read(use_threads=False)
            footer = file.metadata
        with ParquetFile(path, metadata=footer, pre_buffer=False, read_dictionary=list(texts)) as file:
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


def _texts(path: Path, table: pa.Table, name: str) -> NDArray[np.object_]:
    """The column's values."""
    import numpy as np

    codes = _text_codes(path, table, name)
    values: NDArray[np.object_] = np.array(codes.dictionary.to_pylist(), dtype=object)[array_in(codes.indices)]
    return values


def _are_shares(values: NDArray[np.float64]) -> bool:
    """Whether all lie between 0 and 1, or are undefined."""
    return bool(((values >= 0) & (values <= 1) | (values != values)).all())  # noqa: PLR0124 - NaN is undefined
