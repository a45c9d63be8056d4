"""The examples in Python, small: they run, agree with eager PyTorch, and need less memory."""

from __future__ import annotations

import re
import subprocess
import sys
import unittest
from pathlib import Path

from torch_package import on_gpu

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "python"


class Examples(unittest.TestCase):
    def rows(self, name: str, *arguments: str, device: str = "cpu") -> dict[str, list[float]]:
        """The numbers of each line of the table that the example prints."""
        done = subprocess.run([sys.executable, EXAMPLES / name, "--device", device, *arguments],
                              text=True, capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("are the same", done.stdout)
        found = re.findall(r"^(no \w+|attnbench|eager)((?: +[\d.]+)+)$", done.stdout, re.M)
        return {label: [float(n) for n in numbers.split()] for label, numbers in found}

    def test_pruned_tokens(self, device: str = "cpu") -> None:
        rows = self.rows("prune_tokens.py", "--images", "1", "--layers", "2", "--width", "64",
                         "--heads", "4", "--repeats", "1", device=device)
        self.assertEqual({label: row[-1] for label, row in rows.items()},
                         {"no pruning": 1025, "attnbench": 513, "eager": 513})
        self.assertLess(rows["attnbench"][1], rows["eager"][1])

    def test_evicted_keys(self, device: str = "cpu") -> None:
        rows = self.rows("evict_keys.py", "--prompt", "4096", "--layers", "1", "--width", "128",
                         "--steps", "2", "--repeats", "1", "--heads", "8", device=device)
        self.assertEqual(rows["attnbench"][2], rows["eager"][2])
        self.assertLess(10 * rows["attnbench"][2], rows["no eviction"][2])  # 256 of 4096 keys
        self.assertLess(rows["attnbench"][1], rows["eager"][1])

    def test_a_network_over_depth_learns(self, device: str = "cpu") -> None:
        rows = self.rows("train_depth.py", "--batch", "8", "--length", "64", "--width", "64",
                         "--layers", "6", "--steps", "50", "--repeats", "1", device=device)
        for _, _, first, last in rows.values():
            self.assertLess(last, 0.85 * first)
        self.assertLess(rows["attnbench"][1], rows["eager"][1])

    @on_gpu
    def test_pruned_tokens_on_a_gpu(self) -> None:
        self.test_pruned_tokens("cuda")

    @on_gpu
    def test_evicted_keys_on_a_gpu(self) -> None:
        self.test_evicted_keys("cuda")

    @on_gpu
    def test_a_network_over_depth_learns_on_a_gpu(self) -> None:
        self.test_a_network_over_depth_learns("cuda")


if __name__ == "__main__":
    unittest.main()
