"""Primitives of attention for PyTorch: column reductions of attention weights (how much attention
does each key get?) and attention residuals (softmax reads over depth).

Importing this package loads `libattnbench.so`, which registers the operators
`torch.ops.attnbench.*`. No GPU is needed.
"""

from attnbench.depth import (BlockRunner, attnres_merge, attnres_mix, attnres_network,
                             attnres_phase1)
from attnbench.operators import colreduce

__all__ = ["BlockRunner", "attnres_merge", "attnres_mix", "attnres_network", "attnres_phase1",
           "colreduce"]
