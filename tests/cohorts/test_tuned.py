"""Files of chosen settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from milbench.cohorts.tuned import TunedSettings, read_tuned
from milbench.errors import DataError
from milbench.search_space import Configuration

SETTINGS = TunedSettings(
    24,
    {
        ("amil", ""): Configuration(7, {"lr": 0.00312}, {"dropout": 0.25}),
        ("dsmil", "TP53"): Configuration(3, {"lr": 0.001}),
        ("dsmil", "KRAS"): Configuration(0),
    },
    "tcga-luad", "milbench tune --datasets tcga-luad", "2026-11-28, milbench 0.1.0",
)  # fmt: skip


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "chosen.yaml"
    path.write_text(SETTINGS.to_yaml())
    assert read_tuned(path) == SETTINGS
    assert str(SETTINGS) == "tuned, 24 configurations per model"


def test_a_task_has_its_own_settings_or_those_of_the_model() -> None:
    assert SETTINGS.of("amil", "TP53") == Configuration(7, {"lr": 0.00312}, {"dropout": 0.25})
    assert SETTINGS.of("dsmil", "TP53") == Configuration(3, {"lr": 0.001})
    assert SETTINGS.of("dsmil", "EGFR") is None
    assert SETTINGS.of("m4", "TP53") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [amil]", "holds no chosen settings"),
        ("[1, 2]", "holds no chosen settings"),
        ("a: b: c", "cannot be read as YAML"),
        ("configurations: 24\nmodels: {}\nmodel: {}", "has the key 'model'"),
        ("models: {}", "configurations is None"),
        ("configurations: 0\nmodels: {}", "configurations is 0"),
        ("configurations: 2\nmodels: {amil: 3}", r"models\.amil is 3; expected configuration, trainer and model"),
        ("configurations: 2\nmodels: {amil: {trainers: {}}}", r"models\.amil is .*trainers"),
        ("configurations: 2\nmodels: {amil: {tasks: [1]}}", r"models\.amil\.tasks is \[1\]"),
        ("configurations: 2\nmodels: {amil: {tasks: {A: {trainer: 3}}}}", r"models\.amil\.tasks\.A is"),
    ],
)
def test_another_file_is_refused_with_the_line_that_is_odd(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "chosen.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_tuned(path)
