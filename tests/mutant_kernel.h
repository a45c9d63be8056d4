// A column reduction on the host that can be made wrong in one way at a time. It works as the GPU
// kernels do, in two passes over tiles of keys with a running maximum, but in fp64: what the
// checker says against a mutant is then due to the mutation.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/colreduce/contract.h"
#include "tests/mutants.h"

namespace attn {

class MutantKernel {
 public:
  static constexpr std::int64_t kTile = 64;

  /// `workspace`: [N], one head's columns while they are accumulated.
  MutantKernel(const ColReduce::Problem& p,
               const ColReduce::Tensors& tensors,
               double* workspace,
               Mutation mutation)
      : p_(p),
        t_(tensors),
        columns_(workspace),
        mutation_(mutation),
        mask_(mutated_mask()),
        scale_(mutated_scale()),
        is_max_(mutated_is_max()) {
    if (is(Mutation::kRowStrideIgnored)) t_.q.strides[2] = t_.k.strides[2] = p.D;
    const std::int64_t tiles = (p.N + kTile - 1) / kTile;
    if (tiles > 1) odd_begin_ = tiles / 2 * kTile;
    if (is(Mutation::kTileMissing)) odd_times_ = 0;
    if (is(Mutation::kTileTwice)) odd_times_ = 2;
  }

  void run() {
    if (is(Mutation::kOutputUntouched)) return;
    for (std::int64_t b = 0; b < p_.B; ++b) {
      for (std::int64_t h = 0; h < p_.H; ++h) {
        reduce_head(b, h);
        store_head(b, h);
      }
    }
    const std::int64_t outputs = p_.B * p_.H * p_.N;
    if (is(Mutation::kOneNan)) store(outputs / 3, std::numeric_limits<double>::quiet_NaN());
    if (is(Mutation::kOneElementUp)) store(outputs / 2, 1.5 * load(outputs / 2));
  }

 private:
  struct Normaliser {
    double row_max = -std::numeric_limits<double>::infinity();
    double row_sum = 0;
  };

  bool is(Mutation mutation) const { return mutation_ == mutation; }

  AttentionMask mutated_mask() const {
    AttentionMask mask = p_.attention_mask();
    const bool causal = p_.mask == Mask::kCausal;
    const bool top_left = p_.mask == Mask::kCausalTopLeft;
    if ((is(Mutation::kCausalSeesMore) && causal) || (is(Mutation::kTopLeftSeesMore) && top_left))
      ++mask.diagonal;
    if ((is(Mutation::kCausalSeesLess) && causal) || (is(Mutation::kTopLeftSeesLess) && top_left))
      --mask.diagonal;
    return mask;
  }

  double mutated_scale() const {
    if (is(Mutation::kScaleOfPaddedD) && std::isnan(p_.scale))
      return 1 / std::sqrt(static_cast<double>((p_.D + kTile - 1) / kTile * kTile));
    return is(Mutation::kScaleSignLost) ? std::abs(p_.scale_value()) : p_.scale_value();
  }

  bool mutated_is_max() const {
    if (is(Mutation::kSumAsMax)) return p_.reduction != Reduction::kMean;
    return p_.reduction == Reduction::kMax && !is(Mutation::kMaxAsSum);
  }

  std::int64_t key_head(std::int64_t h) const {
    return is(Mutation::kSharingIgnored) ? h % p_.key_heads() : p_.key_head(h);
  }

  /// The head whose tensors stand in for those of head h.
  std::int64_t head_read(std::int64_t h) const {
    return is(Mutation::kHeadsSwapped) && (h ^ 1) < p_.H ? h ^ 1 : h;
  }

