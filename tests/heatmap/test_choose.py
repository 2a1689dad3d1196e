"""Choose: a slide is a true positive only where the model calls it positive."""

import pytest

from milbench.heatmap.choose import OUTCOMES, caption_of


@pytest.mark.parametrize(
    ("word", "probability", "holds"),
    [("top-tp", 0.6, True), ("top-tp", 0.4, False), ("top-fp", 0.5, True), ("top-fp", 0.1, False), ("top-fn", 0.4, True),
     ("top-fn", 0.9, False), ("top-tn", 0.2, True), ("top-tn", 0.7, False)],
)  # fmt: skip
def test_the_word_holds_on_its_own_side_of_the_threshold_only(word: str, probability: float, *, holds: bool) -> None:
    caption = caption_of(word, probability, 0.5, "AMIL")
    assert caption.startswith(f"{word}: " if holds else f"{OUTCOMES[word].otherwise}, not {word}: ")
    assert ("threshold 0.50" in caption) is not holds
