// Required behaviour at the edges of attention residuals, on every backend that runs here.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "reference/attnres_merge/contract.h"
#include "reference/attnres_merge_bwd/contract.h"
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_mix_bwd/contract.h"
#include "reference/attnres_phase1/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"
#include "tests/op_case.h"

namespace attn {
namespace {

using attnres::OutputNorm;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Calls check(backend, machine) for the operator's backends that run on this machine and take p.
template <class Op, class Check>
void on_every_backend(Check&& check, const typename Op::Problem& p = {}) {
  const Machine machine = find_machine(/*want_gpu=*/true);
  int ran = 0;
  for (const BackendSlot<Op>& slot : Op::backends()) {
    if (!slot.backend) continue;
    if (slot.backend->info.memory == MemorySpace::kDevice && !machine.gpu) continue;
    if (!slot.backend->supports(p, machine.device_for(slot.backend->info))) continue;
    SCOPED_TRACE(std::string(slot.id));
    check(*slot.backend, machine);
    ++ran;
  }
  EXPECT_GE(ran, 2) << "the CPU's backends are in every build";
}

/// A problem of an operator whose output may have a norm.
template <class Op>
typename Op::Problem normed(OutputNorm norm, std::int64_t T, std::int64_t D) {
  typename Op::Problem p;
  p.T = T;
  p.D = D;
  p.norm = norm;
  return p;
}

template <class Problem>
Problem shape(std::int64_t N, std::int64_t S, std::int64_t T, std::int64_t D) {
  Problem p;
  p.N = N;
  p.S = S;
  p.T = T;
  p.D = D;
  return p;
}

TEST(AttnResBackends, OneSourceIsReturnedBitForBit) {
  on_every_backend<AttnResPhase1>([](const auto& backend, const Machine& machine) {
    OpCase<AttnResPhase1> c(shape<AttnResPhase1::Problem>(1, 2, 5, 72));
    c.run(backend, machine);
    const auto v = c.values("v", 0);
    const auto out = c.values("out");
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], v[i % v.size()]) << i;
  });
}

TEST(AttnResBackends, OneSourceGivesItsQueriesNoGradient) {
  on_every_backend<AttnResPhase1Bwd>([](const auto& backend, const Machine& machine) {
    OpCase<AttnResPhase1Bwd> c(shape<AttnResPhase1Bwd::Problem>(1, 3, 5, 72));
    c.run(backend, machine);
    for (const double x : c.values("dwt")) ASSERT_EQ(x, 0);
  });
}

TEST(AttnResBackends, AMixOfOneSourceIsThatSource) {
  auto p = normed<AttnResMix>(OutputNorm::kOff, 5, 72);
  p.N = 1;
  on_every_backend<AttnResMix>(
      [&](const auto& backend, const Machine& machine) {
        OpCase<AttnResMix> c(p);
        c.run(backend, machine);
        EXPECT_EQ(c.values("out"), c.values("v", 0));
      },
      p);
  for (const OutputNorm norm : {OutputNorm::kOff, OutputNorm::kInstead, OutputNorm::kBoth}) {
    auto q = normed<AttnResMixBwd>(norm, 5, 72);
    q.N = 1;
    on_every_backend<AttnResMixBwd>(
        [&](const auto& backend, const Machine& machine) {
          OpCase<AttnResMixBwd> c(q);
          c.run(backend, machine);
          for (const double x : c.values("dwt")) ASSERT_EQ(x, 0);
        },
        q);
  }
}

TEST(AttnResBackends, ANanStaysInItsTokenThroughANorm) {
  const auto expect_one = [](const std::vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(std::isnan(values[i]), i / 40 == 4) << i;
  };
  const auto mix = normed<AttnResMix>(OutputNorm::kInstead, 7, 40);
  on_every_backend<AttnResMix>(
      [&](const auto& backend, const Machine& machine) {
        OpCase<AttnResMix> c(mix);
        c.set("v", 1, 4 * 40 + 3, kNan);
        c.run(backend, machine);
        expect_one(c.values("normed"));
      },
      mix);
  const auto merge = normed<AttnResMergeBwd>(OutputNorm::kBoth, 7, 40);
  on_every_backend<AttnResMergeBwd>(
      [&](const auto& backend, const Machine& machine) {
        OpCase<AttnResMergeBwd> c(merge);
        c.set("dnormed", -1, 4 * 40 + 3, kNan);
        c.run(backend, machine);
        expect_one(c.values("dread"));
        expect_one(c.values("dpartial"));
      },
      merge);
}

