// The fp64 oracle on the CPU: two passes with the exact row maximum, one head at a time.
// Slow and obvious; it shares nothing with a backend but the definition of the mask.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/colreduce/contract.h"

namespace attn {
namespace {

constexpr double kU = 0x1p-24;  // fp32 unit roundoff, of which every error bound is made
constexpr double kWalk = 4;

/// Rows of one head as fp64 [rows, D], and their norms.
struct HeadRows {
  HeadRows(const TensorView& tensor, std::int64_t b, std::int64_t h)
      : rows(tensor.shape[2]), D(tensor.shape[3]) {
    values.resize(static_cast<std::size_t>(rows * D));
    norms.resize(static_cast<std::size_t>(rows));
    for (std::int64_t r = 0; r < rows; ++r) {
      double square = 0;
      for (std::int64_t d = 0; d < D; ++d) {
        const double x = load_element(tensor.data, tensor.dtype, tensor.offset(b, h, r, d));
        values[static_cast<std::size_t>(r * D + d)] = x;
        square += x * x;
      }
      norms[static_cast<std::size_t>(r)] = std::sqrt(square);
    }
  }
  const double* row(std::int64_t r) const { return values.data() + r * D; }

  std::int64_t rows;
  std::int64_t D;
  std::vector<double> values;
  std::vector<double> norms;
};

double dot(const double* a, const double* b, std::int64_t D) {
  double sum = 0;
  for (std::int64_t d = 0; d < D; ++d) sum += a[d] * b[d];
  return sum;
}

double capped(double score, double softcap) {
  return softcap > 0 ? softcap * std::tanh(score / softcap) : score;
}

/// Sums or maxima over the queries of one head, per key; `value` before the division of a mean.
struct Columns {
  explicit Columns(std::size_t N) : value(N), drift(N), stored(N), square(N) {}
  std::vector<double> value, drift, stored, square;
};

void reduce_into(double& total, double term, bool is_max) {
  if (!is_max) {
    total += term;
  } else if (!(term <= total)) {  // NaN enters and stays
    total = std::isnan(total) ? total : term;
  }
}

/// Adds a query, whose scores over its visible keys from `first` on are `scores`, to the columns.
void add_row(const std::vector<double>& scores,
             std::int64_t first,
             double q_norm,
             const HeadRows& k,
             double scale,
             double softcap,
             double longest_key,
             bool is_max,
             Columns& columns) {
  double row_max = -std::numeric_limits<double>::infinity();
  bool poisoned = false;
  for (const double s : scores) {
    poisoned = poisoned || std::isnan(s);
    row_max = std::max(row_max, s);
  }
  if (row_max == -std::numeric_limits<double>::infinity() && !poisoned) return;  // sees nothing

  const double D = static_cast<double>(k.D);
  const double per_key = kWalk * std::sqrt(D) * 2 * kU * scale * q_norm;  // delta per unit |k_j|
  const double reach = scale * q_norm * longest_key;  // no score of the row is larger
  const double per_row = 4 * kU * reach + 8 * kU * std::min(softcap, reach);
  double row_sum = 0;
  for (const double s : scores) row_sum += std::exp(s - row_max);
  double mean_norm = 0;   // sum_k p_ik |k_k|
  double mean_score = 0;  // sum_k p_ik |s_ik|
  const double* norms = k.norms.data() + first;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const double p = std::exp(scores[i] - row_max) / row_sum;
    mean_norm += p * norms[i];
    mean_score += p == 0 ? 0 : p * std::abs(scores[i]);
  }
  const double row_drift = 2 * per_row + per_key * mean_norm + 8 * kU +
                           kWalk * std::sqrt(static_cast<double>(k.rows)) * kU;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const double p = std::exp(scores[i] - row_max) / row_sum;
    const double magnitude = p == 0 ? 0 : std::abs(scores[i]) + mean_score;
    const std::size_t n = static_cast<std::size_t>(first) + i;
    reduce_into(columns.value[n], p, is_max);
    reduce_into(columns.drift[n], p * (per_key * norms[i] + row_drift), is_max);
    reduce_into(columns.stored[n], p * magnitude, is_max);
    reduce_into(columns.square[n], p * p, is_max);
  }
}

Columns reduce_head(const ColReduce::Problem& p, const HeadRows& q, const HeadRows& k) {
  const AttentionMask mask = p.attention_mask();
  const double scale = p.scale_value();
  const bool is_max = p.reduction == Reduction::kMax;
  const double longest_key = *std::max_element(k.norms.begin(), k.norms.end());
  Columns columns(static_cast<std::size_t>(p.N));
  std::vector<double> scores;
  const RowRange rows = p.contributing();
  for (std::int64_t m = rows.begin; m < rows.end; ++m) {
    const std::int64_t first = mask.key_begin(m);
    scores.clear();
    for (std::int64_t n = first; n < mask.key_end(m); ++n)
      scores.push_back(capped(scale * dot(q.row(m), k.row(n), p.D), p.softcap));
    add_row(scores, first, q.norms[static_cast<std::size_t>(m)], k, std::abs(scale), p.softcap,
            longest_key, is_max, columns);
  }
  return columns;
}

}  // namespace

ColReduce::Reference ColReduce::oracle(const Problem& p, const Tensors& tensors) {
  const auto outputs = static_cast<std::size_t>(p.B * p.H * p.N);
  Reference reference{std::vector<double>(outputs), std::vector<float>(outputs),
                      std::vector<float>(outputs), std::vector<float>(outputs)};
  const std::int64_t heads = p.B * p.H;
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t bh = 0; bh < heads; ++bh) {
    const std::int64_t b = bh / p.H;
    const std::int64_t h = bh % p.H;
    const Columns columns =
        reduce_head(p, HeadRows(tensors.q, b, h), HeadRows(tensors.k, b, p.key_head(h)));
    for (std::int64_t n = 0; n < p.N; ++n) {
      const auto from = static_cast<std::size_t>(n);
      const auto to = static_cast<std::size_t>(bh * p.N + n);
      reference.value[to] = columns.value[from] / p.divisor(n);
      reference.drift[to] = static_cast<float>(columns.drift[from]);
      reference.stored[to] = static_cast<float>(columns.stored[from]);
      reference.square[to] = static_cast<float>(columns.square[from]);
    }
  }
  return reference;
}

}  // namespace attn
