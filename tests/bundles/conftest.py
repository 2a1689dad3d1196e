"""One small run, and bundles of it whose reports have no figures, since drawing takes longer than all the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from bundles_for_tests import SALT, make_bundle, make_sound_run

from milbench.bundles.verify import opened
from milbench.report import Recomputed, recompute
from milbench.store.run import Run


@contextmanager
def saving_nothing(drawings: Sequence[tuple[object, Path]], _processes: object = None) -> Iterator[None]:
    """Files without a picture in place of figures."""
    yield
    for _, stem in drawings:
        for suffix in (".png", ".pdf"):
            stem.with_name(f"{stem.name}{suffix}").touch()


@pytest.fixture(scope="session")
def sound_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_sound_run(tmp_path_factory.mktemp("sound") / "toy", models=("amil", "m4"))


@pytest.fixture(scope="session")
def bundled(sound_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("milbench.report.drawings.saving", saving_nothing)
        return make_bundle(sound_run, tmp_path_factory.mktemp("bundled") / "toy", authors=("Ada Example",))


@pytest.fixture(scope="session")
def hidden(sound_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with pseudonyms."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("milbench.report.drawings.saving", saving_nothing)
        return make_bundle(sound_run, tmp_path_factory.mktemp("hidden") / "toy", pseudonyms=SALT)


@pytest.fixture(scope="session")
def report_anew(bundled: Path) -> Recomputed:
    with opened(bundled) as (_, header, run):
        return recompute(
            [run],
            bundled / "report",
            reference=header.reference,
            draws=header.draws,
            complete_cases=False,
            title=header.title,
            highlight="",
        )


@pytest.fixture
def spoiled(bundled: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(bundled, tmp_path / "toy"))
