"""Counts of what files tell become words for tables, and what they do not tell is said."""

from milbench.store.feature_facts import in_words, known_values, one_line
from milbench.visible import shortened

FACTS = {
    "encoder": {"uni_v1": 10},
    "weights_sha256": {"5e" * 32: 10},
    "mpp": {"0.5": 8, "0.25": 2},
    "magnification": {"": 10},
    "patch_size": {"512 level-0 px": 8, "256 level-0 px": 1, "511 level-0 px": 1, "510 level-0 px": 1, "": 1},
    "transform": {'{"mean": [0.5, 0.5, 0.5], "size": 224, "std": [0.25, 0.25, 0.25]}': 10},
    "width": {"1024": 10},
    "dtype": {"float16": 10},
}
NONE_TOLD = {name: {"": 3} for name in FACTS} | {"width": {"6": 3}, "dtype": {"float32": 3}}


def test_every_fact_is_said_with_the_number_of_slides_where_they_differ() -> None:
    assert in_words(FACTS) == {
        "encoder": "uni_v1",
        "encoder weights": "5e5e5e5e5e5e",
        "magnification": "0.5 µm per pixel (8 slides), 0.25 µm per pixel (2 slides)",
        "patch size": "512 level-0 px (8 slides), not stored (1 slides), 256 level-0 px (1 slides) and 2 more",
        "normalisation": "mean 0.5 0.5 0.5, sd 0.25 0.25 0.25, resized to 224 px",
        "width": "1024",
        "dtype": "float16",
    }


def test_what_files_do_not_tell_is_said() -> None:
    words = in_words(NONE_TOLD)
    assert {name for name, text in words.items() if text == "not stored"} == {
        "encoder", "magnification", "patch size", "normalisation",
    }  # fmt: skip
    assert (
        one_line(NONE_TOLD) == "width 6; dtype float32; not stored: encoder, magnification, patch size, normalisation"
    )


def test_a_magnification_that_some_files_tell_is_not_that_of_all() -> None:
    assert in_words({"magnification": {"20": 2, "": 1}})["magnification"] == "20× (2 slides), not stored (1 slides)"


def test_a_transform_of_another_tool_is_its_own_text() -> None:
    for text in (
        "stain normaliser macenko",
        "[1, 2]",
        '{"mean": 1, "std": 2}',
        f'{{"mean": [1{"0" * 400}], "std": []}}',
    ):
        assert in_words({"transform": {text: 2}})["normalisation"] == shortened(text, 80)


def test_known_values_come_by_their_number_of_slides() -> None:
    assert known_values(FACTS, "mpp") == ["0.5", "0.25"]
    assert known_values(FACTS, "magnification") == known_values({}, "mpp") == []
