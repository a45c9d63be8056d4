// The error bounds of the mix and of its backward notice wrong small terms (C5): formulas in fp64, written
// here once more, pass; each with one thing wrong fails in some case of the edge suite.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "harness/host_memory.h"
#include "harness/seed.h"
#include "reference/attnres/read.h"
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_mix_bwd/contract.h"

namespace attn {
namespace {

using attnres::Option;
using attnres::Row;
using attnres::Store;

constexpr double kFewFlops = 2e5;  // keeps all mutants within seconds

enum class Mutant {
  kNone,
  kSumNotRounded,       ///< the updated source is read in fp64
  kUpdateNotRead,       ///< the old last source is mixed
  kHalfWeights,         ///< weights kept in bf16
  kHalfKeys,            ///< v r rounded to bf16, as some published kernels do
  kNoEps,               ///< of the sources' norm
  kBinaryLse,           ///< a logarithm to base 2
  kNormOfExact,         ///< of the row before it is rounded
  kNoNormEps,           ///< of the output's norm
  kNoGamma,             ///< the norm's weight is left out
  kNoRadialTerm,        ///< of a source's norm: - g l r^2 / D v
  kRadialTermOfR,       ///< r in place of r^2
  kMeanOfRounded,       ///< <dout, rounded out> in place of the weights' mean
  kNoDlse,              ///< the normaliser's gradient is dropped
  kNoNormMean,          ///< of the output's norm: - c h
  kNormAlone,           ///< dout beside a norm is dropped
  kGammaInItsGradient,  ///< dgamma of normed in place of h rho
  kLastTokenMissing,    ///< in the gradients of query and weight
  kOverwrites,          ///< what a gradient is added to is lost
};

double rounded(double x, DType dtype) {
  float held = 0;
  store_element(&held, dtype, 0, static_cast<float>(x));
  return load_element(&held, dtype, 0);
}

double product(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += a[d] * b[d];
  return sum;
}

/// One token's read.
struct Read {
  std::vector<Row> v;
  Row r, l, p, out;
  double lse = 0;

  Read(const attnres::SourceProblem& problem, std::vector<Row> sources, const Row& w, Mutant m)
      : v(std::move(sources)), out(w.size(), 0.0) {
    const auto D = static_cast<double>(w.size());
    double sum = 0;
    for (const Row& row : v) {
      const double eps = m == Mutant::kNoEps ? 0 : problem.eps;
      r.push_back(1 / std::sqrt(product(row, row) / D + eps));
      Row key = row;
      for (double& x : key) x *= r.back();
      if (m == Mutant::kHalfKeys)
        for (double& x : key) x = rounded(x, DType::kBF16);
      l.push_back(product(w, key));
      sum += std::exp(l.back());
    }
    lse = m == Mutant::kBinaryLse ? std::log2(sum) : std::log(sum);
    for (std::size_t n = 0; n < v.size(); ++n) {
      p.push_back(std::exp(l[n]) / sum);
      if (m == Mutant::kHalfWeights) p.back() = rounded(p.back(), DType::kBF16);
      for (std::size_t d = 0; d < out.size(); ++d) out[d] += p[n] * v[n][d];
    }
  }
};

/// The output's norm.
struct Norm {
  Row h;
  double rho = 0;

  Norm(const attnres::NormFields& p, DType dtype, const Row& out, Mutant m) : h(out) {
    if (m != Mutant::kNormOfExact)
      for (double& x : h) x = rounded(x, dtype);
    const double eps = m == Mutant::kNoNormEps ? 0 : p.norm_eps;
    rho = 1 / std::sqrt(product(h, h) / static_cast<double>(h.size()) + eps);
  }
};

Row load_weight(const TensorView& view, std::size_t D, bool wanted, Mutant m) {
  return wanted && m != Mutant::kNoGamma ? attnres::load_row(view, 0, 0, 0) : Row(D, 1.0);
}

std::vector<Row> load_rows(const attnres::Planes& v,
                           const attnres::SourceProblem& p,
                           std::int64_t t) {
  std::vector<Row> rows;
  for (std::int64_t n = 0; n < p.N; ++n) rows.push_back(attnres::load_row(v.view(n, p), 0, 0, t));
  return rows;
}

/// Where the next outputs go.
class Writer {
 public:
  explicit Writer(const attnres::Reference& reference)
      : values(reference.value.size()), reference_(reference) {}
  void row(std::size_t output, std::int64_t t, const Row& row) {
    for (std::size_t d = 0; d < row.size(); ++d)
      values[reference_.begin(output) + static_cast<std::size_t>(t) * row.size() + d] = row[d];
  }
  std::vector<double> values;

