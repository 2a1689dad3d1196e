"""Configuration: what wins over what, and what is refused."""

import os
from pathlib import Path

import pytest
import yaml
from commands_for_tests import Milbench
from runs_for_tests import describe

from milbench.errors import UsageError
from milbench.runs.config import RunConfig, different_settings, make_config
from milbench.runs.preparation import memory_bytes
from milbench.store.run import Run
from milbench.store.run_writing import write_header


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
        ("model.amil=5", "model.amil is 5; expected a section of its arguments"),
        ("model={amil: [1]}", "model.amil is"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tracking: false", "tracking is False; expected a section"),
        ("engine: [loky]", "engine is \\['loky'\\]; expected a section"),
        ("trainer: 5", "trainer is 5; expected a section"),
    ],
)
def test_a_flag_does_not_hide_a_value_where_a_section_belongs(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    flags = {"engine": {}, "tracking": {}, "trainer": {"lr": 0.1}}
    with pytest.raises(UsageError, match=message):
        make_config(tmp_path / "run.yaml", [], flags)


@pytest.mark.parametrize("word", ["\udcff/x", "a\0b"])
@pytest.mark.parametrize("key", ["run", "splits"])
def test_a_path_that_no_run_yaml_could_hold_is_refused(key: str, word: str) -> None:
    with pytest.raises(UsageError, match=rf"{key} is '.*', which is no text in UTF-8"):
        make_config(None, [], {key: word})


def test_a_section_without_a_value_is_empty(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("engine:\ntrainer:\nmodel: {amil: }\n")
    config = make_config(tmp_path / "run.yaml", [], {"engine": {"workers": 2}})
    assert (config.engine.workers, config.trainer, config.model) == (2, {}, {"amil": {}})


def test_a_configuration_that_is_a_pipe_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.yaml")
    with pytest.raises(UsageError, match="is a named pipe, not a file, and was not opened"):
        make_config(tmp_path / "run.yaml", [], {})


@pytest.mark.parametrize("size", ["0", "1B", "1e99TB"])
def test_a_memory_that_no_machine_can_have_is_refused(size: str) -> None:
    with pytest.raises(UsageError, match=f"--memory {size} is"):
        memory_bytes(make_config(None, [], {"engine": {"memory": size}}))


def test_the_default_is_the_study_and_the_models_of_plug_ins_that_are_named(tmp_path: Path) -> None:
    (path := tmp_path / "mine.yaml").write_text("models:\nplugins: [mine.py]\n")
    assert make_config(None, (), {}).models == ("study",)
    assert make_config(None, (), {"plugins": ["mine.py"]}).models == ("study", "plugins")
    assert make_config(path, (), {}).models == ("study", "plugins")
    assert make_config(path, (), {"models": ["study"]}).models == ("study",)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("[all]", ("amil", "theirs", "m4")),
        ("[m4, all]", ("m4", "amil", "theirs")),
        ("[amil]", ("amil",)),
        ("[study]", ("study",)),
    ],
)
def test_all_in_an_earlier_runs_file_means_the_models_of_then(
    tmp_path: Path, asked: str, meant: tuple[str, ...]
) -> None:
    (path := tmp_path / "run.yaml").write_text(f"models: {asked}\n")
    assert make_config(path, (), {}).models == tuple(asked[1:-1].split(", ")), "there is no run beside the file"
    known = {"a": ("amil", "theirs"), "b": ("amil", "m4")}
    facts = {name: describe(name, models, ("TP53",)) for name, models in known.items()}
    write_header(Run(tmp_path), {"models": asked[1:-1].split(", ")}, {}, facts, {})
    assert make_config(path, (), {}).models == meant
    assert make_config(path, (), {"models": ["all"]}).models == ("all",), "a flag means the models of now"


def test_defaults_are_the_documented_ones() -> None:
    config = RunConfig()
    assert (config.models, config.protocol, config.seeds, config.engine.threads) == (("study",), "m4", (42,), 1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("engine.workers=1000000", "the most is 1024"),
        ("engine.threads=99999", "the most is 1024"),
        ("engine.trial_timeout=1.0e+12", "the most is 1e\\+09"),
        ("seeds=[9223372036854775808]", "a seed lies between"),
        ("seeds=" + str(list(range(10_001))), "names 10,001 numbers; the most is 10,000"),
        ("model={a: &a [*a]}", "holds itself"),
        ("tasks=" + "[" * 50 + "]" * 50, "nested more than"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_does(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_config(None, [setting], {})


@pytest.mark.parametrize("key", ["folds", "seeds"])
@pytest.mark.parametrize("word", ["0-9999999999", "0-10000", "9" * 5000, "²", "-3", "1-", "3-1"])
def test_a_range_is_counted_before_it_is_made(milbench_here: Milbench, key: str, word: str) -> None:
    result = milbench_here("plan", f"--{key}={word}")
    assert result.returncode == 2
    assert f"--{key} " in result.stderr


def test_a_run_folder_that_no_file_system_can_have_is_refused(milbench_here: Milbench) -> None:
    result = milbench_here("run", "--run", "x" * 300, "--models", "amil")
    assert (result.returncode, result.stdout.count("\n")) == (2, 1)  # the line that says what is read
    assert "has 300 characters. A folder's name may have 255 bytes" in result.stderr
    result = milbench_here("status", "x" * 300)
    assert (result.returncode, result.stdout) == (2, "")
    assert "File name too long" in result.stderr


def test_settings_of_a_search_differ_one_by_one() -> None:
    """More configurations go on where fewer stopped, and trainings to compare lie beside them; tuned or not is a difference."""

    def config(**tuning: object) -> dict[str, object]:
        return make_config(None, [], {"tuning": tuning}).as_dict()

    one = config(configurations=2, seed=0)
    assert not different_settings(config(configurations=9, compare=False), one)
    assert different_settings(config(configurations=2, seed=4), one) == {"tuning.seed": (4, 0)}
    assert different_settings(config(configurations=0), one) == {"tuning.configurations": (0, 2)}
    old = {key: value for key, value in config().items() if key != "tuning"}
    assert not different_settings(config(), old)
    assert not different_settings(config(), {**old, "tuning": None})
