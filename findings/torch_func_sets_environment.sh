#!/usr/bin/env bash
# Versions   torch 2.13.0 (public package from PyPI, without milbench)
# Behaviour  the first backward of torch.func.vjp in a process imports torch's compiler. That sets an environment variable of the
#            process (TORCHINDUCTOR_CACHE_DIR), which all processes inherit that are started later, and adds a warning filter.
#            Nothing is compiled. torch.autograd.grad of the same function leaves the process as it is.
# A guess    would be that to differentiate an eager function changes nothing but its result.
# Seen       autograd: no new variable, no new filter. vjp: one of each, in os.environ and in a child process.
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
cat > "$folder/differentiate.py" <<'PYTHON'
import os
import subprocess
import sys
import warnings

import torch

x = torch.ones(3, requires_grad=sys.argv[1] == "autograd")
before, filters = dict(os.environ), len(warnings.filters)
if sys.argv[1] == "autograd":
    (gradient,) = torch.autograd.grad(torch.sin(x).sum(), x)
else:
    (gradient,) = torch.func.vjp(torch.sin, x)[1](torch.ones(3))
new = sorted(set(os.environ) - set(before))
child = subprocess.run([sys.executable, "-c", "import os; print('TORCHINDUCTOR_CACHE_DIR' in os.environ)"],
                       capture_output=True, text=True, check=True).stdout.strip()
print(f"{sys.argv[1]}: cos(1) = {gradient[0]:.4f}, new variables {new}, new filters {len(warnings.filters) - filters}, "
      f"a child sees it: {child}")
as_seen = new == ([] if sys.argv[1] == "autograd" else ["TORCHINDUCTOR_CACHE_DIR"]) and child == str(bool(new))
sys.exit(0 if as_seen else "torch.func.vjp now leaves the process otherwise: look again")
PYTHON
for how in autograd vjp; do
    env -u TORCHINDUCTOR_CACHE_DIR "$folder/venv/bin/python" "$folder/differentiate.py" "$how"
done
