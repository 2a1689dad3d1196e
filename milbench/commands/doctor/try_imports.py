"""Import the modules that are named, one after the other, and tell of each what came of it (`child.py` runs this file)."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def main(names: list[str]) -> None:
    """Tell the name of each module before it is imported, then its facts or its error."""
    for name in names:
        tell({"module": name})
        tell(tried(name))


def tell(values: Mapping[str, Any]) -> None:
    """Print a line that is read even if the process dies in the next moment."""
    print(sys.argv[1] + json.dumps(values), flush=True)  # noqa: T201


def tried(name: str) -> dict[str, Any]:
    """The module's facts, or its error."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        try:
            facts = FACTS.get(name, lambda _: {})(importlib.import_module(name))
        except BaseException as error:  # noqa: BLE001 - a library may raise what it likes, SystemExit too
            return {"module": name, "error": first_line(error)}
    texts = [first_line(each.message) for each in said if issubclass(each.category, UserWarning)]
    return {"module": name, "facts": facts, "warnings": texts}


def first_line(error: BaseException | str) -> str:
    """The kind of an error and the first line of its text."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def of_torch(torch: Any) -> dict[str, Any]:
    """Build, backends and GPUs."""
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "available": torch.cuda.is_available(),
        "gpus": [gpu(torch, index) for index in range(torch.cuda.device_count())],
    }


def gpu(torch: Any, index: int) -> dict[str, Any]:
    """Name, memory and compute capability of a GPU, and why a small sum on it fails; "" if it does not."""
    facts: dict[str, Any] = {"name": f"GPU {index}", "error": ""}
    try:
        found = torch.cuda.get_device_properties(index)
        facts |= {"name": found.name, "bytes": found.total_memory, "capability": f"{found.major}.{found.minor}"}
        if torch.ones(8, device=f"cuda:{index}").sum().item() != 8:
            facts["error"] = "1 + 1 + ... is not 8 on it"
    except Exception as error:  # noqa: BLE001 - drivers raise what they like
        facts["error"] = first_line(error)
    return facts


FACTS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "torch": of_torch,
    "h5py": lambda h5py: {"hdf5": h5py.version.hdf5_version},
}

if __name__ == "__main__":
    main(sys.argv[2:])
