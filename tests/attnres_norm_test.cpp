// The norm of an output, of the operators that have one: its value, central differences of its gradient,
// and what backends and contracts refuse.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "reference/attnres/output_norm.h"
#include "reference/attnres_merge/contract.h"
#include "reference/attnres_merge_bwd/contract.h"
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_mix_bwd/contract.h"
#include "tests/central_differences.h"
#include "tests/op_case.h"

namespace attn {
namespace {

using attnres::Option;
using attnres::OutputNorm;
using attnres::Row;

// The oracles normalise a row that has been rounded to fp32: a step that is large against it, and what
// the step leaves of the third derivative.
constexpr float kLargeStep = 0x1p-8f;
constexpr double kCoarse = 0x1p-11;

template <class Op>
typename Op::Problem normed(OutputNorm norm) {
  auto p = small<typename Op::Problem>(6);
  p.norm = norm;
  p.norm_eps = 0.25;
  return p;
}

double loss_of(const Row& h, const Row& gamma, const Row& dnormed, double eps) {
  attnres::StoredRow row;
  row.value = h;
  row.error = Row(h.size(), 0.0);
  const Row value = attnres::output_norm(row, gamma, eps).value;
  return inner(dnormed, value.data());
}

TEST(AttnResNorm, ItsGradientMatchesCentralDifferences) {
  const Row h = {0.5, -1.25, 2, 0.125, -0.75};
  const Row gamma = {1, 0.5, -2, 1.5, 0.25};
  const Row dnormed = {-0.5, 1, 0.75, -1.5, 2};
  attnres::StoredRow row;
  row.value = h;
  row.error = Row(h.size(), 0.0);
  const auto gradient = attnres::norm_gradient(row, gamma, dnormed, 0.25);
  for (std::size_t d = 0; d < h.size(); ++d) {
    Row above = h;
    Row below = h;
    above[d] += kStep;
    below[d] -= kStep;
    EXPECT_NEAR(gradient.dh(d).value,
                (loss_of(above, gamma, dnormed, 0.25) - loss_of(below, gamma, dnormed, 0.25)) /
                    (2 * double{kStep}),
                kDifferencing)
        << d;
    Row one(h.size(), 0.0);  // the loss is linear in gamma
    one[d] = 1;
    EXPECT_NEAR(gradient.dgamma(d).value, loss_of(h, one, dnormed, 0.25), kExact) << d;
    double product = 0;
    for (std::size_t i = 0; i < h.size(); ++i) product += gradient.dh(i).value * above[i];
    EXPECT_NEAR(gradient.product(above).value, product, kExact) << d;
  }
}

/// Every gradient of a backward with a norm against differences of its forward.
template <class Forward, class Backward, class Names>
void expect_gradients(OutputNorm norm, std::int64_t planes, const Names& names) {
  auto p = normed<Backward>(norm);
  p.dlse = Option::kOn;
  OpCase<Backward> backward(p);
  const auto gradient = backward.oracle();
  auto q = normed<Forward>(norm);
  q.lse = Option::kOn;
  OpCase<Forward> forward(q);  // the same labels and seed: the same inputs
  const std::vector<double> dout = p.has_out() ? backward.values("dout") : std::vector<double>{};
  const auto dnormed = backward.values("dnormed");
  const auto dlse = backward.values("dlse");
  const auto loss = [&](OpCase<Forward>& c) {
    const auto r = c.oracle();
    const std::size_t rows = p.has_out() ? 1 : 0;
    return inner(dout, r.value.data()) + inner(dnormed, r.value.data() + r.begin(rows)) +
           inner(dlse, r.value.data() + r.begin(rows + 1));
  };
  std::size_t at = 0;
  const auto expect_all = [&](std::string_view name, std::int64_t plane) {
    const auto count = static_cast<std::int64_t>(forward.values(name, plane).size());
    for (std::int64_t i = 0; i < count; ++i, ++at)
      EXPECT_NEAR(gradient.value[at], difference(forward, name, plane, i, loss, kLargeStep),
                  kCoarse)
          << name << plane << " " << i;
  };
  for (std::int64_t n = 0; n < planes; ++n) expect_all("v", n);
  for (const char* name : names) expect_all(name, -1);
  EXPECT_EQ(at, gradient.value.size());
}

TEST(AttnResNorm, GradientsOfTheMixGoThroughIt) {
  for (const OutputNorm norm : {OutputNorm::kInstead, OutputNorm::kBoth})
    expect_gradients<AttnResMix, AttnResMixBwd>(norm, 4, std::vector<const char*>{"wt", "gamma"});
}

TEST(AttnResNorm, GradientsOfTheMergeGoThroughIt) {
  for (const OutputNorm norm : {OutputNorm::kInstead, OutputNorm::kBoth})
    expect_gradients<AttnResMerge, AttnResMergeBwd>(
        norm, 0, std::vector<const char*>{"partial", "read", "z", "wt", "gamma"});
}

/// `instead` writes what `both` writes beside the output, which is that without a norm; and it is the norm
/// of the rounded row.
template <class Op>
void expect_norm_of_output() {
  auto p = normed<Op>(OutputNorm::kBoth);
  p.dtype = DType::kBF16;
  OpCase<Op> both(p);
  const auto reference = both.oracle();
  p.norm = OutputNorm::kInstead;
  EXPECT_EQ(output_of(OpCase<Op>(p).oracle(), 0), output_of(reference, 1));
  p.norm = OutputNorm::kOff;
  const auto out = output_of(reference, 0);
  EXPECT_EQ(output_of(OpCase<Op>(p).oracle(), 0), out);
  const auto gamma = both.values("gamma");
  const auto normed = output_of(reference, 1);
  for (std::size_t t = 0; t < 4; ++t) {
    Row h;
    double squares = 0;
    for (std::size_t d = 0; d < 6; ++d) {
      float stored = 0;
      store_element(&stored, p.dtype, 0, static_cast<float>(out[t * 6 + d]));
      h.push_back(load_element(&stored, p.dtype, 0));
      squares += h.back() * h.back();
    }
    for (std::size_t d = 0; d < 6; ++d)
      EXPECT_NEAR(normed[t * 6 + d], h[d] / std::sqrt(squares / 6 + 0.25) * gamma[d], kExact);
  }
}

TEST(AttnResNorm, IsThatOfTheRoundedOutput) {
  expect_norm_of_output<AttnResMix>();
  expect_norm_of_output<AttnResMerge>();
}

TEST(AttnResNorm, ContractsRefuseAnEpsOfZero) {
  AttnResMerge::Problem p;
  EXPECT_TRUE(AttnResMerge::validate(p));
  p.norm_eps = 0;
  EXPECT_EQ(AttnResMerge::validate(p).reason, "norm_eps must be above 0");
  AttnResMergeBwd::Problem q;
  EXPECT_TRUE(AttnResMergeBwd::validate(q));
  q.norm_eps = -1;
  EXPECT_EQ(AttnResMergeBwd::validate(q).reason, "norm_eps must be above 0");
}

/// Whether fused_simt takes a problem; it has nothing to say in a build without it.
template <class Op, class Change>
bool is_taken(Change&& change) {
  DeviceInfo device;
  device.space = MemorySpace::kDevice;
  device.sm_count = 132;
  device.shared_bytes_per_block = 227 * 1024;
  typename Op::Problem p;
  change(p);
  for (const auto& slot : Op::backends()) {
    if (slot.id == "fused_simt" && slot.backend) return slot.backend->supports(p, device).ok;
  }
  return true;
}

TEST(AttnResNorm, KernelsTakeTheWholeContract) {
  for (const OutputNorm kind : {OutputNorm::kInstead, OutputNorm::kBoth}) {
    const auto norm = [kind](auto& p) { p.norm = kind; };
    EXPECT_TRUE(is_taken<AttnResMerge>(norm));
    EXPECT_TRUE(is_taken<AttnResMergeBwd>(norm));
    EXPECT_TRUE(is_taken<AttnResMix>(norm));
    EXPECT_TRUE(is_taken<AttnResMixBwd>(norm));
  }
  EXPECT_TRUE(is_taken<AttnResMix>([](auto& p) {
    p.update = p.weights = Option::kOn;
    p.N = 128;
    p.D = 16381;
  }));
}

}  // namespace
}  // namespace attn