TEST(AttnResBackends, ANanStaysInItsToken) {
  on_every_backend<AttnResPhase1>([](const auto& backend, const Machine& machine) {
    OpCase<AttnResPhase1> c(shape<AttnResPhase1::Problem>(3, 2, 7, 40));
    c.set("v", 1, 4 * 40 + 3, kNan);
    c.run(backend, machine);
    const auto out = c.values("out");
    for (std::size_t i = 0; i < out.size(); ++i)
      ASSERT_EQ(std::isnan(out[i]), i / 40 % 7 == 4) << i;
  });
  on_every_backend<AttnResPhase1Bwd>([](const auto& backend, const Machine& machine) {
    OpCase<AttnResPhase1Bwd> c(shape<AttnResPhase1Bwd::Problem>(3, 2, 7, 40));
    c.set("v", 1, 4 * 40 + 3, kNan);
    c.run(backend, machine);
    for (std::int64_t n = 0; n < 3; ++n) {
      const auto dv = c.values("dv", n);
      for (std::size_t i = 0; i < dv.size(); ++i) {
        if (i / 40 != 4) ASSERT_TRUE(std::isfinite(dv[i])) << n << " " << i;
      }
    }
  });
}

TEST(AttnResBackends, ASourceOfZerosHasAFiniteGradient) {
  on_every_backend<AttnResPhase1Bwd>([](const auto& backend, const Machine& machine) {
    OpCase<AttnResPhase1Bwd> c(shape<AttnResPhase1Bwd::Problem>(3, 2, 3, 24));
    c.set_all("v", 1, std::vector<double>(3 * 24, 0.0));
    c.run(backend, machine);
    for (const double x : c.values("dv", 1)) ASSERT_TRUE(std::isfinite(x));
  });
}

TEST(AttnResBackends, AMergeOfDistantLogitsTakesOneSide) {
  on_every_backend<AttnResMerge>([](const auto& backend, const Machine& machine) {
    for (const float z : {1e4f, -1e4f}) {
      AttnResMerge::Problem p;
      p.T = 3;
      p.D = 48;
      p.lse = attnres::Option::kOn;
      OpCase<AttnResMerge> c(p);
      for (std::int64_t t = 0; t < p.T; ++t) c.set("z", -1, t, z);
      c.run(backend, machine);
      EXPECT_EQ(c.values("out"), c.values(z > 0 ? "read" : "partial"));
      for (const double lse : c.values("lse")) EXPECT_TRUE(std::isfinite(lse));
    }
  });
}

/// On the host, where a test may choose where tensors lie.
TEST(AttnResBackends, TheReadsGradientMayTakeItsPlace) {
  const Machine machine = find_machine(/*want_gpu=*/false);
  for (const BackendSlot<AttnResMergeBwd>& slot : AttnResMergeBwd::backends()) {
    if (!slot.backend || slot.backend->info.memory == MemorySpace::kDevice) continue;
    AttnResMergeBwd::Problem p;
    p.T = 7;
    p.D = 40;
    p.dpartial = attnres::Store::kAdd;
    OpCase<AttnResMergeBwd> apart(p);
    OpCase<AttnResMergeBwd> in_place(p);
    apart.run(*slot.backend, machine);
    AttnResMergeBwd::Tensors tensors = in_place.tensors();
    tensors.dread = tensors.read;
    std::vector<std::byte> workspace(
        slot.backend->workspace_bytes ? slot.backend->workspace_bytes(p, machine.cpu) : 0);
    slot.backend->plan(p, tensors, {workspace.data(), workspace.size()}, machine.cpu).enqueue({});
    EXPECT_EQ(in_place.values("read"), apart.values("dread")) << slot.id;
    for (const char* name : {"dpartial", "dz", "dwt"})
      EXPECT_EQ(in_place.values(name), apart.values(name)) << slot.id << " " << name;
  }
}

/// Gradients that add up over tokens, after a run with so many threads.
template <class Op>
std::vector<double> sums(const Backend<Op>& backend,
                         Machine machine,
                         const typename Op::Problem& p,
                         int threads) {
  machine.cpu.threads = threads;
  OpCase<Op> c(p);
  c.run(backend, machine);
  std::vector<double> all = c.values("dwt");
  const std::vector<double> weight = c.values("dgamma");
  all.insert(all.end(), weight.begin(), weight.end());
  return all;
}

