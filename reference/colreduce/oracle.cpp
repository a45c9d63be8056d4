// The fp64 oracle on the CPU: two passes with the exact row maximum, one head at a time.
// Slow and obvious; it shares nothing with a backend but the definition of the mask.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
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

float given_lse(const ColReduce::Tensors& tensors, std::int64_t b, std::int64_t h, std::int64_t m) {
  return load_element(tensors.lse.data, tensors.lse.dtype, tensors.lse.offset(b, h, m));
}

/// Scores of one query with the keys that it sees, from key `first` on.
struct Scores {
  std::int64_t first = 0;
  std::vector<double> values;
};

/// One query's softmax and how far a correct fp32 backend may be from it.
struct Row {
  double origin = 0;                                     ///< p = exp(s - origin) / sum
  double sum = std::numeric_limits<double>::infinity();  ///< infinite where the query has no weight
  double per_key = 0;                                    ///< error of a score per unit |k_j|
  double drift = 0;                                      ///< the part of rel_ij without j
  double mean_score = 0;                                 ///< sum_k p_ik |s_ik|

  double weight(double score) const { return std::exp(score - origin) / sum; }
  double lse() const {
    return std::isinf(sum) ? -std::numeric_limits<double>::infinity() : origin + std::log(sum);
  }
};

/// Everything that the queries of one head share.
struct Head {
  const ColReduce::Problem& p;
  HeadRows q;
  HeadRows k;
  AttentionMask mask;
  double longest_key;

  Head(const ColReduce::Problem& problem,
       const ColReduce::Tensors& tensors,
       std::int64_t b,
       std::int64_t h)
      : p(problem),
        q(tensors.q, b, h),
        k(tensors.k, b, problem.key_head(h)),
        mask(problem.attention_mask()),
        longest_key(*std::max_element(k.norms.begin(), k.norms.end())) {}

  Scores scores(std::int64_t m) const {
    Scores scores{mask.key_begin(m), {}};
    for (std::int64_t n = scores.first; n < mask.key_end(m); ++n)
      scores.values.push_back(capped(p.scale_value() * dot(q.row(m), k.row(n), p.D), p.softcap));
    return scores;
  }

  /// Errors of the scores of query m: the part of its row, and the part per unit of |k_j|.
  Row measured(std::int64_t m) const {
    const double reach = std::abs(p.scale_value()) * q.norms[static_cast<std::size_t>(m)];
    const double largest = reach * longest_key;  // no score of the row is larger
    Row row;
    row.per_key = kWalk * std::sqrt(static_cast<double>(p.D)) * 2 * kU * reach;
    row.drift = 4 * kU * largest + 8 * kU * std::min(p.softcap, largest) + 8 * kU;
    return row;
  }

  /// The softmax of query m over its scores.
  Row normalised(std::int64_t m, const Scores& scores) const {
    double row_max = -std::numeric_limits<double>::infinity();
    bool poisoned = false;
    for (const double s : scores.values) {
      poisoned = poisoned || std::isnan(s);
      row_max = std::max(row_max, s);
    }
    if (row_max == -std::numeric_limits<double>::infinity() && !poisoned) return {};  // no weight
    Row row = measured(m);
    row.origin = row_max;
    row.sum = 0;
    for (const double s : scores.values) row.sum += std::exp(s - row_max);
    double mean_norm = 0;  // sum_k p_ik |k_k|
    for (std::size_t i = 0; i < scores.values.size(); ++i) {
      const double weight = row.weight(scores.values[i]);
      mean_norm += weight * k.norms[static_cast<std::size_t>(scores.first) + i];
      row.mean_score += weight == 0 ? 0 : weight * std::abs(scores.values[i]);
    }
    // The normaliser has the errors of its terms, whose row part counts once more.
    row.drift += row.drift - 8 * kU + row.per_key * mean_norm +
                 kWalk * std::sqrt(static_cast<double>(k.rows)) * kU;
    return row;
  }

