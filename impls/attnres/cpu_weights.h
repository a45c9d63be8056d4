// The query and the norm's weight of a backward on a CPU, and their gradients, which add up over chunks of
// tokens: rows of fp32 in a workspace that all threads share.
#pragma once

#include "impls/attnres/cpu_rows.h"

namespace attn::attnres {

class CpuWeights {
 public:
  static std::int64_t floats(const PlaneProblem& p) {
    return 2 * (1 + chunk_count(p.tokens())) * p.D;
  }
  CpuWeights(float* base, const PlaneProblem& p) : base_(base), p_(p) {}

  /// `gamma` without data: there is no norm.
  void load(const TensorView& wt, const TensorView& gamma);
  const float* query() const { return base_; }         // [D]
  const float* gamma() const { return base_ + p_.D; }  // [D]

  /// Zeros in a chunk's sums.
  void begin(std::int64_t chunk);
  float* dwt(std::int64_t chunk) { return base_ + (2 + chunk) * p_.D; }  // [D]
  float* dgamma(std::int64_t chunk) { return dwt(chunks() + chunk); }    // [D]

  /// The chunks' sums in order, written or added.
  void store_dwt(const TensorView& to, Store store);
  void store_dgamma(const TensorView& to, Store store);

 private:
  std::int64_t chunks() const { return chunk_count(p_.tokens()); }

  float* base_;
  PlaneProblem p_;
};

}  // namespace attn::attnres
