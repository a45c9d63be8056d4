// The network's oracles: gradients against central differences, laws of networks, bounds that notice, and
// what a network refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "reference/attnres_network/contract.h"
#include "reference/attnres_network_bwd/contract.h"
#include "tests/op_case.h"

namespace attn {
namespace {

constexpr float kStep = 0x1p-14f;
constexpr double kDifferencing = 0x1p-20;  // what the step leaves of the third derivative
constexpr float kGrid = 0x1p-10f;          // sums of inputs on it are exact in fp32

template <class Problem>
Problem network(std::int64_t L, std::int64_t S, std::int64_t T, std::int64_t D) {
  Problem p;
  p.L = L;
  p.S = S;
  p.T = T;
  p.D = D;
  p.dtype = DType::kF32;
  return p;
}

template <class Op>
OpCase<Op> case_of(const attnres::NetworkProblem& p) {
  return OpCase<Op>(typename Op::Problem{p});
}

void put_on_grid(OpCase<AttnResNetwork>& c, const char* name) {
  std::vector<double> values = c.values(name);
  for (double& x : values) x = std::round(x / kGrid) * kGrid;
  c.set_all(name, -1, values);
}

std::vector<double> output(const attnres::Reference& r, std::size_t index) {
  return {r.value.begin() + static_cast<std::ptrdiff_t>(r.begin(index)),
          r.value.begin() + static_cast<std::ptrdiff_t>(r.outputs[index].end)};
}

double inner(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// d loss / d (elements [first, first + count) of an input), by steps to both sides.
template <class Loss>
std::vector<double> differences(OpCase<AttnResNetwork>& c,
                                const char* name,
                                std::int64_t first,
                                std::int64_t count,
                                Loss&& loss) {
  std::vector<double> slopes;
  for (std::int64_t at = first; at < first + count; ++at) {
    const float centre = c.get(name, -1, at);
    c.set(name, -1, at, centre + kStep);
    const double upper = c.get(name, -1, at);
    const double above = loss(c);
    c.set(name, -1, at, centre - kStep);
    slopes.push_back((above - loss(c)) / (upper - double{c.get(name, -1, at)}));
    c.set(name, -1, at, centre);
  }
  return slopes;
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], kDifferencing) << what << i;
}

TEST(AttnResNetworkOracle, GradientsMatchCentralDifferences) {
  for (const std::int64_t S : {1, 2, 3, 8}) {
    SCOPED_TRACE("S = " + std::to_string(S));
    const auto p = network<attnres::NetworkProblem>(5, S, 2, 4);
    auto forward = case_of<AttnResNetwork>(p);
    for (const char* name : {"embedding", "updates"}) put_on_grid(forward, name);
    auto backward = case_of<AttnResNetworkBwd>(p);
    const std::vector<double> embedding = forward.values("embedding");
    std::vector<double> blocks = embedding;
    const std::vector<double> sums = output(forward.oracle(), 1);
    blocks.insert(blocks.end(), sums.begin(), sums.end());
    backward.set_all("blocks", -1, blocks);
    backward.set_all("updates", -1, forward.values("updates"));
    backward.set_all("wt", -1, forward.values("wt"));

    const std::vector<double> dreads = backward.values("dreads");
    const std::vector<double> dout = backward.values("dout");
    const auto loss = [&](OpCase<AttnResNetwork>& c) {
      const attnres::Reference r = c.oracle();
      return inner(dreads, output(r, 0)) + inner(dout, output(r, 2));
    };
    const std::int64_t plane = p.tokens() * p.D;
    std::vector<double> expected = differences(forward, "embedding", 0, plane, loss);
    for (std::int64_t n = 1; n <= p.blocks(); ++n) {
      const auto block = differences(forward, "updates", p.query(n, 0) * plane, plane, loss);
      expected.insert(expected.end(), block.begin(), block.end());
    }
    const attnres::Reference gradients = backward.oracle();
    expect_near(output(gradients, 0), expected, "dblocks");
    expect_near(output(gradients, 1), differences(forward, "wt", 0, (p.L + 1) * p.D, loss), "dwt");
  }
}

TEST(AttnResNetworkOracle, TheFirstQueryHasNoGradient) {
  auto c = case_of<AttnResNetworkBwd>(network<attnres::NetworkProblem>(5, 2, 3, 8));
  const std::vector<double> dwt = output(c.oracle(), 1);
  for (std::size_t d = 0; d < 8; ++d) EXPECT_EQ(dwt[d], 0) << d;
  EXPECT_NE(dwt[8], 0);
}

TEST(AttnResNetworkOracle, OneBlockIsAResidualSumWithTheEmbeddingApart) {
  auto c = case_of<AttnResNetwork>(network<attnres::NetworkProblem>(3, 8, 2, 5));
  const std::vector<double> updates = c.values("updates");
  const std::vector<double> sum = output(c.oracle(), 1);
  ASSERT_EQ(sum.size(), 10U);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const auto update = [&](std::size_t s) { return static_cast<float>(updates[10 * s + i]); };
    EXPECT_EQ(sum[i], (update(0) + update(1)) + update(2)) << i;
  }
}

