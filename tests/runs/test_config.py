"""Configuration: what wins over what, and what is refused."""

from pathlib import Path

import pytest
import yaml

from milbench.errors import UsageError
from milbench.runs.config import RunConfig, make_config


def test_flags_win_over_set_and_set_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("models: [amil]\ntrainer: {epochs: 9, lr: 0.1}\nengine: {workers: 3}\n")
    config = make_config(path, ["trainer.epochs=2"], {"models": ["m4"]})
    assert config.models == ("m4",)
    assert config.trainer == {"epochs": 2, "lr": 0.1}
    assert config.engine.workers == 3


def test_numbers_with_an_exponent_are_numbers() -> None:
    assert make_config(None, ["trainer.lr=1e-3"], {}).trainer == {"lr": 1e-3}


def test_without_a_cohort_the_embedded_one_runs() -> None:
    assert make_config(None, [], {}).datasets == ("digits",)
    assert make_config(None, [], {"cohorts": ["mine"]}).datasets == ()


def test_the_saved_configuration_makes_itself_again(tmp_path: Path) -> None:
    config = make_config(None, ["model.m4.experts=3", "trainer.epochs=2"], {"folds": [0, 1], "models": ["m4"]})
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config.as_dict()))
    assert make_config(path, [], {}) == config


def test_the_environment_names_the_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILBENCH_DATA", "/somewhere")
    assert make_config(None, [], {}).data_root == "/somewhere"
    assert make_config(None, [], {"data_root": "/else"}).data_root == "/else"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("trainr.epochs=2", "Did you mean 'trainer'"),
        ("engine.worker=2", "Did you mean 'workers'"),
        ("engine.workers=many", "type int"),
        ("engine=2", "must be a section"),
        ("seeds=a", "expected int"),
        ("trainer=3", "expected a section"),
        ("keep_weights=1", "type bool"),
        ("epochs", "takes key=value"),
        ("trainer.lr=[", "not valid YAML"),
    ],
)
def test_a_mistake_names_the_key_and_the_mend(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_config(None, [assignment], {})


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.yaml"):
        make_config(tmp_path / "nowhere.yaml", [], {})
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(UsageError, match=r"broken\.yaml is not valid YAML"):
        make_config(broken, [], {})
    listed = tmp_path / "list.yaml"
    listed.write_text("- a\n")
    with pytest.raises(UsageError, match="expected `key: value`"):
        make_config(listed, [], {})


def test_defaults_are_the_documented_ones() -> None:
    config = RunConfig()
    assert (config.models, config.protocol, config.seeds, config.engine.threads) == (("all",), "m4", (42,), 1)
