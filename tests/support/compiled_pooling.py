"""Compiles the kernels of the gated pooling for a GPU that need not be there, and prints what came out as JSON."""

import json
import re
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from milbench_baselines.layers import gated_pooling_kernels as kernels
from milbench_baselines.layers.gated_pooling import COLUMNS, FEATURES, MERGED, ROWS, WARPS

OF_ROWS = ("h", "mask", "of_h", "of_branches")
WHOLE = {"n": "i32", "n_blocks": "i32", "stride_e": "i64", "stride_n": "i32"}
SIZES = {"A": 128, "H": 512, "BN": ROWS, "BA": COLUMNS, "BH": FEATURES, "BB": MERGED}


def compiled(kernel: Any, rows: str, **constants: Any) -> dict[str, int]:
    """Facts of one kernel for rows of a dtype."""
    constants = {name: value for name, value in {**SIZES, **constants}.items() if name in kernel.arg_names}
    types = {name: WHOLE.get(name, f"*{rows if name in OF_ROWS else 'fp32'}") for name in kernel.arg_names}
    source = ASTSource(kernel, {**types, **dict.fromkeys(constants, "constexpr")}, constants)
    made = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options={"num_warps": WARPS})
    return {
        "bytes": len(made.asm["cubin"]),
        "tensor_core_products": len(re.findall(r"wgmma\.mma_async|mma\.sync", made.asm["ptx"])),
        "shared_bytes": made.metadata.shared,
    }


found = {"merge_blocks": compiled(kernels.merge_blocks, "fp32")}
for rows, products in (("fp32", "ieee"), ("fp32", "tf32"), ("bf16", "ieee")):
    for kernel in (kernels.pool_blocks, kernels.back_through_blocks):
        arithmetic = {"PRODUCTS": products, "BF16": rows == "bf16", "WIDE": False, "MASKED": True, "SCORED": True}
        found[f"{kernel.__name__} {rows} {products}"] = compiled(kernel, rows, **arithmetic)
print(json.dumps(found))  # noqa: T201