TEST(AttnResBackends, SumsOverTokensDoNotDependOnTheThreads) {
  const auto expect_same = []<class Op>(std::type_identity<Op>) {
    const auto p = normed<Op>(OutputNorm::kBoth, 1030, 24);
    on_every_backend<Op>(
        [&](const auto& backend, const Machine& machine) {
          if (!backend.info.deterministic) return;
          const std::vector<double> one = sums<Op>(backend, machine, p, 1);
          EXPECT_EQ(sums<Op>(backend, machine, p, 3), one);
          EXPECT_EQ(sums<Op>(backend, machine, p, 3), one);
        },
        p);
  };
  expect_same(std::type_identity<AttnResMergeBwd>{});
  expect_same(std::type_identity<AttnResMixBwd>{});
}

constexpr std::size_t kPeriod = 61;

/// Sets the named planes to rows that repeat after so many tokens.
template <class Op>
void repeat_tokens(OpCase<Op>& c, const char* name, std::int64_t planes) {
  const auto D = static_cast<std::size_t>(c.problem.D);
  for (std::int64_t n = planes == 1 ? -1 : 0; n < (planes == 1 ? 0 : planes); ++n) {
    std::vector<double> rows = c.values(name, n);
    for (std::size_t i = kPeriod * D; i < rows.size(); ++i) rows[i] = rows[i - kPeriod * D];
    c.set_all(name, n, rows);
  }
}

/// What a token has must not depend on the tokens that a CTA has had before it.
template <class Op>
void expect_repeats(OpCase<Op>& c, const char* name, std::int64_t plane = -1) {
  const std::vector<double> rows = c.values(name, plane);
  const std::size_t row = rows.size() / static_cast<std::size_t>(c.problem.tokens());
  for (std::size_t i = kPeriod * row; i < rows.size(); ++i)
    ASSERT_EQ(rows[i], rows[i - kPeriod * row]) << name << " " << i;
}

/// By backends whose arithmetic of a token does not depend on its place.
bool is_ours(std::string_view id) { return id != "libtorch" && id != "cpu_reference"; }

TEST(AttnResBackends, ManyTokensThatRepeatGiveRowsThatRepeat) {
  // One warp of a cluster's CTA has its columns, or several have.
  for (const auto& [T, D] : {std::pair{12000, 264}, std::pair{4000, 1040}}) {
    auto mix = normed<AttnResMix>(OutputNorm::kBoth, T, D);
    mix.N = 3;
    mix.update = mix.weights = mix.lse = attnres::Option::kOn;
    on_every_backend<AttnResMix>(
        [&](const auto& backend, const Machine& machine) {
          if (!is_ours(backend.info.id)) return;
          OpCase<AttnResMix> c(mix);
          repeat_tokens(c, "v", mix.N);
          repeat_tokens(c, "update", 1);
          c.run(backend, machine);
          for (const char* name : {"out", "normed", "lse", "weights", "sum"})
            expect_repeats(c, name);
        },
        mix);
  }
  auto backward = normed<AttnResMixBwd>(OutputNorm::kBoth, 12000, 264);
  backward.N = 3;
  on_every_backend<AttnResMixBwd>(
      [&](const auto& backend, const Machine& machine) {
        if (!is_ours(backend.info.id)) return;
        OpCase<AttnResMixBwd> c(backward);
        repeat_tokens(c, "v", backward.N);
        repeat_tokens(c, "dout", 1);
        repeat_tokens(c, "dnormed", 1);
        c.run(backend, machine);
        for (std::int64_t n = 0; n < backward.N; ++n) expect_repeats(c, "dv", n);
      },
      backward);
}

TEST(AttnResBackends, NoTokensLeaveGradientsOfWeightsOfZeros) {
  const auto expect_zeros = []<class Op>(std::type_identity<Op>) {
    const auto p = normed<Op>(OutputNorm::kInstead, 0, 24);
    on_every_backend<Op>(
        [&](const auto& backend, const Machine& machine) {
          for (const double x : sums<Op>(backend, machine, p, 1)) ASSERT_EQ(x, 0);
        },
        p);
  };
  expect_zeros(std::type_identity<AttnResMergeBwd>{});
  expect_zeros(std::type_identity<AttnResMixBwd>{});
}

TEST(AttnResBackends, NoTokensLeaveAGradientOfZeros) {
  on_every_backend<AttnResPhase1Bwd>([](const auto& backend, const Machine& machine) {
    OpCase<AttnResPhase1Bwd> c(shape<AttnResPhase1Bwd::Problem>(3, 2, 0, 24));
    c.run(backend, machine);
    for (const double x : c.values("dwt")) ASSERT_EQ(x, 0);
  });
}

}  // namespace
}  // namespace attn
