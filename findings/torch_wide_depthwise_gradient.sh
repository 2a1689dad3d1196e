#!/usr/bin/env bash
# Versions   torch 2.13.0 with the oneDNN inside of it (public package from PyPI, without milbench)
# Behaviour  PPEG of TransMIL and the grids of MP-AMIL are depthwise convolutions of 3, 5 and 7 columns. On a CPU torch hands them to
#            oneDNN, which has code for depthwise convolutions: jit_dw and brdgmm_dw. In the forward it serves all widths. For the
#            gradient of the kernels it serves 3 columns at most. With 4 and more, channels last, oneDNN takes its code for groups
#            of many channels instead: the format of the kernels that it asks for, 16c16b, pads the one channel of each group to
#            16 by 16. Nothing is said, and the numbers are right. The same gradient in pieces of 3 columns, each from a shifted part
#            of the grid, goes through the depthwise code.
# A guess    would be that the gradient of a kernel of 5 x 5 costs 25/9 of one of 3 x 3, and that there is nothing to gain from
#            asking for it in pieces.
# Seen       Intel Xeon with AVX-512, one thread, 20 x 20 cells, 512 channels, channels last:
#            3 x 3: jit_dw, 0.2 ms;  5 x 5: jit, 16c16b, 2.7 ms, in 2 pieces 0.8 ms;  7 x 7: jit, 16c16b, 5.1 ms, in 3 pieces 1.3 ms
# Exits 0 while the library behaves so, and 1 if it does not any more; 0 with a word on a processor that oneDNN has no such code for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
cat >"$folder/gradients.py" <<'PYTHON'
import sys
from statistics import median
from time import perf_counter

import torch
from torch.nn.functional import pad

SIDE, CHANNELS, MOST = 20, 512, 3
torch.set_num_threads(1)
torch.manual_seed(0)


def of_kernel(cells, of_out, size, columns, padding):
    """Gradient [C, 1, s, columns] of kernels from cells [1, C, ...] and the gradient of the result."""
    kernel, wanted = torch.zeros(CHANNELS, 1, size, columns), (False, True, False)
    found = torch.ops.aten.convolution_backward(
        of_out, cells, kernel, None, (1, 1), (padding, padding), (1, 1), False, (0, 0), CHANNELS, wanted
    )
    return found[1]


def milliseconds(work):
    work()
    taken = []
    for _ in range(15):
        started = perf_counter()
        work()
        taken.append((perf_counter() - started) * 1e3)
    return median(taken)


grid, gradient = torch.randn(2, 1, SIDE, SIDE, CHANNELS)
cells, of_out = (each.permute(0, 3, 1, 2) for each in (grid, gradient))
for size in (3, 5, 7):
    rim = size // 2
    wide = pad(grid, (0, 0, rim, rim, rim, rim))

    def whole():
        return of_kernel(cells, of_out, size, size, rim)

    def in_pieces():
        found = []
        for left in range(0, size, MOST):
            columns = min(MOST, size - left)
            part = wide[:, :, left : left + SIDE + columns - 1].contiguous().permute(0, 3, 1, 2)
            found.append(of_kernel(part, of_out, size, columns, 0))
        return torch.cat(found, dim=3)

    assert torch.allclose(whole(), in_pieces(), rtol=1e-4, atol=1e-3)
    print(f"time {size} {milliseconds(whole):.2f} {milliseconds(in_pieces):.2f}", file=sys.stderr)
PYTHON
# oneDNN tells of each convolution which code took it; times are of a run in which it does not
ONEDNN_VERBOSE=1 "$folder/venv/bin/python" -W ignore "$folder/gradients.py" >"$folder/told" 2>/dev/null
"$folder/venv/bin/python" -W ignore "$folder/gradients.py" 2>"$folder/times"
"$folder/venv/bin/python" - "$folder/told" "$folder/times" <<'PYTHON'
import re
import sys

seen = {}
for line in open(sys.argv[1]):
    if ",convolution," in line and ",backward_weights," in line:
        fields = line.split(",")
        code = fields[fields.index("convolution") + 1]
        rows, columns = map(int, re.search(r"kh(\d+).*kw(\d+)", line).groups())
        is_padded = bool(re.search(r"16c16b|8c8b", line))
        seen.setdefault((rows, columns), set()).add((code.split(":")[0], is_padded))
times = {int(size): (float(whole), float(pieces)) for _, size, whole, pieces in map(str.split, open(sys.argv[2]))}
if seen.get((3, 3)) != {("jit_dw", False)}:
    sys.exit(print(f"no depthwise code for this processor: {seen}"))
for (rows, columns), codes in sorted(seen.items()):
    print(f"gradient of kernels with {rows} rows and {columns} columns: {sorted(codes)}")
for size, (whole, pieces) in times.items():
    print(f"{size} x {size}: {whole} ms at once, {pieces} ms in pieces of 3 columns")
narrow = all(codes == {("jit_dw", False)} for (_, columns), codes in seen.items() if columns <= 3)
wide = all("jit_dw" not in {code for code, _ in seen[size, size]} for size in (5, 7))
slower = all(times[size][0] > 1.3 * times[size][1] for size in (5, 7))
sys.exit(0 if narrow and wide and slower else "wide kernels now have their gradient in another way: look again")
PYTHON
