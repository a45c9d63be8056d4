// What the fp64 oracles of the family on the GPU share: sums by a warp, the steps of a read over depth,
// the queries' gradient, and an answer that stays on the GPU. The definitions are those of read.h, on
// other code; every array that is indexed by [t, s, n] is dense.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "reference/attnres/contract.h"
#include "reference/attnres/read.h"
#include "reference/device_memory.cuh"

namespace attn::attnres {

inline constexpr int kOracleThreads = 256;  ///< a CTA of every kernel
inline constexpr int kLanes = 32;

/// CTAs that give every one of `count` items a thread, or `lanes` of them.
inline unsigned ctas_for(std::int64_t count, int lanes = 1) {
  return static_cast<unsigned>((count * lanes + kOracleThreads - 1) / kOracleThreads);
}

__device__ inline std::int64_t thread_index() {
  return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % kLanes; }

/// Sum over the 32 lanes, for all of them. All lanes take part.
__device__ inline double warp_sum(double value) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

/// The inner product of a(d) and b(d) over D, by a warp. All lanes take part and get it.
template <class A, class B>
__device__ Dot warp_dot(std::int64_t D, A&& a, B&& b) {
  double sum = 0;
  double squares = 0;
  for (std::int64_t d = lane_index(); d < D; d += kLanes) {
    const double product = a(d) * b(d);
    sum += product;
    squares += product * product;
  }
  sum = warp_sum(sum);
  return {sum, kSumError * (sqrt(warp_sum(squares)) + fabs(sum))};
}

/// (|v|^2 / D + eps)^(-1/2) of v(d), by a warp.
template <class V>
__device__ double warp_reciprocal_rms(std::int64_t D, double eps, V&& v) {
  double squares = 0;
  for (std::int64_t d = lane_index(); d < D; d += kLanes) squares += v(d) * v(d);
  return 1 / sqrt(warp_sum(squares) / static_cast<double>(D) + eps);
}

/// A source's logit from its product with the query.
__device__ inline Logit logit_of(const Dot& product, double r) {
  const double value = r * product.value;
  return {value, r * product.error + kSumError * fabs(value)};
}

/// Values and errors of all written elements in device memory.
struct AnswerWriter {
  double* value;
  float* error;

  __device__ void set(std::int64_t at, double exact, double bound) const {
    value[at] = exact;
    error[at] = static_cast<float>(bound);
  }
  __device__ void set(std::int64_t at, const Dot& x) const { set(at, x.value, x.error); }
};

/// An answer on the GPU while kernels write it. Construction waits for whoever wrote the inputs.
class OwnedAnswer {
 public:
  OwnedAnswer(std::span<const TensorSpec> specs, std::size_t first_gradient);
  /// Of the elements of output `index`.
  AnswerWriter output(std::size_t index) const;
  /// Waits for the kernels.
  Reference finish() &&;

 private:
  struct Storage;

  std::vector<Reference::Output> outputs_;
  std::shared_ptr<Storage> storage_;
};

/// S queries read N sources of every token.
struct ReadJob {
  Planes v;
  TensorView wt;  // [S, D]
  std::int64_t tokens;
  std::int64_t N;
  std::int64_t S;
  std::int64_t D;
  double eps;
  double* r;          // [t, n]
  Logit* logits;      // [t, s, n]
  double* p;          // [t, s, n]
  double* lse;        // [t, s]
  double* lse_error;  // [t, s]

  __device__ double source(std::int64_t t, std::int64_t n, std::int64_t d) const {
    return load_element(v.data[static_cast<std::size_t>(n)], v.dtype, t * v.stride + d);
  }
  __device__ double query(std::int64_t s, std::int64_t d) const {
    return load_element(wt.data, wt.dtype, s * D + d);
  }
};

/// The softmax of every read, from sources and queries.
class DeviceRead {
 public:
  DeviceRead(const ReadProblem& p, const Planes& v, const TensorView& wt);
  const ReadJob& job() const { return job_; }

 private:
  DeviceArray<double> r_, p_, lse_, lse_error_;
  DeviceArray<Logit> logits_;
  ReadJob job_;
};

/// Sums g[t, s, n] v_n[t, d] over n and tokens, with the errors of g: the gradient of S queries [S, D] in
/// order of tokens, added to what `held` holds if it is to be.
struct QueryGradientJob {
  Planes v;
  std::int64_t tokens;
  std::int64_t N;
  std::int64_t S;
  std::int64_t D;
  const Dot* shares;  // [t, s, n]
  TensorView held;    // [S, D], fp32
  bool adds;
};
void write_query_gradient(const QueryGradientJob& job, const AnswerWriter& answer);

}  // namespace attn::attnres
