"""A slot's name says where in the grid a trial stands."""

from dataclasses import replace

from trial_for_tests import TRIAL

from milbench.names import by_folder
from milbench.store.slot import Slot, slot_of


def test_a_slots_name_reads_back_as_it_was_made() -> None:
    single = replace(TRIAL, dataset="tcga-brca", model="amil", tasks=("has_0",), fold=3, seed=42)
    assert single.slot == "tcga-brca/amil/has_0/fold3-seed42"
    assert slot_of(single.slot, single.id) == Slot("tcga-brca", "amil", "has_0", 3, 42, single.id)
    assert slot_of(replace(single, tasks=("has_0", "has_1")).slot, "id").group == "all"


def test_a_slot_gives_back_names_that_no_folder_can_have() -> None:
    odd = replace(TRIAL, dataset="toy", model="mil/v2", tasks=("MSI/MMR",), fold=0, seed=1)
    assert odd.slot == "toy/mil_v2-fee423fc/MSI_MMR-0fd85a25/fold0-seed1"
    true_names = by_folder(["mil/v2", "MSI/MMR", "TP53"])
    assert slot_of(odd.slot, "id", true_names) == Slot("toy", "mil/v2", "MSI/MMR", 0, 1, "id")