  /// The keys of one head as [D, N], so that a row of scores is a sum of contiguous rows.
  void load_keys(std::int64_t b, std::int64_t h) {
    const std::int64_t g = key_head(head_read(h));
    const std::int64_t batch = is(Mutation::kFirstBatchsKeys) ? 0 : b;
    keys_.resize(static_cast<std::size_t>(p_.D * p_.N));
    for (std::int64_t n = 0; n < p_.N; ++n) {
      for (std::int64_t d = 0; d < p_.D; ++d)
        keys_[static_cast<std::size_t>(d * p_.N + n)] =
            load_element(t_.k.data, p_.dtype, t_.k.offset(batch, g, n, d));
    }
  }

  /// Scores of query m with the keys that it sees.
  void fill_scores(std::int64_t b, std::int64_t h, std::int64_t m, std::vector<double>& scores) {
    scores.assign(static_cast<std::size_t>(mask_.key_end(m)), 0);
    // Row 0 stays: the row before it may lie outside the tensor.
    const std::int64_t row = is(Mutation::kRowBefore) ? std::max<std::int64_t>(m - 1, 0) : m;
    for (std::int64_t d = 0; d < p_.D; ++d) {
      const double q = load_element(t_.q.data, p_.dtype, t_.q.offset(b, head_read(h), row, d));
      const double* key = keys_.data() + d * p_.N;
      for (std::size_t n = 0; n < scores.size(); ++n) scores[n] += q * key[n];
      // Tensor cores that accumulate in fp16 round once per 16 products.
      if (is(Mutation::kHalfScores) && d % 16 == 15) {
        for (double& s : scores) s = half(s);
      }
    }
    for (double& s : scores) s *= scale_;
  }

  static double half(double x) { return f16_to_float(float_to_f16(static_cast<float>(x))); }
  static double brain(double x) { return bf16_to_float(float_to_bf16(static_cast<float>(x))); }

  /// How often key n is taken: only one tile may be taken otherwise than once, and never a row's
  /// first, so that no row is left without keys.
  int times(std::int64_t n) const {
    return n >= odd_begin_ && n < odd_begin_ + kTile ? odd_times_ : 1;
  }

  Normaliser normalise(const std::vector<double>& scores) const {
    Normaliser row;
    const auto keys = static_cast<std::int64_t>(scores.size());
    for (std::int64_t begin = 0; begin < keys; begin += kTile) {
      const std::int64_t end = std::min(begin + kTile, keys);
      if (is(Mutation::kLastTileNotNormalised) && begin > 0 && end == keys) break;
      double row_max = row.row_max;
      for (std::int64_t n = begin; n < end; ++n)
        row_max = std::max(row_max, scores[static_cast<std::size_t>(n)]);
      if (is(Mutation::kNoMaximum)) row_max = 0;
      if (!is(Mutation::kNoRescale) && begin > 0) row.row_sum *= std::exp(row.row_max - row_max);
      row.row_max = row_max;
      for (std::int64_t n = begin; n < end; ++n)
        row.row_sum += times(n) * exponential(scores[static_cast<std::size_t>(n)], row_max);
    }
    const std::int64_t padding = (kTile - p_.N % kTile) % kTile;
    if (is(Mutation::kPaddingNormalised) && keys == p_.N)
      row.row_sum += static_cast<double>(padding) * std::exp(-row.row_max);
    return row;
  }

  double exponential(double score, double row_max) const {
    const double e = std::exp(score - row_max);
    return is(Mutation::kNoMaximum) ? static_cast<float>(e) : e;
  }

  double weight(double score, const Normaliser& row) const {
    const double e = exponential(score, row.row_max);
    if (is(Mutation::kBrainWeights)) return brain(e) / row.row_sum;
    return is(Mutation::kHalfWeights) ? half(e / row.row_sum) : e / row.row_sum;
  }

  void add_to_column(std::int64_t n, double p, int times) {
    columns_[n] = is_max_ ? std::max(columns_[n], times * p) : columns_[n] + times * p;
  }

