// Weights of one query and their gradients.
#include "impls/attnres/cpu_weights.h"

#include <algorithm>

namespace attn::attnres {

void CpuWeights::load(const TensorView& wt, const TensorView& gamma) {
  widen_row(base_, wt.data, wt.dtype, p_.D);
  if (gamma.data) widen_row(base_ + p_.D, gamma.data, gamma.dtype, p_.D);
}

void CpuWeights::begin(std::int64_t chunk) {
  std::fill_n(dwt(chunk), p_.D, 0.0f);
  std::fill_n(dgamma(chunk), p_.D, 0.0f);
}

void CpuWeights::store_dwt(const TensorView& to, Store store) {
  sum_chunks(dwt(0), chunks(), p_.D, static_cast<float*>(to.data), store);
}

void CpuWeights::store_dgamma(const TensorView& to, Store store) {
  sum_chunks(dgamma(0), chunks(), p_.D, static_cast<float*>(to.data), store);
}

}  // namespace attn::attnres