 private:
  const attnres::Reference& reference_;
};

std::vector<double> answer(const AttnResMix::Problem& p,
                           const AttnResMix::Tensors& in,
                           const attnres::Reference& reference,
                           Mutant m) {
  Writer to(reference);
  const Row w = attnres::load_row(in.wt, 0, 0, 0);
  const Row gamma = load_weight(in.gamma, w.size(), p.has_norm(), m);
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    std::vector<Row> v = load_rows(in.v, p, t);
    Row sum = v.back();
    if (p.update == Option::kOn) {
      const Row update = attnres::load_row(in.update, 0, t / p.T, t % p.T);
      for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += update[d];
      if (m == Mutant::kSumNotRounded) v.back() = sum;
      for (double& x : sum) x = rounded(x, p.dtype);
      if (m != Mutant::kSumNotRounded && m != Mutant::kUpdateNotRead) v.back() = sum;
    }
    const Read read(p, v, w, m);
    std::size_t output = 0;
    if (p.has_out()) to.row(output++, t, read.out);
    if (p.has_norm()) {
      const Norm norm(p, p.out_type(), read.out, m);
      Row normed = norm.h;
      for (std::size_t d = 0; d < normed.size(); ++d) normed[d] *= norm.rho * gamma[d];
      to.row(output++, t, normed);
    }
    if (p.lse == Option::kOn) to.row(output++, t, {read.lse});
    if (p.weights == Option::kOn) to.row(output++, t, read.p);
    if (p.update == Option::kOn) to.row(output, t, sum);
  }
  return to.values;
}

/// Sums over tokens begin with what they are added to.
Row held_row(const TensorView& view, std::size_t D, Store store, Mutant m) {
  return store == Store::kAdd && m != Mutant::kOverwrites ? attnres::load_row(view, 0, 0, 0)
                                                          : Row(D, 0.0);
}

std::vector<double> answer(const AttnResMixBwd::Problem& p,
                           const AttnResMixBwd::Tensors& in,
                           const attnres::Reference& reference,
                           Mutant m) {
  Writer to(reference);
  const Row w = attnres::load_row(in.wt, 0, 0, 0);
  const std::size_t D = w.size();
  const Row gamma = load_weight(in.gamma, D, p.has_norm(), m);
  Row dwt = held_row(in.dwt, D, p.dwt, m);
  Row dgamma = p.has_norm() ? held_row(in.dgamma, D, p.dgamma, m) : Row{};
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const bool counts = m != Mutant::kLastTokenMissing || t + 1 < p.tokens();
    const Read read(p, load_rows(in.v, p, t), w, m);
    Row dout(D, 0.0);
    if (p.has_out() && !(p.has_norm() && m == Mutant::kNormAlone))
      dout = attnres::load_row(in.dout, 0, t / p.T, t % p.T);
    if (p.has_norm()) {
      const Norm norm(p, p.out_type(), read.out, m);
      Row g = attnres::load_row(in.dnormed, 0, t / p.T, t % p.T);
      for (std::size_t d = 0; d < D; ++d) {
        const double extra = m == Mutant::kGammaInItsGradient ? gamma[d] : 1;
        if (counts) dgamma[d] += g[d] * norm.h[d] * norm.rho * extra;
        g[d] *= gamma[d];
      }
      const double c = m == Mutant::kNoNormMean ? 0
                                                : norm.rho * norm.rho * norm.rho *
                                                      product(g, norm.h) / static_cast<double>(D);
      for (std::size_t d = 0; d < D; ++d) dout[d] += norm.rho * g[d] - c * norm.h[d];
    }
    Row mixed = read.out;
    if (m == Mutant::kMeanOfRounded)
      for (double& x : mixed) x = rounded(x, DType::kBF16);
    const double mean = product(dout, mixed);
    const double dlse = p.dlse == Option::kOn && m != Mutant::kNoDlse
                            ? load_element(in.dlse.data, DType::kF32, t)
                            : 0.0;
    for (std::size_t n = 0; n < read.v.size(); ++n) {
      const double c = p.N == 1 ? mean : product(dout, read.v[n]);
      const double g = read.p[n] * (c - mean + dlse);
      const double r = read.r[n];
      double k = g * read.l[n] * r * (m == Mutant::kRadialTermOfR ? 1 : r) / static_cast<double>(D);
      if (m == Mutant::kNoRadialTerm) k = 0;
      const auto plane = static_cast<std::int64_t>(n);
      Row dv(D, 0.0);
      if (p.adds_to(plane) && m != Mutant::kOverwrites)
        dv = attnres::load_row(in.dv.view(plane, p), 0, 0, t);
      for (std::size_t d = 0; d < D; ++d) {
        dv[d] += read.p[n] * dout[d] + g * r * w[d] - k * read.v[n][d];
        if (counts) dwt[d] += g * r * read.v[n][d];
      }
      to.row(0, plane * p.tokens() + t, dv);  // planes follow each other
    }
  }
  const std::size_t outputs = reference.outputs.size();
  to.row(outputs - (p.has_norm() ? 2 : 1), 0, dwt);
  if (p.has_norm()) to.row(outputs - 1, 0, dgamma);
  return to.values;
}