TEST(AttnResNetworkOracle, QueriesOfZerosReadTheMeanOfAllSources) {
  const auto p = network<attnres::NetworkProblem>(4, 2, 1, 3);
  auto c = case_of<AttnResNetwork>(p);
  c.set_all("wt", -1, std::vector<double>(static_cast<std::size_t>((p.L + 1) * p.D), 0.0));
  const std::vector<double> embedding = c.values("embedding");
  const std::vector<double> updates = c.values("updates");
  const attnres::Reference r = c.oracle();
  const std::vector<double> reads = output(r, 0);
  const std::vector<double> blocks = output(r, 1);
  const std::vector<double> out = output(r, 2);
  for (std::size_t d = 0; d < 3; ++d) {
    const auto near = [d](double value, double expected) {
      EXPECT_NEAR(value, expected, 0x1p-44) << d;
    };
    near(reads[d], embedding[d]);
    near(reads[3 + d], (embedding[d] + updates[d]) / 2);
    near(reads[6 + d], (embedding[d] + blocks[d]) / 2);
    near(reads[9 + d], (embedding[d] + blocks[d] + updates[6 + d]) / 3);
    near(out[d], (embedding[d] + blocks[d] + blocks[3 + d]) / 3);
  }
}

/// Whether some element of `other` is further from the reference than a backend's may be.
template <class Op>
bool tells_apart(const typename Op::Problem& p,
                 const attnres::Reference& reference,
                 const attnres::Reference& other) {
  for (std::size_t i = 0; i < reference.value.size(); ++i) {
    if (std::abs(reference.value[i] - other.value[i]) >
        Op::tolerance(p, reference, i, NumericsClass::kFp32))
      return true;
  }
  return false;
}

/// Inputs that are off by a little, or not in their place, are noticed.
template <class Op>
void expect_bounds_notice(const std::vector<const char*>& inputs) {
  auto c = case_of<Op>(network<attnres::NetworkProblem>(6, 3, 4, 32));
  const attnres::Reference reference = c.oracle();
  for (const char* name : inputs) {
    const std::vector<double> before = c.values(name);
    std::vector<double> after = before;
    for (double& x : after) x *= 1 + 0x1p-12;
    c.set_all(name, -1, after);
    EXPECT_TRUE(tells_apart<Op>(c.problem, reference, c.oracle())) << name;
    c.set_all(name, -1, before);
  }
  c.problem.eps = 0x1p-10;
  EXPECT_TRUE(tells_apart<Op>(c.problem, reference, c.oracle())) << "eps";
}

TEST(AttnResNetworkBound, NoticesSmallErrorsForward) {
  expect_bounds_notice<AttnResNetwork>({"embedding", "updates", "wt"});
}

TEST(AttnResNetworkBound, NoticesSmallErrorsBackward) {
  expect_bounds_notice<AttnResNetworkBwd>({"blocks", "updates", "wt", "dout", "dreads"});
}

TEST(AttnResNetworkBound, NoticesAWrongSourceIn16Bits) {
  auto p = network<attnres::NetworkProblem>(7, 3, 3, 64);
  p.dtype = DType::kBF16;
  auto c = case_of<AttnResNetwork>(p);
  const attnres::Reference reference = c.oracle();
  const std::size_t plane = 3 * 64;
  std::vector<double> updates = c.values("updates");
  std::rotate(updates.begin(), updates.begin() + plane, updates.begin() + 2 * plane);
  c.set_all("updates", -1, updates);  // the same sums after two sublayers
  EXPECT_TRUE(tells_apart<AttnResNetwork>(c.problem, reference, c.oracle()));
}

