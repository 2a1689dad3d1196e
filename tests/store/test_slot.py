"""A slot's name says where in the grid a trial stands."""

from dataclasses import replace

from trial_for_tests import TRIAL

from milbench.store.slot import Slot, slot_of


def test_a_slots_name_reads_back_as_it_was_made() -> None:
    single = replace(TRIAL, dataset="tcga-brca", model="amil", tasks=("has_0",), fold=3, seed=42)
    assert single.slot == "tcga-brca/amil/has_0/fold3-seed42"
    assert slot_of(single.slot, single.id) == Slot("tcga-brca", "amil", "has_0", 3, 42, single.id)
    assert slot_of(replace(single, tasks=("has_0", "has_1")).slot, "id").group == "all"