/// Whether an answer, rounded to the outputs' types, is one that a backend in fp32 may give.
template <class Op>
bool passes(const typename Op::Problem& p,
            const attnres::Reference& reference,
            const std::vector<double>& values) {
  for (std::size_t o = 0; o < reference.outputs.size(); ++o) {
    double squares = 0;
    for (std::size_t i = reference.begin(o); i < reference.outputs[o].end; ++i) {
      const double error = rounded(values[i], reference.outputs[o].dtype) - reference.value[i];
      if (!(std::abs(error) <= Op::tolerance(p, reference, i, NumericsClass::kFp32))) return false;
      squares += error * error;
    }
    if (!(std::sqrt(squares) <= attnres::norm_tolerance(reference, o))) return false;
  }
  return true;
}

/// Calls check(problem, tensors, reference) for the small cases of the edge suite.
template <class Op, class Check>
void on_edge_cases(Check&& check) {
  for (const auto& suite : Op::suites()) {
    if (suite.name != "edge") continue;
    for (const auto& one : suite.cases) {
      if (Op::work(one.problem).mma_flops > kFewFlops) continue;
      std::vector<std::vector<std::byte>> storage;
      std::vector<void*> pointers;
      for (const TensorSpec& spec : Op::tensor_specs(one.problem)) {
        storage.emplace_back(spec.storage_bytes() + 4);
        pointers.push_back(storage.back().data());
        if (spec.role != TensorRole::kOutput)
          host::fill_input(spec, pointers.back(), one.family, tensor_key(5, "", spec.label()));
      }
      const typename Op::Tensors tensors = Op::bind(one.problem, pointers);
      check(one.problem, tensors, Op::oracle(one.problem, tensors));
    }
  }
}

template <class Op>
void expect_killed(Mutant first, Mutant last) {
  int cases = 0;
  std::vector<int> killed(static_cast<std::size_t>(last) + 1);
  on_edge_cases<Op>([&](const auto& p, const auto& tensors, const auto& reference) {
    ++cases;
    EXPECT_TRUE(passes<Op>(p, reference, answer(p, tensors, reference, Mutant::kNone))) << cases;
    for (std::size_t m = static_cast<std::size_t>(first); m < killed.size(); ++m)
      killed[m] +=
          !passes<Op>(p, reference, answer(p, tensors, reference, Mutant{static_cast<int>(m)}));
  });
  EXPECT_GT(cases, 30);
  for (std::size_t m = static_cast<std::size_t>(first); m < killed.size(); ++m)
    EXPECT_GT(killed[m], 0) << "mutant " << m;
}

TEST(AttnResMutants, TheMixsBoundKillsThem) {
  expect_killed<AttnResMix>(Mutant::kSumNotRounded, Mutant::kNoGamma);
}

TEST(AttnResMutants, ItsBackwardsBoundKillsThem) {
  expect_killed<AttnResMixBwd>(Mutant::kHalfWeights, Mutant::kNoEps);
  expect_killed<AttnResMixBwd>(Mutant::kNormOfExact, Mutant::kOverwrites);
}

}  // namespace
}  // namespace attn