/// Backends of an operator on this machine's main device agree with its oracle, and so with each other.
template <class Op>
void expect_schedules_agree(const typename Op::Problem& p, std::uint64_t seed) {
  const Machine machine = find_machine(/*want_gpu=*/true);
  OpCase<Op> c(p, seed);
  const attnres::Reference reference = c.oracle();
  for (const BackendSlot<Op>& slot : Op::backends()) {
    c.run(*slot.backend, machine);
    std::size_t at = 0;
    for (const TensorSpec& spec : Op::tensor_specs(p)) {
      if (!is_written(spec.role)) continue;
      for (const double x : c.values(spec.name)) {
        ASSERT_LE(std::abs(x - reference.value[at]),
                  Op::tolerance(p, reference, at, NumericsClass::kFp32))
            << slot.id << " " << spec.name << " " << at;
        ++at;
      }
    }
    EXPECT_EQ(at, reference.value.size());
  }
}

TEST(AttnResNetworkBackends, SchedulesStayWithinOneBound) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      auto p = network<attnres::NetworkProblem>(11, 3, 4, 48);
      p.dtype = dtype;
      expect_schedules_agree<AttnResNetwork>(AttnResNetwork::Problem{p}, seed);
      expect_schedules_agree<AttnResNetworkBwd>(AttnResNetworkBwd::Problem{p}, seed);
    }
  }
}

TEST(AttnResNetworkBackends, TheFirstSublayerReadsTheEmbeddingAndHasNoGradient) {
  const Machine machine = find_machine(/*want_gpu=*/true);
  for (const std::size_t i : {0U, 1U, 2U}) {
    auto forward = case_of<AttnResNetwork>(network<attnres::NetworkProblem>(5, 2, 3, 8));
    forward.run(*AttnResNetwork::backends()[i].backend, machine);
    std::vector<double> reads = forward.values("reads");
    reads.resize(24);
    EXPECT_EQ(reads, forward.values("embedding"));
    auto backward = case_of<AttnResNetworkBwd>(network<attnres::NetworkProblem>(5, 2, 3, 8));
    backward.run(*AttnResNetworkBwd::backends()[i].backend, machine);
    for (std::size_t d = 0; d < 8; ++d) EXPECT_EQ(backward.values("dwt")[d], 0);
  }
}

TEST(AttnResNetworkBackends, NoTokensLeaveGradientsOfZeros) {
  const Machine machine = find_machine(/*want_gpu=*/true);
  for (const BackendSlot<AttnResNetworkBwd>& slot : AttnResNetworkBwd::backends()) {
    auto c = case_of<AttnResNetworkBwd>(network<attnres::NetworkProblem>(5, 2, 0, 8));
    c.run(*slot.backend, machine);
    for (const double x : c.values("dwt")) ASSERT_EQ(x, 0) << slot.id;
  }
}

TEST(AttnResNetworkProblem, RefusalsNameTheCondition) {
  const auto reason = [](std::int64_t L, std::int64_t S) {
    return AttnResNetwork::validate(
               AttnResNetwork::Problem{network<attnres::NetworkProblem>(L, S, 2, 4)})
        .reason;
  };
  EXPECT_EQ(reason(0, 1), "");
  EXPECT_EQ(reason(127, 1), "");
  EXPECT_EQ(reason(4, 0), "S must be between 1 and 64");
  EXPECT_EQ(reason(4, 65), "S must be between 1 and 64");
  EXPECT_EQ(reason(-1, 2), "L must be at least 0 and make at most 127 blocks of S");
  EXPECT_EQ(reason(128, 1), "L must be at least 0 and make at most 127 blocks of S");
}

TEST(AttnResNetworkWork, PlanesOfTheHeadline) {
  using attnres::one_shot_planes;
  using attnres::two_phase_planes;
  EXPECT_EQ(two_phase_planes(3, 8), 3 + 6 * 8 - 4);
  EXPECT_EQ(two_phase_planes(3, 1), 4);
  EXPECT_EQ(one_shot_planes(2, 8), two_phase_planes(2, 8));  // the tie
  EXPECT_LT(one_shot_planes(1, 8), two_phase_planes(1, 8));
  EXPECT_LT(attnres::one_shot_gradient_planes(1, 8), attnres::two_phase_gradient_planes(1, 8));
  EXPECT_GT(attnres::one_shot_gradient_planes(2, 8), attnres::two_phase_gradient_planes(2, 8));
  AttnResNetwork::Problem p;
  p.T = 1;
  const double plane = static_cast<double>(p.D) * 2;
  const double queries = 33 * plane;
  EXPECT_EQ(AttnResNetwork::work(p).bytes, (36 + 46 + 47 + 48 + 6) * plane + queries);
}

}  // namespace
}  // namespace attn
