// Small kernels beside the big ones: queries as split fp32 rows, and the sum of the CTAs' shares of the
// queries' gradient in a fixed order.
#pragma once

#include <cuda_runtime.h>

#include "impls/attnres/read_kernel.cuh"

namespace attn::attnres {

/// to [count, 2, groups, 4] = the queries in fp32, with zeros behind the last one.
void enqueue_split(const ReadArguments& p, int count, float* to, cudaStream_t stream);

/// dwt [S, D] = the sum over `count` of partials [count, S, 2, groups, 4], split rows, in an order that
/// depends on `count` alone; added to what dwt holds, or in its place.
void enqueue_sum(const float* partials,
                 int count,
                 std::int64_t S,
                 std::int64_t D,
                 Store store,
                 float* dwt,
                 cudaStream_t stream);

/// The sums of the CTAs' shares of one query's gradient and, where there is a norm, of its weight's.
template <class Problem, class Tensors>
void enqueue_sums(const Problem& p,
                  const Tensors& t,
                  const float* dwt,
                  const float* dgamma,
                  int count,
                  cudaStream_t stream) {
  enqueue_sum(dwt, count, 1, p.D, p.dwt, static_cast<float*>(t.dwt.data), stream);
  if (p.has_norm())
    enqueue_sum(dgamma, count, 1, p.D, p.dgamma, static_cast<float*>(t.dgamma.data), stream);
}

}  // namespace attn::attnres