  /// The weights of query m under a normaliser that was given.
  Row given(std::int64_t m, float lse) const {
    if (std::isinf(lse)) return {};  // no weight
    Row row = measured(m);
    row.origin = lse;
    row.sum = 1;
    row.drift += 4 * kU * std::abs(static_cast<double>(lse));
    return row;
  }

  /// Adds a query to the columns.
  void reduce(const Scores& scores, const Row& row, Columns& columns) const {
    if (std::isinf(row.sum)) return;
    const bool is_max = p.reduction == Reduction::kMax;
    for (std::size_t i = 0; i < scores.values.size(); ++i) {
      const std::size_t n = static_cast<std::size_t>(scores.first) + i;
      const double weight = row.weight(scores.values[i]);
      const double magnitude = weight == 0 ? 0 : std::abs(scores.values[i]) + row.mean_score;
      reduce_into(columns.value[n], weight, is_max);
      reduce_into(columns.drift[n], weight * (row.per_key * k.norms[n] + row.drift), is_max);
      reduce_into(columns.stored[n], weight * magnitude, is_max);
      reduce_into(columns.square[n], weight * weight, is_max);
    }
  }
};

using Reference = ColReduce::Reference;

/// The answer of a problem that is not ragged.
Reference answer(const ColReduce::Problem& p, const ColReduce::Tensors& tensors) {
  const std::int64_t heads = p.B * p.H;
  const std::int64_t outputs = heads * p.N;
  Reference reference = Reference::of_columns(p);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t bh = 0; bh < heads; ++bh) {
    const Head head(p, tensors, bh / p.H, bh % p.H);
    Columns columns(static_cast<std::size_t>(p.N));
    const RowRange queries = p.contributing();
    for (std::int64_t m = 0; m < p.M; ++m) {
      const bool contributes = m >= queries.begin && m < queries.end;
      const Scores scores = contributes ? head.scores(m) : Scores{};
      const Row row = !contributes        ? Row{}
                      : p.lse == Lse::kIn ? head.given(m, given_lse(tensors, bh / p.H, bh % p.H, m))
                                          : head.normalised(m, scores);
      head.reduce(scores, row, columns);
      if (p.lse == Lse::kOut)
        reference.set_lse(static_cast<std::size_t>(outputs + bh * p.M + m), row.lse(), row.drift,
                          row.mean_score);
    }
    for (std::int64_t n = 0; n < p.N; ++n) {
      const auto from = static_cast<std::size_t>(n);
      const auto to = static_cast<std::size_t>(bh * p.N + n);
      reference.value[to] = columns.value[from];
      reference.drift[to] = static_cast<float>(columns.drift[from]);
      reference.stored[to] = static_cast<float>(columns.stored[from]);
      reference.square[to] = static_cast<float>(columns.square[from]);
    }
  }
  return Reference::of_heads(p, std::move(reference));
}

/// Writes the lse of a problem that is not ragged, of its contributing queries.
void write_lse(const ColReduce::Problem& p, const ColReduce::Tensors& tensors) {
  const RowRange queries = p.contributing();
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t bh = 0; bh < p.B * p.H; ++bh) {
    const Head head(p, tensors, bh / p.H, bh % p.H);
    for (std::int64_t m = queries.begin; m < queries.end; ++m)
      store_element(tensors.lse.data, tensors.lse.dtype, tensors.lse.offset(bh / p.H, bh % p.H, m),
                    static_cast<float>(head.normalised(m, head.scores(m)).lse()));
  }
}

}  // namespace

ColReduce::Reference ColReduce::oracle(const Problem& p, const Tensors& tensors) {
  if (!p.is_ragged()) return answer(p, tensors);
  Reference reference(p);
  for (const Part& part : parts(p))
    reference.insert(p, part, answer(part.problem, part.slice(tensors)));
  return reference;
}

void ColReduce::write_given(const Problem& p, const Tensors& tensors) {
  if (p.lse != Lse::kIn) return;
  std::fill_n(static_cast<float*>(tensors.lse.data), p.B * p.H * p.M,
              -std::numeric_limits<float>::infinity());
  for (const Part& part : parts(p)) write_lse(part.problem, part.slice(tensors));
}

}  // namespace attn
