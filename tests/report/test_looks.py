"""Looks: one table of colours and markers, by the model's name alone."""

from milbench.registry import load_models
from milbench.report.looks import LOOKS, looks_of, page_looks, styles


def test_every_model_that_comes_with_milbench_has_a_look_of_its_own() -> None:
    own = {name for name, model in load_models().items() if model.__module__.startswith("milbench_baselines.")}
    assert own == set(LOOKS)
    assert len({look.colour for look in LOOKS.values()}) == len(LOOKS)
    assert len({(look.dash, look.symbol) for look in LOOKS.values()}) == len(LOOKS)


def test_a_model_looks_the_same_whatever_it_is_compared_with() -> None:
    alone = looks_of(["amil"])["amil"]
    assert looks_of(["m4", "my_model", "amil"])["amil"] == alone
    assert looks_of(["my_model"])["my_model"] == looks_of(["m4", "amil", "my_model"])["my_model"]


def test_models_of_other_people_never_share_a_look() -> None:
    names = [f"model_{number}" for number in range(60)]
    assert len(set(looks_of(names).values())) == len(names)


def test_no_model_is_thicker_than_another_unless_it_is_highlighted() -> None:
    models = list(LOOKS)
    assert len({look["linewidth"] for look in styles(models).values()}) == 1
    thick = {model for model, look in styles(models, "dsmil").items() if look["linewidth"] > 1.3}
    assert thick == {"dsmil"}
    assert [model for model, look in page_looks(models, "dsmil").items() if look["highlighted"]] == ["dsmil"]


def test_the_page_and_the_figures_use_the_same_colour() -> None:
    models = [*LOOKS, "my_model"]
    page = page_looks(models)
    assert {model: look["color"] for model, look in styles(models).items()} == {
        model: page[model]["colour"] for model in models
    }
