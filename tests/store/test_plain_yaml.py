"""YAML is counted before it expands."""

import time

import pytest
import yaml

from milbench.store.plain_yaml import DEEPEST, MOST_VALUES, plain_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases written out it holds more than"),
        ("a: &a [1, *a]", r"'\*a' stands inside of what it names"),
        ("&a {b: {c: *a}}", r"'\*a' stands inside of what it names"),
        ("[" * 10_000 + "]" * 10_000, f"nested more than {DEEPEST} levels"),
        ("{a: " * 500 + "1" + "}" * 500, f"nested more than {DEEPEST} levels"),
        ("- x\n" * (MOST_VALUES + 1), "holds more than"),
        ("day: 2020-13-45", "month"),
        ("a: *nowhere", "undefined alias"),
    ],
    ids=[
        "aliases of aliases",
        "list in itself",
        "mapping in itself",
        "lists",
        "mappings",
        "long",
        "no day",
        "no anchor",
    ],
)
def test_what_expands_too_far_is_refused_at_once(text: str, said: str) -> None:
    begun = time.monotonic()
    with pytest.raises(yaml.YAMLError, match=said):
        plain_yaml(text)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    "text",
    ["", "a: 1", "base: &b {lr: 0.1}\nother: {<<: *b, epochs: 2}", "- [1, 2]\n- {a: b}", "tasks: " + str([f"t{i}" for i in range(5000)])],
    ids=["nothing", "one", "merged", "nested", "five thousand tasks"],
)  # fmt: skip
def test_ordinary_text_is_read_as_ever(text: str) -> None:
    assert plain_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds: [1]\nlr: 2\nseeds: [2]\n", "'seeds' stands twice, in lines 1 and 3"),
        ("trainer:\n  lr: 1\n  lr: 2\n", "'lr' stands twice, in lines 2 and 3"),
        ("positive: {T: a, 'T': b}\n", "'T' stands twice"),
        ('a: 1\ntitle: "x\\0y"\n', "text in line 2 holds a NUL or half of a character"),
        ('title: "\\uD800"\n', "text in line 1 holds a NUL or half of a character"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(yaml.YAMLError, match=said):
        plain_yaml(text)


def test_a_key_that_a_merge_brings_may_be_given_anew() -> None:
    text = "base: &b {lr: 1, epochs: 2}\nmine:\n  <<: *b\n  lr: 3\n"
    assert plain_yaml(text)["mine"] == {"lr": 3, "epochs": 2}
