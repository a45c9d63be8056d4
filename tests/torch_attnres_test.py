"""Attention residuals in PyTorch: single reads and whole networks, values and gradients against
float64 by autograd, recompute policies with equal bits, compilation, errors."""

from __future__ import annotations

import copy
import gc
import itertools
import time
import unittest
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch_package import on_gpu, torch

import attnbench
from attnbench import BlockRunner, attnres_merge, attnres_mix, attnres_network, attnres_phase1

Tensor = torch.Tensor
nn = torch.nn
F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
OPS = torch.ops.attnbench
EPS = 1e-6
# Of a norm of errors over that of the values: fp32 arithmetic, and one rounding of each result.
TOLERANCE = {F32: 2e-5, F16: 2e-3, BF16: 1.5e-2}


def rounded(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """In float64 what a tensor of that type holds; its gradient is that of the exact value."""
    return exact + (exact.to(dtype).double() - exact).detach()


def read(sources: Sequence[Tensor], query: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """The plain formula, [..., D] and [...]."""
    v = torch.stack(list(sources))
    logits = (v @ query) * (v.square().mean(-1) + eps).rsqrt()
    weights = logits.softmax(0)
    return (weights[..., None] * v).sum(0), logits.logsumexp(0)


def normed(h: Tensor, gamma: Tensor, eps: float = EPS) -> Tensor:
    return gamma * h * (h.square().mean(-1, keepdim=True) + eps).rsqrt()


def network(embedding: Tensor, queries: Tensor, sublayers: Sequence[Callable[[Tensor], Tensor]],
            size: int) -> Tensor:
    """Block attention residuals as the paper has them: a loop."""
    blocks = [embedding]
    partial: Tensor | None = None
    for i, sublayer in enumerate(sublayers):
        if i % size == 0 and partial is not None:
            blocks.append(partial)
            partial = None
        u = sublayer(read(blocks + ([] if partial is None else [partial]), queries[i])[0])
        partial = u if partial is None else partial + u
    return read(blocks + ([] if partial is None else [partial]), queries[-1])[0]


def error(got: Tensor, exact: Tensor) -> float:
    """Norm of the error over that of the values, absolute where these are small."""
    difference = (got.detach().double() - exact.detach().double()).norm()
    return float(difference / exact.detach().double().norm().clamp(min=1e-3))


class Mlp(nn.Module):
    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.down(self.dropout(torch.tanh(self.up(h))))
        return out


def quiet_gradcheck(function: Callable[..., Any], inputs: Sequence[Tensor]) -> bool:
    """Central differences of float32, whose rounding a wide step keeps small."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not a double precision.*")
        return bool(torch.autograd.gradcheck(function, inputs, eps=2e-2, atol=4e-3, rtol=4e-3))


class Reads:
    """Single reads, the same tests on a CPU and on a GPU."""

    device = "cpu"

    def random(self, *shape: int, dtype: torch.dtype = F32, seed: int = 1, scale: float = 1,
               grad: bool = True) -> Tensor:
        values = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return values.to(self.device, dtype).requires_grad_(grad)

    def sources(self, count: int, *shape: int, dtype: torch.dtype = F32) -> list[Tensor]:
        return [self.random(*shape, dtype=dtype, seed=10 + n) for n in range(count)]

    def compare(self: Any, got: Sequence[Tensor], exact: Sequence[Tensor], inputs: list[Tensor],
                exact_inputs: list[Tensor]) -> None:
        """Outputs, and the gradients of all inputs by a random gradient of all outputs."""
        for a, b in zip(got, exact, strict=True):
            self.assertEqual(a.shape, b.shape)
            self.assertLessEqual(error(a, b), TOLERANCE[a.dtype])
            self.assertGreater(error(a * 1.02, b), TOLERANCE[a.dtype], "too wide")
        weights = [self.random(*a.shape, dtype=a.dtype, seed=50 + i, grad=False)
                   for i, a in enumerate(got)]
        gradients = torch.autograd.grad(list(got), inputs, weights)
        wanted = torch.autograd.grad(list(exact), exact_inputs, [w.double() for w in weights])
        worst = max(TOLERANCE[t.dtype] for t in inputs)
        for i, (a, b, t) in enumerate(zip(gradients, wanted, inputs, strict=True)):
            self.assertEqual((a.shape, a.dtype, a.device), (t.shape, t.dtype, t.device))
            self.assertLessEqual(error(a, b), worst, f"gradient of input {i}")

    def takes_norms(self: Any) -> bool:
        """Every CPU does; a GPU's backends do, or say that they do not."""
        v, w = self.sources(2, 3, 16), self.random(16)
        try:
            attnres_merge(v[0], w, v[1], attnres_mix(v, w, gamma=w).lse, gamma=w)
        except NotImplementedError as refusal:
            self.assertEqual(self.device, "cuda")
            self.assertIn("no backend of this build takes the call on cuda", str(refusal))
            return False
        return True

    def test_mixes(self: Any) -> None:
        for dtype, (n, shape), adds, norms in itertools.product(
                (F32, F16, BF16), ((1, (3, 16)), (2, (2, 5, 24)), (5, (7, 33))), (False, True),
                (False, True)):
            if norms and not self.takes_norms():
                continue
            with self.subTest(dtype=dtype, n=n, adds=adds, norms=norms):
                v = self.sources(n, *shape, dtype=dtype)
                w = self.random(shape[-1], scale=0.5)
                extra = {"update": self.random(*shape, dtype=dtype, seed=3)} if adds else {}
                if norms:
                    extra["gamma"] = self.random(shape[-1], seed=4)
                inputs = [*v, w, *extra.values()]
                exact = [t.detach().double().requires_grad_() for t in inputs]
                sources = exact[:n]
                got = attnres_mix(v, w, EPS, **extra)
                outputs: list[Tensor] = [got.out, got.lse]
                if adds:
                    sources[-1] = rounded(sources[-1] + exact[n + 1], dtype)
                    outputs.append(got.sum)
                out, lse = read(sources, exact[n])
                if norms:
                    out = normed(rounded(out, dtype), exact[-1])
                self.compare(outputs, [out, lse, *([sources[-1]] if adds else [])], inputs, exact)
                self.assertEqual(got.sum.shape, shape if adds else (0,))

    def test_phase_1_and_merges(self: Any) -> None:
        for dtype, (n, s, shape) in itertools.product(
                (F32, F16, BF16), ((1, 1, (3, 16)), (3, 4, (2, 5, 24)), (9, 3, (7, 33)))):
            with self.subTest(dtype=dtype, n=n, s=s):
                v = self.sources(n, *shape, dtype=dtype)
                w = self.random(s, shape[-1], scale=0.5)
                exact = [t.detach().double().requires_grad_() for t in (*v, w)]
                pairs = [read(exact[:n], query) for query in exact[n]]
                reads, lse = attnres_phase1(v, w, EPS)
                self.compare([reads, lse], [torch.stack(t) for t in zip(*pairs)], [*v, w], exact)

                b, u = self.random(*shape, dtype=dtype, seed=5), self.random(
                    *shape, dtype=dtype, seed=6)
                o1, z1 = (t[0].detach().requires_grad_() for t in (reads, lse))
                query = w.detach()[0].clone().requires_grad_()
                inputs = [b, query, o1, z1, u]
                exact = [t.detach().double().requires_grad_() for t in inputs]
                total = rounded(exact[0] + exact[4], dtype)
                logit = (total @ exact[1]) * (total.square().mean(-1) + EPS).rsqrt()
                a = torch.sigmoid(logit - exact[3])[..., None]
                got = attnres_merge(b, query, o1, z1, EPS, update=u)
                self.compare(got, [(1 - a) * exact[2] + a * total,
                                   torch.logaddexp(logit, exact[3]), total], inputs, exact)

    def test_a_phase_1_and_a_merge_are_a_mix(self: Any) -> None:
        v, w, b = self.sources(3, 4, 40), self.random(40, scale=0.5), self.random(4, 40)
        reads, lse = attnres_phase1(v, w[None])
        merged = attnres_merge(b, w, reads[0], lse[0])
        mixed = attnres_mix([*v, b], w)
        for one, other in zip(merged[:2], mixed[:2]):
            self.assertLessEqual(error(one, other), TOLERANCE[F32])
        both = [torch.autograd.grad(t.out.square().sum(), [*v, w, b]) for t in (merged, mixed)]
        for one, other in zip(*both):
            self.assertLessEqual(error(one, other), 1e-4)

    def test_one_source_is_read_as_it_is(self: Any) -> None:
        v, w = self.random(5, 32, dtype=BF16), self.random(32)
        out = attnres_mix([v], w).out
        self.assertTrue(torch.equal(out, v))
        dv, dw = torch.autograd.grad(out.float().sum(), [v, w])
        self.assertTrue(torch.equal(dv, torch.ones_like(dv)))
        self.assertTrue(torch.equal(dw, torch.zeros_like(dw)))

    def test_an_output_that_is_not_used_has_no_part(self: Any) -> None:
        v, w, u = self.sources(2, 4, 16), self.random(16), self.random(4, 16, seed=3)
        got = attnres_mix(v, w, update=u)
        self.assertTrue(torch.equal(torch.autograd.grad(got.sum.sum(), u, retain_graph=True)[0],
                                    torch.ones_like(u)))
        self.assertGreater(float(torch.autograd.grad(got.lse.sum(), w)[0].norm()), 0)
        reads, lse = attnres_phase1(v, torch.stack([w, w]))
        alone = torch.autograd.grad(reads[0].sum(), v)
        twice = torch.autograd.grad(attnres_mix(v, w).out.sum(), v)
        for one, other in zip(alone, twice):
            self.assertLessEqual(error(one, other), TOLERANCE[F32])

    def test_views_and_empty_batches(self: Any) -> None:
        wide = self.random(3, 4, 32)
        v = [wide[:, :, ::2], wide[:, :, 16:], wide[0].expand(3, 4, 32)[..., :16]]
        w = self.random(32)[::2]
        got = attnres_mix(v, w)
        same = attnres_mix([t.contiguous() for t in v], w.contiguous())
        self.assertTrue(torch.equal(got.out, same.out))
        got.out.sum().backward()
        self.assertEqual(wide.grad.shape, wide.shape)
        none = self.random(0, 16)
        out = attnres_mix([none, none], self.random(16, seed=2))
        self.assertEqual(out.out.shape, (0, 16))
        row = self.random(16)  # a token without leading axes
        self.assertEqual(attnres_mix([row, row], row).lse.shape, ())

    def test_modes_without_gradients(self: Any) -> None:
        v, w = self.sources(3, 4, 16), self.random(16)
        out = attnres_mix(v, w).out
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                again = attnres_mix(v, w).out
                self.assertTrue(torch.equal(again, out))
                self.assertFalse(again.requires_grad)

    def test_opcheck(self: Any) -> None:
        v, w, u = self.sources(3, 2, 16), self.random(16), self.random(2, 16, seed=3)
        queries = self.random(4, 16)
        reads, lse = (t.detach() for t in attnres_phase1(v, queries))
        one, z = (t[0].clone().requires_grad_() for t in (reads, lse))
        check = torch.library.opcheck
        check(OPS.attnres_mix.default, (v, w))
        check(OPS.attnres_mix.default, (v, w, 1e-5), {"update": u})
        check(OPS.attnres_phase1.default, (v, queries))
        check(OPS.attnres_merge.default, (u, w, one, z))
        check(OPS.attnres_merge.default, (u, w, one, z), {"update": v[0]})
        if self.takes_norms():
            check(OPS.attnres_mix.default, (v, w), {"update": u, "gamma": self.random(16)})
            check(OPS.attnres_merge.default, (u, w, one, z), {"gamma": self.random(16)})
        plain = [t.detach() for t in v]
        w, u, one, z = (t.detach() for t in (w, u, one, z))
        check(OPS.attnres_mix_bwd.default, (plain, w, u), {"dlse": z, "dsum": u})
        check(OPS.attnres_phase1_bwd.default, (plain, queries.detach(), reads), {"dlse": lse})
        check(OPS.attnres_merge_bwd.default, (u, w, one, z, u), {"dlse": z, "dsum": u})

    def test_gradcheck(self: Any) -> None:
        v, w, u = self.sources(3, 2, 6), self.random(6, scale=0.5), self.random(2, 6, seed=3)
        self.assertTrue(quiet_gradcheck(
            lambda *t: attnres_mix(t[:3], t[3], 1e-2, update=t[4]), [*v, w, u]))
        queries = self.random(2, 6, scale=0.5)
        self.assertTrue(quiet_gradcheck(
            lambda *t: attnres_phase1(t[:3], t[3], 1e-2), [*v, queries]))
        one, z = (t[0].detach().requires_grad_() for t in attnres_phase1(v, queries))
        self.assertTrue(quiet_gradcheck(
            lambda *t: attnres_merge(*t[:4], 1e-2, update=t[4]), [u, w, one, z, v[0]]))

    def test_compile_keeps_one_graph(self: Any) -> None:
        def reads(v: list[Tensor], w: Tensor, u: Tensor) -> Tensor:
            mixed = attnres_mix(v, w, update=u)
            both, lse = attnres_phase1(v, torch.stack([w, 2 * w]))
            merged = attnres_merge(mixed.sum, w, both[1], lse[1])
            return merged.out * mixed.lse[..., None] + mixed.out

        # The graph as it is, without a code generator: what is tested is that there is one.
        compiled = torch.compile(reads, fullgraph=True, dynamic=True, backend="aot_eager")
        for rows in (3, 5, 8):
            v, u = self.sources(2, rows, 16), self.random(rows, 16, seed=3)
            w = self.random(16, scale=0.5)
            got, expected = compiled(v, w, u), reads(v, w, u)
            self.assertTrue(torch.equal(got, expected))
            for one, other in zip(torch.autograd.grad(got.sum(), [*v, w, u]),
                                  torch.autograd.grad(expected.sum(), [*v, w, u])):
                self.assertLessEqual(error(one, other), 1e-6)

    def test_there_is_no_second_derivative(self: Any) -> None:
        v, w = self.sources(2, 3, 8), self.random(8)
        (dw,) = torch.autograd.grad(attnres_mix(v, w).out.square().sum(), w, create_graph=True)
        with self.assertRaisesRegex(RuntimeError, "attnres_mix_bwd is not implemented"):
            dw.sum().backward()

    def test_what_is_invalid_is_said_in_one_sentence(self: Any) -> None:
        v, w = self.sources(2, 3, 16), self.random(16)
        queries = self.random(4, 16)
        reads, lse = attnres_phase1(v, queries)
        for sentence, attempt in (
            ("mix: sources must be 1 to 128 tensors, not 0", lambda: attnres_mix([], w)),
            ("mix: sources must be 1 to 128 tensors, not 129",
             lambda: attnres_mix(v[:1] * 129, w)),
            ("sources must be [..., D] in float16, bfloat16 or float32",
             lambda: attnres_mix([t.double() for t in v], w)),
            ("every source must be Float [3, 16]", lambda: attnres_mix([v[0], v[1][:2]], w)),
            ("every source must be Float", lambda: attnres_mix([v[0], v[1].half()], w)),
            ("every source must be", lambda: attnres_mix([v[0], v[1].to("meta")], w)),
            ("wt must be Float [16]", lambda: attnres_mix(v, w[:8])),
            ("wt must be float16, bfloat16 or float32", lambda: attnres_mix(v, w.double())),
            ("eps must be above 0", lambda: attnres_mix(v, w, 0.0)),
            ("update must be Float [3, 16]", lambda: attnres_mix(v, w, update=w)),
            ("gamma must be Float [16]", lambda: attnres_mix(v, w, gamma=w.half())),
            ("phase1: wt must be [S, D]", lambda: attnres_phase1(v, w)),
            ("S must be between 1 and 64", lambda: attnres_phase1(v, w.expand(65, 16))),
            ("read must be Float [3, 16]", lambda: attnres_merge(v[0], w, reads, lse[0])),
            ("z must be Float [3]", lambda: attnres_merge(v[0], w, reads[0], lse)),
            ("dout must be Float", lambda: OPS.attnres_mix_bwd(v, w, v[0].half())),
        ):
            with self.subTest(sentence):
                with self.assertRaises(ValueError) as caught:
                    attempt()
                message = str(caught.exception).splitlines()[0]
                self.assertTrue(message.startswith("attnres_"), message)
                self.assertIn(sentence, message)


class Networks:
    """Whole networks, the same tests on a CPU and on a GPU."""

    device = "cpu"

    def model(self, L: int, S: int, width: int = 16, dtype: torch.dtype = F32,
              dropout: float = 0.0, **options: Any) -> BlockRunner:
        torch.manual_seed(7)
        runner = BlockRunner((Mlp(width, dropout) for _ in range(L)), width, block_size=S,
                             **options)
        with torch.no_grad():
            runner.queries.normal_(std=0.5)
        return runner.to(self.device, dtype)

    def embedding(self, *shape: int, dtype: torch.dtype = F32) -> Tensor:
        values = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        return values.to(self.device, dtype).requires_grad_()

    def step(self, runner: BlockRunner, embedding: Tensor) -> list[Tensor]:
        """The output and all gradients."""
        torch.manual_seed(11)
        out = runner(embedding)
        weight = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out).to(out.dtype)
        return [out, *torch.autograd.grad(out, [embedding, *runner.parameters()], weight,
                                          allow_unused=True)]

    def exact(self, runner: BlockRunner, embedding: Tensor) -> list[Tensor]:
        """The same by the plain loop in float64."""
        double = copy.deepcopy(runner).double()
        start = embedding.detach().double().requires_grad_()
        out = network(start, double.queries, list(double.sublayers), runner.block_size)
        weight = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
        weight = weight.to(embedding.dtype).double()
        return [out, *torch.autograd.grad(out, [start, *double.parameters()], weight,
                                          allow_unused=True)]

    SHAPES = ((0, 1), (1, 1), (1, 4), (3, 1), (5, 2), (8, 3), (9, 4))

    def test_values_and_gradients(self: Any) -> None:
        for (L, S), schedule in itertools.product(self.SHAPES, ("auto", "one_shot", "two_phase")):
            with self.subTest(L=L, S=S, schedule=schedule):
                runner = self.model(L, S, schedule=schedule)
                embedding = self.embedding(2, 3, 16)
                wanted = self.exact(runner, embedding)
                for i, (a, b) in enumerate(zip(self.step(runner, embedding), wanted, strict=True)):
                    self.assertLessEqual(error(a, b), 1e-4, f"output or gradient {i}")
                with torch.no_grad():
                    self.assertLessEqual(error(runner(embedding), wanted[0]), 1e-4)
                    runner.queries.mul_(1.1)
                    if L > 1:
                        self.assertGreater(error(runner(embedding), wanted[0]), 1e-4, "too wide")

    def test_16_bit(self: Any) -> None:
        for dtype in (F16, BF16):
            runner = self.model(8, 3, width=64, dtype=dtype)
            embedding = self.embedding(3, 64, dtype=dtype)
            wanted = self.exact(runner, embedding)
            for a, b in zip(self.step(runner, embedding), wanted, strict=True):
                self.assertEqual(a.dtype, dtype)
                self.assertLessEqual(error(a, b), 4 * TOLERANCE[dtype])
            runner.queries.data = runner.queries.data.float()
            self.assertEqual(self.step(runner, embedding)[2].dtype, F32)

    def test_policies_have_the_same_bits(self: Any) -> None:
        for (L, S), schedule in itertools.product(self.SHAPES, ("auto", "one_shot", "two_phase")):
            with self.subTest(L=L, S=S, schedule=schedule):
                steps = []
                for recompute in ("none", "keep_o1", "block"):
                    runner = self.model(L, S, dropout=0.3, schedule=schedule, recompute=recompute)
                    steps.append(self.step(runner, self.embedding(2, 3, 16)))
                    random = torch.cuda if self.device == "cuda" else torch
                    state = random.get_rng_state()
                    torch.manual_seed(11)
                    with torch.no_grad():
                        runner(self.embedding(2, 3, 16))
                    self.assertTrue(torch.equal(random.get_rng_state(), state),
                                    "a backward must not draw random numbers anew")
                for other in steps[1:]:
                    for a, b in zip(steps[0], other, strict=True):
                        self.assertTrue(torch.equal(a, b))

    def test_autocast_is_that_of_the_forward(self: Any) -> None:
        class Cast(Mlp):
            def forward(self, h: Tensor) -> Tensor:
                return super().forward(h).float()

        steps = []
        for recompute in ("none", "block"):
            torch.manual_seed(7)
            runner = BlockRunner([Cast(16) for _ in range(4)], 16, block_size=2,
                                 recompute=recompute).to(self.device)
            embedding = self.embedding(3, 16)
            with torch.autocast(self.device, BF16):
                out = runner(embedding)
            steps.append(torch.autograd.grad(out.sum(), [embedding, *runner.parameters()],
                                             allow_unused=True))
        for a, b in zip(*steps, strict=True):
            self.assertTrue(torch.equal(a, b))

    def test_sublayers_that_hand_on_what_they_read(self: Any) -> None:
        shift = nn.Parameter(self.embedding(3, 16).detach() * 0.1)

        class Shift(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.shift = shift  # shared, and its gradient is that of what is returned

            def forward(self, h: Tensor) -> Tensor:
                return h + self.shift

        queries = self.embedding(6, 16)
        embedding = self.embedding(3, 16)
        sublayers = [nn.Identity(), Shift(), lambda h: h, Shift(), lambda h: torch.ones_like(h)]
        inputs = [embedding, queries, shift]
        double = [t.detach().double().requires_grad_() for t in inputs]
        functions = [lambda h: h, lambda h: h + double[2]] * 2 + [torch.ones_like]
        for size, recompute in itertools.product((1, 2, 5), ("none", "keep_o1", "block")):
            out = attnres_network(embedding, queries, sublayers, block_size=size,
                                  recompute=recompute)
            exact = network(double[0], double[1], functions, size)
            self.assertLessEqual(error(out, exact), 1e-5)
            for a, b in zip(torch.autograd.grad(out.square().sum(), inputs),
                            torch.autograd.grad(exact.square().sum(), double)):
                self.assertLessEqual(error(a, b), 1e-4)

    def test_gradcheck(self: Any) -> None:
        runner = self.model(3, 2, width=4, eps=1e-2)
        embedding = self.embedding(2, 4)
        # The parameters are changed where they lie.
        self.assertTrue(quiet_gradcheck(lambda e, *_: runner(e),
                                        [embedding, *runner.parameters()]))

    def test_the_graph_keeps_what_it_needs(self: Any) -> None:
        runner = self.model(4, 2)
        embedding = self.embedding(3, 16)
        expected = self.step(runner, embedding)[1]
        alive = [p for p in runner.parameters()]
        sublayer = weakref.ref(runner.sublayers[1])
        out = runner(embedding)
        weight = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
        del runner
        gc.collect()
        out.backward(weight)
        self.assertTrue(torch.equal(embedding.grad, expected))
        self.assertIsNotNone(alive[1].grad)
        del out
        gc.collect()
        for _ in range(100):  # the thread of a GPU's backward lets go a moment later
            if sublayer() is not None:
                time.sleep(0.01)
        self.assertIsNone(sublayer(), "a graph that is gone keeps nothing")

    def test_modes_without_gradients(self: Any) -> None:
        runner = self.model(8, 3)
        embedding = self.embedding(3, 16)
        outs = []
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                outs.append(runner(embedding))
        self.assertTrue(torch.equal(*outs))
        self.assertFalse(outs[0].requires_grad)
        for p in runner.parameters():
            p.requires_grad_(False)
        self.assertFalse(runner(embedding.detach()).requires_grad)

    def test_networks_in_networks_and_in_compiled_functions(self: Any) -> None:
        embedding = self.embedding(3, 16)
        torch.manual_seed(7)
        inner = self.model(3, 2)
        runner = BlockRunner([inner, Mlp(16)], 16, block_size=2).to(self.device)
        double = copy.deepcopy(runner).double()
        start = embedding.detach().double().requires_grad_()
        parts = [lambda h: network(h, double.sublayers[0].queries, double.sublayers[0].sublayers,
                                   2), double.sublayers[1]]
        wanted = torch.autograd.grad(network(start, double.queries, parts, 2).sum(),
                                     [start, *double.parameters()])
        compiled = torch.compile(lambda e: runner(e).sum(), backend="aot_eager")
        for function in (lambda e: runner(e).sum(), compiled):
            got = torch.autograd.grad(function(embedding), [embedding, *runner.parameters()])
            for a, b in zip(got, wanted, strict=True):
                self.assertLessEqual(error(a, b), 1e-4)

    def test_one_backward_but_where_all_is_computed_again(self: Any) -> None:
        embedding = self.embedding(3, 16)
        for recompute in ("none", "keep_o1", "block"):
            out = self.model(4, 2, recompute=recompute)(embedding)
            (first,) = torch.autograd.grad(out.sum(), embedding, retain_graph=True)
            if recompute == "block":
                (second,) = torch.autograd.grad(out.sum(), embedding)
                self.assertTrue(torch.equal(first, second))
            else:
                with self.assertRaisesRegex(RuntimeError, "needs recompute='block'"):
                    out.sum().backward()
        out = self.model(4, 2)(embedding)
        with self.assertRaisesRegex(RuntimeError, "no second derivative"):
            torch.autograd.grad(out.sum(), embedding, create_graph=True)

    def test_what_a_sublayer_raises_comes_through(self: Any) -> None:
        calls = []

        def once(h: Tensor) -> Tensor:
            calls.append(h)
            if len(calls) == 2:
                raise KeyError("not again")
            return h * 2

        embedding, queries = self.embedding(3, 16), self.embedding(2, 16)
        out = attnres_network(embedding, queries, [once])
        with self.assertRaisesRegex(KeyError, "not again"):
            out.sum().backward()
        calls[:] = [embedding]
        with self.assertRaisesRegex(KeyError, "not again"):
            attnres_network(embedding, queries, [once])
        with self.assertRaisesRegex(TypeError, "sublayer 0 must return a tensor, not tuple"):
            attnres_network(embedding, queries, [lambda h: (h, h)])  # type: ignore[list-item]

    def test_what_is_invalid_is_said_in_one_sentence(self: Any) -> None:
        embedding, queries = self.embedding(3, 16), self.embedding(3, 16)
        weight = self.embedding(16)
        two = [torch.tanh, torch.tanh]
        plain = embedding.detach()

        def call(e: Tensor = embedding, q: Tensor = queries, sublayers: Any = two,
                 **options: Any) -> Callable[[], Tensor]:
            return lambda: attnres_network(e, q, sublayers, **options)

        for sentence, attempt in (
            ("embedding must be [..., D] in float16", call(embedding.double())),
            ("on a CPU or a GPU, not Float [3, 16] on meta", call(embedding.to("meta"))),
            ("queries must be [L + 1, D] = [3, 16]", call(q=queries[:2])),
            ("queries must be", call(q=queries.double())),
            ("schedule must be one of auto, one_shot, two_phase, not 'best'",
             call(schedule="best")),
            ("recompute must be one of none, keep_o1, block, not 'all'", call(recompute="all")),
            ("S must be between 1 and 64", call(block_size=0)),
            ("eps must be above 0", call(eps=0.0)),
            ("sublayer 1 must return Float [3, 16]", call(sublayers=[torch.tanh, torch.sum])),
            ("sublayer 0 must return", call(sublayers=[torch.Tensor.double, torch.tanh])),
            ("sublayer 1 uses a tensor that has a gradient and is not among its parameters",
             call(sublayers=[torch.tanh, lambda h: h * weight], recompute="none")),
            ("sublayer 0 must not write what it reads",
             call(plain, queries.detach(), [torch.relu_, torch.tanh])),
        ):
            with self.subTest(sentence):
                with self.assertRaises(ValueError) as caught:
                    attempt()
                message = str(caught.exception).splitlines()[0]
                self.assertTrue(message.startswith("attnres_network: "), message)
                self.assertIn(sentence, message)
        out = call(sublayers=[torch.tanh, lambda h: h * weight], recompute="block")()
        with self.assertRaisesRegex(ValueError, "is not among its parameters"):
            out.sum().backward()


class ReadsOnCpu(Reads, unittest.TestCase):
    pass


class NetworksOnCpu(Networks, unittest.TestCase):
    pass


@on_gpu
class ReadsOnGpu(Reads, unittest.TestCase):
    device = "cuda"

    def test_it_runs_on_the_current_stream(self) -> None:
        v, w = self.sources(3, 64, 256), self.random(256)
        expected = attnres_mix(v, w).out
        late = torch.zeros_like(v[0])
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)  # the copy is late: another stream would read zeros
            late.copy_(v[0].detach())
            got = attnres_mix([late, *v[1:]], w).out
        stream.synchronize()
        self.assertTrue(torch.equal(got, expected))

    def test_a_graph_replays_it(self) -> None:
        v, w = [t.detach() for t in self.sources(3, 64, 256)], self.random(256).detach()
        attnres_mix(v, w)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = attnres_mix(v, w).out
        v[0].mul_(2)
        graph.replay()
        self.assertTrue(torch.equal(out, attnres_mix(v, w).out))


@on_gpu
class NetworksOnGpu(Networks, unittest.TestCase):
    device = "cuda"

    def test_no_reads_in_fp32(self) -> None:
        L, S, tokens, width = 24, 8, 4096, 1024
        plane = 2 * tokens * width
        halves = [lambda h: h * 0.5] * L
        embedding = self.embedding(tokens, width, dtype=BF16)
        queries = self.embedding(L + 1, width, dtype=BF16)
        attnres_network(embedding, queries, halves, block_size=S).sum().backward()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out = attnres_network(embedding, queries, halves, block_size=S)
        torch.autograd.grad(out, [embedding, queries], torch.ones_like(out))
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        # Blocks, their gradients, reads and sums of one block, what its sublayers read and return,
        # some planes in passing. The reads of a block in fp32 are 16 planes more.
        self.assertLess(peak, (3 + 4 + S + S - 2 + 2 * S + 8) * plane)


class Shapes(unittest.TestCase):
    def test_meta_tensors_give_shapes_and_types(self) -> None:
        plane = torch.empty(2, 7, 64, dtype=BF16, device="meta")
        w = torch.empty(64, device="meta")
        got = attnres_mix([plane, plane], w, update=plane)
        self.assertEqual([t.shape for t in got], [(2, 7, 64), (2, 7), (2, 7, 64)])
        self.assertEqual([t.dtype for t in got], [BF16, F32, BF16])
        reads, lse = attnres_phase1([plane], w.expand(3, 64))
        self.assertEqual((reads.shape, lse.shape), ((3, 2, 7, 64), (3, 2, 7)))
        merged = attnres_merge(plane, w, plane, lse[0])
        self.assertEqual((merged.out.shape, merged.sum.shape), ((2, 7, 64), (0,)))
        with self.assertRaisesRegex(ValueError, "wt must be"):
            attnres_mix([plane], w[:3])

    def test_queries_begin_as_zeros(self) -> None:
        runner = BlockRunner([nn.Identity()] * 3, 8, dtype=BF16)
        self.assertEqual((runner.queries.shape, runner.queries.dtype), ((4, 8), BF16))
        self.assertEqual(float(runner.queries.detach().abs().sum()), 0)
        self.assertIs(attnbench.BlockRunner, BlockRunner)


if __name__ == "__main__":
    unittest.main()
