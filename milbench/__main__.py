"""`python -m milbench` is the command `milbench`."""

import sys

from milbench.commands.cli import main

sys.exit(main())
