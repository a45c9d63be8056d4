"""`python -m attnbench`: the program attnbench, for which a Python function can be a backend."""

import sys

from attnbench._program import main

sys.exit(main(sys.argv[1:]))
