"""Facts of a cohort are counted from headers; a file may hold any text, and a run keeps little of it."""

from milbench.cohorts.feature_facts import LONGEST_KEPT, feature_facts
from milbench.formats import SlideHeader
from milbench.store.feature_facts import MOST_VALUES


def test_slides_are_counted_by_what_their_files_tell() -> None:
    told = SlideHeader(
        5, 8, "float16", "level-0 px", 511.5, "uni", 20.0, mpp=0.50214, weights_sha256="ab", transform="x"
    )
    assert feature_facts([told, told, SlideHeader(5, 8, "float32")]) == {
        "encoder": {"uni": 2, "": 1},
        "weights_sha256": {"ab": 2, "": 1},
        "mpp": {"0.5021": 2, "": 1},
        "magnification": {"20": 2, "": 1},
        "patch_size": {"511.5 level-0 px": 2, "": 1},
        "transform": {"x": 2, "": 1},
        "width": {"8": 3},
        "dtype": {"float16": 2, "float32": 1},
    }
    assert feature_facts([]) == {}


def test_a_run_keeps_few_values_and_nothing_hidden() -> None:
    sizes = [SlideHeader(5, 8, "float16", "level-0 px", 500.0 + n) for n in range(50)]
    assert len(feature_facts(sizes)["patch_size"]) == MOST_VALUES
    (name,) = feature_facts([SlideHeader(5, 8, "float16", encoder="uni\n\udcff" * 10_000)])["encoder"]
    assert len(name) <= LONGEST_KEPT + 3
    assert name.isprintable()
    assert name.startswith("uni\\n\\udcff")
