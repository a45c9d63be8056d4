// The merge in fp64 on the GPU: the definitions of oracle.cpp, a warp a token's weights, then a thread an
// element.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <optional>
#include <utility>

#include "reference/attnres/merge_device.cuh"
#include "reference/attnres_merge/contract.h"

namespace attn {
namespace {

using namespace attnres;

struct Job {
  AttnResMerge::Tensors tensors;
  std::int64_t tokens;
  std::int64_t D;
  double eps;
  bool updates;
  Merge* merges;  // [t]

  /// b of element i, with its update rounded to b's type as every backend rounds it.
  __device__ double partial(std::int64_t i) const {
    const TensorView& b = tensors.partial;
    const double old = load_element(b.data, b.dtype, i);
    if (!updates) return old;
    const float sum = static_cast<float>(old) + static_cast<float>(load_element(
                                                    tensors.update.data, tensors.update.dtype, i));
    if (b.dtype == DType::kF16) return __half2float(__float2half_rn(sum));
    if (b.dtype == DType::kBF16) return __bfloat162float(__float2bfloat16_rn(sum));
    return sum;
  }
  __device__ double query(std::int64_t d) const {
    return load_element(tensors.wt.data, tensors.wt.dtype, d);
  }
  __device__ double read(std::int64_t i) const {
    return load_element(tensors.read.data, tensors.read.dtype, i);
  }
};

/// Where the outputs go; those that are off stay unwritten.
struct Outputs {
  AnswerWriter out;  // [t, d]
  AnswerWriter lse;  // [t]
  bool has_lse;
  AnswerWriter sum;  // [t, d], with an update
};

/// The weights of token t: a warp each.
__global__ void __launch_bounds__(kOracleThreads) weigh_token(const Job job, const Outputs to) {
  const std::int64_t t = thread_index() / kLanes;
  if (t >= job.tokens) return;
  const double z = load_element(job.tensors.z.data, DType::kF32, t);
  const Merge merge = device::warp_merge(
      job.D, job.eps, [&](std::int64_t d) { return job.query(d); },
      [&](std::int64_t d) { return job.partial(t * job.D + d); }, z);
  if (lane_index() != 0) return;
  job.merges[t] = merge;
  if (to.has_lse) to.lse.set(t, merge.lse, merge.error);
}

/// Element i of the merged tokens.
__global__ void __launch_bounds__(kOracleThreads) merge_element(const Job job, const Outputs to) {
  const std::int64_t i = thread_index();
  if (i >= job.tokens * job.D) return;
  const double b = job.partial(i);
  to.out.set(i, device::mixed(job.merges[i / job.D], job.read(i), b));
  if (job.updates) to.sum.set(i, b, 0);
}

}  // namespace

std::optional<Reference> AttnResMerge::oracle_on_device(const Problem& p, const Tensors& tensors) {
  if (p.has_norm()) return std::nullopt;
  const std::vector<TensorSpec> specs = tensor_specs(p);
  OwnedAnswer answer(specs, specs.size());
  const DeviceArray<Merge> merges(p.tokens());
  const Job job{.tensors = tensors,
                .tokens = p.tokens(),
                .D = p.D,
                .eps = p.eps,
                .updates = p.update == Option::kOn,
                .merges = merges.get()};
  Outputs to{.out = answer.output(0), .lse = {}, .has_lse = p.lse == Option::kOn, .sum = {}};
  if (to.has_lse) to.lse = answer.output(1);
  if (job.updates) to.sum = answer.output(to.has_lse ? 2 : 1);
  if (p.tokens() > 0) {
    weigh_token<<<ctas_for(p.tokens(), kLanes), kOracleThreads>>>(job, to);
    CUDA_CHECK_LAUNCH();
    merge_element<<<ctas_for(p.tokens() * p.D), kOracleThreads>>>(job, to);
    CUDA_CHECK_LAUNCH();
  }
  return std::move(answer).finish();
}

}  // namespace attn
