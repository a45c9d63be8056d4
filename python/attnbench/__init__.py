"""Column reductions of attention weights for PyTorch: how much attention does each key get?

Importing this package loads `libattnbench.so`, which registers the operators
`torch.ops.attnbench.colreduce` and `torch.ops.attnbench.colreduce_with_lse`. No GPU is needed.
"""

from attnbench.operators import colreduce

__all__ = ["colreduce"]
