"""Folders of names: the name itself where a folder can have it, else one of its own."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milbench.errors import UsageError
from milbench.names import by_folder, folder_name, is_folder_name, refuse_cohort_name, refuse_shared_folders

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@pytest.mark.parametrize("name", ["TP53", "HER2 [IHC]", "ER+", "a:b?*|", "MSI_MMR-0fd85a25", "x" * 255, "TP53."])
def test_a_name_that_a_folder_can_have_stays(name: str) -> None:
    assert folder_name(name) == name


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("MSI/MMR", "MSI_MMR-0fd85a25"),
        (".hidden", "hidden-"),
        ("..", "name-"),
        ("a\\b", "a_b-"),
        ("x" * 256, "x" * 60 + "-"),
    ],
)
def test_a_name_that_no_folder_can_have_gets_one_that_reads_like_it(name: str, folder: str, tmp_path: Path) -> None:
    assert folder_name(name).startswith(folder)
    (tmp_path / folder_name(name)).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [folder_name(name)]


@given(NAMES)
def test_every_name_has_one_folder_that_is_a_name_itself(name: str) -> None:
    folder = folder_name(name)
    assert is_folder_name(folder)
    assert folder_name(folder) == folder == folder_name(name)


@given(st.sets(NAMES, max_size=20))
def test_different_names_have_different_folders_and_lead_back(names: set[str]) -> None:
    folders = by_folder(names)
    assert {folders[folder_name(name)] for name in names} == names


def test_a_name_chosen_to_share_a_folder_is_refused() -> None:
    refuse_shared_folders("tasks", ["MSI/MMR", "MSI_MMR"])
    with pytest.raises(UsageError, match=r"the tasks 'MSI/MMR' and 'MSI_MMR-0fd85a25' would keep their results in one"):
        refuse_shared_folders("tasks", ["MSI/MMR", "MSI_MMR-0fd85a25"])


@pytest.mark.parametrize("name", ["a/b", ".a", ""])
def test_a_cohort_that_names_no_folder_is_refused_with_a_name_that_can(name: str) -> None:
    with pytest.raises(UsageError, match="which cannot name a folder of results"):
        refuse_cohort_name(name)
