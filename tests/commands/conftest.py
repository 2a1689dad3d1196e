"""What tests of several files call."""

from collections.abc import Callable
from pathlib import Path

import pytest

from milbench.commands.cli import main


@pytest.fixture
def heatmap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, output and errors of `milbench heatmap words...` in this process, writing to `tmp_path / "out"`."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["heatmap", *map(str, words), "--out", str(tmp_path / "out")])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, output and errors of `milbench words...` in this process."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
