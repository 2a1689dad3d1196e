"""Machine: what this process may use of the machine that it runs on."""

from __future__ import annotations

from milbench.errors import UsageError
from milbench.process.cores import usable_cores as usable_cores


def resolve_device(asked: str) -> str:
    """ "cuda" or "cpu" for "auto", else what was asked for.

    Raises
    ------
    UsageError : no such device here.
    """
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"device '{asked}' cannot be used here ({reason}). Use --device auto or --device cpu."
        ) from error
    return asked
