// The column reduction as the contract's text says it, in long double and without a maximum: fine for
// small scores, and another formula than the oracle's. Shares nothing with reference/ but the fields.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/host_case.h"

namespace attn {

class DirectFormula {
 public:
  explicit DirectFormula(HostCase& c) : case_(c), p_(c.problem), t_(c.tensors()) {}

  /// `out`, in the order of its dense tensor, then an lse that is returned, of [B, H, M].
  std::vector<double> run() {
    std::vector<double> out;
    lse_.clear();
    for (std::int64_t b = 0; b < p_.B; ++b) {
      M_ = p_.q_len.empty() ? p_.M : p_.q_len[static_cast<std::size_t>(b)];
      N_ = p_.kv_len.empty() ? p_.N : p_.kv_len[static_cast<std::size_t>(b)];
      for (std::int64_t first = 0; first < p_.H; first += combined()) {
        const std::vector<long double> column = combine(b, first);
        for (const long double value : column) out.push_back(static_cast<double>(value));
      }
    }
    if (p_.lse == Lse::kOut) out.insert(out.end(), lse_.begin(), lse_.end());
    return out;
  }

 private:
  std::int64_t combined() const {
    if (p_.heads == Heads::kEach) return 1;
    return p_.heads == Heads::kGroup ? p_.H / p_.key_heads() : p_.H;
  }

  /// Columns over the heads [first, first + combined()).
  std::vector<long double> combine(std::int64_t b, std::int64_t first) {
    std::vector<long double> total(static_cast<std::size_t>(p_.N));
    for (std::int64_t h = first; h < first + combined(); ++h) {
      const std::vector<long double> one = columns(b, h);
      for (std::size_t n = 0; n < total.size(); ++n)
        total[n] = p_.heads == Heads::kMax ? std::max(total[n], one[n]) : total[n] + one[n];
    }
    for (long double& value : total) value /= p_.heads == Heads::kMean ? p_.H : 1;
    return total;
  }

  bool contributes(std::int64_t m) const {
    const std::int64_t begin = p_.query_begin < 0 ? M_ + p_.query_begin : p_.query_begin;
    return m >= begin && m < M_ && (p_.query_end == -1 || m < p_.query_end);
  }

  bool visible(std::int64_t m, std::int64_t n) const {
    if (n >= N_ || (p_.window >= 0 && n < m + (N_ - M_) - p_.window)) return false;
    switch (p_.mask) {
      case Mask::kNone:
        return true;
      case Mask::kCausal:
        return n <= m + (N_ - M_);
      case Mask::kCausalTopLeft:
        return n <= m;
    }
    return false;
  }

  long double score(std::int64_t b, std::int64_t h, std::int64_t m, std::int64_t n) const {
    const std::int64_t g = h / (p_.H / p_.key_heads());
    long double s = 0;
    for (std::int64_t d = 0; d < p_.D; ++d)
      s += static_cast<long double>(case_.get(t_.q, b, h, m, d)) * case_.get(t_.k, b, g, n, d);
    const long double root = std::sqrt(static_cast<long double>(p_.D));
    s = std::isnan(p_.scale) ? s / root : s * p_.scale;
    const long double cap = p_.softcap;
    return cap > 0 ? cap * std::tanh(s / cap) : s;
  }

  std::vector<long double> columns(std::int64_t b, std::int64_t h) {
    const auto keys = static_cast<std::size_t>(p_.N);
    std::vector<long double> total(keys), seen(keys);
    long double contributing = 0;
    for (std::int64_t m = 0; m < p_.M; ++m) {
      if (!contributes(m)) {
        lse_.push_back(-std::numeric_limits<double>::infinity());
        continue;
      }
      ++contributing;
      std::vector<long double> e(keys);
      long double sum = 0;
      for (std::size_t n = 0; n < keys; ++n) {
        if (!visible(m, static_cast<std::int64_t>(n))) continue;
        ++seen[n];
        sum += e[n] = std::exp(score(b, h, m, static_cast<std::int64_t>(n)));
      }
      lse_.push_back(static_cast<double>(std::log(sum)));
      if (p_.lse == Lse::kIn) {
        const float given = case_.get(t_.lse, b, h, m, 0);
        sum = std::isinf(given) ? 0 : std::exp(static_cast<long double>(given));
      }
      for (std::size_t n = 0; n < keys && sum > 0; ++n) {
        const long double weight = e[n] / sum;
        total[n] = p_.reduction == Reduction::kMax ? std::max(total[n], weight) : total[n] + weight;
      }
    }
    for (std::size_t n = 0; n < keys && p_.reduction == Reduction::kMean; ++n) {
      const long double over = p_.mean_over == MeanOver::kAll ? contributing : seen[n];
      if (over > 0) total[n] /= over;
    }
    return total;
  }

  HostCase& case_;
  const ColReduce::Problem& p_;
  ColReduce::Tensors t_;
  std::int64_t M_ = 0;  // of the sequence
  std::int64_t N_ = 0;
  std::vector<double> lse_;  // [B, H, M]
};

}  // namespace attn