  void reduce_head(std::int64_t b, std::int64_t h) {
    load_keys(b, h);
    const std::int64_t cleared = p_.N - (is(Mutation::kWorkspaceNotCleared) ? 1 : 0);
    std::fill(columns_, columns_ + cleared, 0.0);
    const std::int64_t queries = p_.M - (is(Mutation::kLastQueryLost) ? 1 : 0);
    scores_.resize(static_cast<std::size_t>(queries));
    std::vector<Normaliser> rows(scores_.size());
    for (std::size_t m = 0; m < rows.size(); ++m) {
      fill_scores(b, h, static_cast<std::int64_t>(m), scores_[m]);
      rows[m] = normalise(scores_[m]);
    }
    for (std::size_t m = 0; m < rows.size(); ++m) {
      const bool next = is(Mutation::kNextRowsNormaliser) && m + 1 < rows.size();
      const Normaliser& row = rows[next ? m + 1 : m];
      for (std::size_t n = 0; n < scores_[m].size(); ++n) {
        const auto key = static_cast<std::int64_t>(n);
        add_to_column(key, weight(scores_[m][n], row), times(key));
      }
      if (is(Mutation::kBlindRowUniform) && scores_[m].empty()) {
        for (std::int64_t n = 0; n < p_.N; ++n) add_to_column(n, 1 / static_cast<double>(p_.N), 1);
      }
    }
  }

  double divisor(std::int64_t n) const {
    ColReduce::Problem p = p_;
    if (is(Mutation::kMeanOverAll)) p.mean_over = MeanOver::kAll;
    if (is(Mutation::kMeanOverVisible)) p.mean_over = MeanOver::kVisible;
    return p.divisor(n);
  }

  void store_head(std::int64_t b, std::int64_t h) {
    if (is(Mutation::kAllZero)) std::fill(columns_, columns_ + p_.N, 0.0);
    for (std::int64_t n = 0; n < p_.N; ++n) {
      const bool rounds = is(Mutation::kRoundedBeforeDivision) && divisor(n) > 1;
      columns_[n] = (rounds ? rounded(columns_[n]) : columns_[n]) / divisor(n);
    }
    if (is(Mutation::kConstantMean)) {
      double sum = 0;
      for (std::int64_t n = 0; n < p_.N; ++n) sum += columns_[n];
      std::fill(columns_, columns_ + p_.N, sum / static_cast<double>(p_.N));
    }
    const std::int64_t head = is(Mutation::kBatchAndHeadSwapped) ? h * p_.B + b : b * p_.H + h;
    const std::int64_t written = p_.N - (is(Mutation::kLastColumnUnwritten) ? 1 : 0);
    for (std::int64_t n = 0; n < written; ++n) store(head * p_.N + n, columns_[n]);
  }

  double rounded(double x) const {
    std::uint32_t bits = 0;
    store_element(&bits, p_.out_dtype, 0, static_cast<float>(x));
    return load_element(&bits, p_.out_dtype, 0);
  }

  double load(std::int64_t i) const { return load_element(t_.out.data, p_.out_dtype, i); }

  void store(std::int64_t i, double x) const {
    store_element(t_.out.data, p_.out_dtype, i, static_cast<float>(x));
    if (!is(Mutation::kOutputTruncated) || !(load(i) > x)) return;
    if (p_.out_dtype == DType::kF32) {
      static_cast<float*>(t_.out.data)[i] = std::nextafter(static_cast<float>(x), 0.0f);
    } else {
      --static_cast<std::uint16_t*>(t_.out.data)[i];  // one ulp towards zero: weights are positive
    }
  }

  const ColReduce::Problem& p_;
  ColReduce::Tensors t_;
  double* columns_;
  Mutation mutation_;
  AttentionMask mask_;
  double scale_;
  bool is_max_;
  std::int64_t odd_begin_ = -kTile;  // the tile of keys that is taken odd_times_; none by default
  int odd_times_ = 1;
  std::vector<double> keys_;                 // [D, N]
  std::vector<std::vector<double>> scores_;  // [M] rows of the keys that each query sees
};

}  // namespace attn
