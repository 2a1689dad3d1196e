"""Weights: what a file of weights holds, put into a network; and the hash of what a network holds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from milbench.errors import DataError, UsageError
from milbench.extraction.encoders.recognised import seems_to_be
from milbench.formats.opening import failing_clearly, listed
from milbench.formats.tensors import open_weights
from milbench.visible import shortened, visible_line

WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student", "network", "net", "encoder", "backbone")
"""Keys under which training scripts save the weights; the first that is there counts, a teacher before its student."""

PREFERRED = ("", "encoder_q.", "module.encoder_q.", "teacher.", "module.teacher.", "teacher.backbone.")
"""Which copy of a network counts if a file holds several, as momentum encoders do."""

HEADS = ("fc", "head", "heads", "head_dist", "classifier", "last_linear", "projector", "projection_head", "predictor")
"""Modules behind the features: a file may hold them, and they are left out."""

UNUSED = ("mask_token",)
"""Tensors of the training task alone, which a ViT's features do not depend on."""

COUNTER = "num_batches_tracked"
"""A counter of batch normalisation. It does not change features, and older files lack it."""


def load(network: nn.Module, path: Path, name: str, heads: Iterable[str] = ()) -> str:
    """Put the weights of a file into a network. Every weight must be there, in its shape, and none may be left over.

    Returns a sentence on what lies beside the network in the file and was left out; empty if that is copies and heads only.

    Parameters
    ----------
    name : of the network, for messages.
    heads : names of its modules behind the features, beside the usual ones.

    Raises
    ------
    UsageError : there is no such file.
    DataError : it cannot be read, or holds the weights of another network.
    """
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith(COUNTER)}
    tensors = _tensors(path)
    prefix = _prefix(path, tensors, wanted, name)
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if missing := [key for key in wanted if key not in found]:
        raise _another_network(path, tensors, name, prefix, missing)
    left_out = {*HEADS, *UNUSED, *heads}
    _refuse_misfits(path, found, wanted, name, left_out)
    network.load_state_dict({key: found[key].to(torch.float32) for key in wanted}, strict=False)
    return _beside(tensors, wanted, prefix, left_out)


def sha256(network: nn.Module) -> str:
    """SHA-256 of the values that a network holds: names in order, types, shapes and bytes.

    Two ways to the same weights have the same hash. Counters of batches are left out, since features do not depend on them.
    """
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        if not key.endswith(COUNTER):
            digest.update(f"{key}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, wrappers taken off."""
    if not path.is_file():
        raise UsageError(f"there is no file of weights at {path}. Check the path after --weights.")
    content = _safe_tensors(path) if path.suffix == ".safetensors" else open_weights(path)
    while isinstance(content, Mapping) and not _holds_tensors(content):
        key = _wrapper(content)
        if key is None:
            raise DataError(
                f"{path}: no tensors with names such as blocks.0.norm1.weight were found in it. It holds a dict of {listed(content)}; "
                f"looked below {', '.join(WRAPPERS)}. Save the network's state_dict."
            )
        content = content[key]
    if not isinstance(content, Mapping):
        raise DataError(f"{path} holds a {type(content).__name__}, not a network's weights. Save its state_dict.")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _wrapper(content: Mapping[Any, Any]) -> Any:
    """The key to look below: a usual one, or the only one that holds tensors; None if there is none."""
    usual = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    others = [key for key, value in content.items() if isinstance(value, Mapping) and _holds_tensors(value)]
    return usual[0] if usual else others[0] if len(others) == 1 else None


def _holds_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) and "." in str(key) for key, value in content.items())


def _safe_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        with failing_clearly(path, "safetensors file", "Download it again."):
            return load_file(path)  # type: ignore[no-any-return]
    except DataError as error:
        raise DataError(str(error)) from error


def _prefix(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str) -> str:
    """The prefix under which most of the wanted names lie, such as "module.encoder_q."."""
    counted = Counter(prefix for key in tensors for prefix in _prefixes(key, wanted))
    if not counted:
        raise _another_network(path, tensors, name, "", list(wanted))
    most = max(counted.values())
    best = [prefix for prefix, count in counted.items() if count == most]
    meant = best if len(best) == 1 else _preferred(best)
    if meant or most < len(wanted):  # of what is no copy of the network it says what is missing
        return (meant or best)[0]
    raise DataError(
        f"{path} holds {len(best)} copies of {name}, below {' and '.join(map(repr, sorted(best)))}. "
        "Save the one that is meant in a file of its own."
    )


def _preferred(prefixes: Sequence[str]) -> list[str]:
    """The prefix that counts: a usual one, or a teacher's where the other is its student's; else none."""
    usual = [prefix for prefix in PREFERRED if prefix in prefixes]
    teachers = [
        prefix for prefix in prefixes if set(prefixes) == {prefix, prefix.replace("teacher.", "student.")} != {prefix}
    ]
    return [*usual, *teachers][:1]


def _prefixes(key: str, wanted: Mapping[str, Tensor]) -> Iterable[str]:
    """What stands before a wanted name in `key`."""
    parts = key.split(".")
    for start in range(len(parts)):
        if ".".join(parts[start:]) in wanted:
            yield "".join(f"{part}." for part in parts[:start])


def _beside(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: str, left_out: set[str]) -> str:
    """What was left out beside the prefix, other than copies of the network and heads."""
    others = [
        key
        for key in tensors
        if not key.startswith(prefix)
        and not any(_prefixes(key, wanted))
        and not key.endswith(COUNTER)
        and not any(part in left_out or part.endswith("_head") for part in key.split("."))
    ]
    if not others:
        return ""
    return (
        f"the file's weights below '{prefix}' are taken. Beside them lie {len(others)} tensors that are left out, such as "
        f"{shortened(visible_line(others[0]))}. If features go through those too, write a plug-in."
    )


def _refuse_misfits(
    path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str, heads: set[str]
) -> None:
    if odd := [key for key in wanted if found[key].shape != wanted[key].shape]:
        has, needs = tuple(found[odd[0]].shape), tuple(wanted[odd[0]].shape)
        raise DataError(
            f"{path}: {odd[0]} is {has}, but {name} needs {needs} ({len(odd)} such tensors). "
            f"The file seems to hold {seems_to_be(found)}. Choose the encoder that the file belongs to."
        )
    if integers := [key for key in wanted if not found[key].is_floating_point() and wanted[key].is_floating_point()]:
        raise DataError(f"{path}: {integers[0]} holds {found[integers[0]].dtype}, not floats. Save weights as float32.")
    if odd := [key for key in wanted if not torch.isfinite(found[key]).all()]:
        raise DataError(f"{path}: {odd[0]} holds NaN or infinite values. Download the file again.")
    if more := [
        key for key in found if key not in wanted and key.split(".")[0] not in heads and not key.endswith(COUNTER)
    ]:
        raise DataError(
            f"{path} holds {seems_to_be(found)}, with {len(more)} tensors that {name} has no place for, such as {more[0]}. "
            "Features without them would be those of another network. Choose the encoder that the file belongs to."
        )


def _another_network(
    path: Path, tensors: Mapping[str, Tensor], name: str, prefix: str, missing: Sequence[str]
) -> DataError:
    """That wanted tensors are missing, and what was seen in their place."""
    off = f", also after '{prefix}' is taken off" if prefix else ""
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return DataError(
        f"{path} holds {len(tensors)} tensors of {seems_to_be(tensors)}. {name} needs {missing[0]}{more}, which "
        f"{'are' if more else 'is'} not among them{off}. Choose the encoder that the file belongs to, or another file after "
        "--weights."
    )
