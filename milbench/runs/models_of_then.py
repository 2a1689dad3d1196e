"""Models of then: what "all" meant when a run was made, for its own run.yaml as a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from milbench.errors import StoreError
from milbench.names import ALL
from milbench.store.run import Run
from milbench.store.run_folder import CONFIG


def with_models_of_then(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The file's values, with the models that its run knew in place of "all": the same trials, not more.

    A file that lies beside no run keeps the word.
    """
    models = values.get("models")
    if path.name != CONFIG or not isinstance(models, list) or ALL not in models:
        return dict(values)
    known: list[str] = []
    with suppress(StoreError):  # whoever opens the run says what is damaged
        known = [str(name) for facts in Run(path.parent).datasets.values() for name in facts["models"]]
    of_then = known or [ALL]
    return {**values, "models": [name for word in models for name in (of_then if word == ALL else [word])]}
