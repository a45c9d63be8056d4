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
    const std::int64_t out_heads = p_.H / combined();
    std::vector<double> out(static_cast<std::size_t>(p_.B * out_heads * p_.N));
    lse_.assign(static_cast<std::size_t>(p_.B * p_.H * p_.M),
                -std::numeric_limits<double>::infinity());
    for (const Sequence& sequence : sequences()) {
      now_ = sequence;
      for (std::int64_t h = 0; h < out_heads; ++h) {
        const std::vector<long double> column = combine(h * combined());
        const std::int64_t first = (now_.b * out_heads + h) * p_.N + now_.k_first;
        for (std::size_t n = 0; n < column.size(); ++n)
          out[static_cast<std::size_t>(first) + n] = static_cast<double>(column[n]);
      }
    }
    if (p_.lse == Lse::kOut) out.insert(out.end(), lse_.begin(), lse_.end());
    return out;
  }

 private:
  struct Sequence {
    std::int64_t b = 0, q_first = 0, M = 0, k_first = 0, N = 0;
  };

  std::vector<Sequence> sequences() const {
    std::vector<Sequence> list;
    for (std::size_t i = 0; i + 1 < p_.cu_q.size(); ++i)
      list.push_back(
          {0, p_.cu_q[i], p_.cu_q[i + 1] - p_.cu_q[i], p_.cu_k[i], p_.cu_k[i + 1] - p_.cu_k[i]});
    for (std::int64_t b = 0; b < p_.B && p_.cu_q.empty(); ++b) {
      const auto i = static_cast<std::size_t>(b);
      list.push_back({b, 0, p_.q_len.empty() ? p_.M : p_.q_len[i], 0,
                      p_.kv_len.empty() ? p_.N : p_.kv_len[i]});
    }
    return list;
  }

  std::int64_t combined() const {
    if (p_.heads == Heads::kEach) return 1;
    return p_.heads == Heads::kGroup ? p_.H / p_.key_heads() : p_.H;
  }

  /// Columns of the sequence over the heads [first, first + combined()).
  std::vector<long double> combine(std::int64_t first) {
    std::vector<long double> total(static_cast<std::size_t>(now_.N));
    for (std::int64_t h = first; h < first + combined(); ++h) {
      const std::vector<long double> one = columns(h);
      for (std::size_t n = 0; n < total.size(); ++n)
        total[n] = p_.heads == Heads::kMax ? std::max(total[n], one[n]) : total[n] + one[n];
    }
    for (long double& value : total) value /= p_.heads == Heads::kMean ? p_.H : 1;
    return total;
  }

  bool contributes(std::int64_t m) const {
    const std::int64_t begin = p_.query_begin < 0 ? now_.M + p_.query_begin : p_.query_begin;
    return m >= begin && m < now_.M && (p_.query_end == -1 || m < p_.query_end);
  }

  bool visible(std::int64_t m, std::int64_t n) const {
    if (p_.window >= 0 && n < m + (now_.N - now_.M) - p_.window) return false;
    switch (p_.mask) {
      case Mask::kNone:
        return true;
      case Mask::kCausal:
        return n <= m + (now_.N - now_.M);
      case Mask::kCausalTopLeft:
        return n <= m;
    }
    return false;
  }

  long double score(std::int64_t h, std::int64_t m, std::int64_t n) const {
    const std::int64_t g = h / (p_.H / p_.key_heads());
    long double s = 0;
    for (std::int64_t d = 0; d < p_.D; ++d)
      s += static_cast<long double>(case_.get(t_.q, now_.b, h, now_.q_first + m, d)) *
           case_.get(t_.k, now_.b, g, now_.k_first + n, d);
    const long double root = std::sqrt(static_cast<long double>(p_.D));
    s = std::isnan(p_.scale) ? s / root : s * p_.scale;
    const long double cap = p_.softcap;
    return cap > 0 ? cap * std::tanh(s / cap) : s;
  }

  std::vector<long double> columns(std::int64_t h) {
    const auto keys = static_cast<std::size_t>(now_.N);
    std::vector<long double> total(keys), seen(keys);
    long double contributing = 0;
    for (std::int64_t m = 0; m < now_.M; ++m) {
      if (!contributes(m)) continue;
      ++contributing;
      std::vector<long double> e(keys);
      long double sum = 0;
      for (std::size_t n = 0; n < keys; ++n) {
        if (!visible(m, static_cast<std::int64_t>(n))) continue;
        ++seen[n];
        sum += e[n] = std::exp(score(h, m, static_cast<std::int64_t>(n)));
      }
      const std::int64_t row = (now_.b * p_.H + h) * p_.M + now_.q_first + m;
      lse_[static_cast<std::size_t>(row)] = static_cast<double>(std::log(sum));
      if (p_.lse == Lse::kIn) {
        const float given = case_.get(t_.lse, now_.b, h, now_.q_first + m, 0);
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
  Sequence now_;
  std::vector<double> lse_;  // [B, H, M]
};

}  // namespace attn
