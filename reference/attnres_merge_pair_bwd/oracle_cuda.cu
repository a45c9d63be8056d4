// The backward of the merge of two reads in fp64 on the GPU: the definitions of oracle.cpp.
#include <optional>
#include <utility>

#include "reference/attnres/merge_device.cuh"
#include "reference/attnres_merge_pair_bwd/contract.h"

namespace attn {
namespace {

using namespace attnres;

struct Job {
  AttnResMergePairBwd::Tensors tensors;
  std::int64_t tokens;
  std::int64_t D;
  bool has_dlse;

  __device__ static double at(const TensorView& tensor, std::int64_t i) {
    return load_element(tensor.data, tensor.dtype, i);
  }
  __device__ PairWeights weights(std::int64_t t) const {
    return device::pair_weights(at(tensors.z_a, t), at(tensors.z_b, t));
  }
};

/// The gradients of token t's normalisers: a warp each.
__global__ void __launch_bounds__(kOracleThreads)
    differentiate(const Job job, const AnswerWriter dz_a, const AnswerWriter dz_b) {
  const std::int64_t t = thread_index() / kLanes;
  if (t >= job.tokens) return;
  const AttnResMergePairBwd::Tensors& in = job.tensors;
  const std::int64_t first = t * job.D;
  const Dot c = warp_dot(
      job.D, [&](std::int64_t d) { return Job::at(in.dout, first + d); },
      [&](std::int64_t d) {
        return Job::at(in.read_b, first + d) - Job::at(in.read_a, first + d);
      });
  if (lane_index() != 0) return;
  const double dlse = job.has_dlse ? Job::at(in.dlse, t) : 0;
  const PairGradient gradient = device::pair_gradient(job.weights(t), c, dlse);
  dz_a.set(t, gradient.dz);
  dz_b.set(t, gradient.dl);
}

/// Element i of the gradients of both reads.
__global__ void __launch_bounds__(kOracleThreads)
    write_elements(const Job job, const AnswerWriter dread_a, const AnswerWriter dread_b) {
  const std::int64_t i = thread_index();
  if (i >= job.tokens * job.D) return;
  const PairWeights weights = job.weights(i / job.D);
  const double dout = Job::at(job.tensors.dout, i);
  dread_a.set(i, device::share(weights, weights.other, dout));
  dread_b.set(i, device::share(weights, weights.a, dout));
}

}  // namespace

std::optional<Reference> AttnResMergePairBwd::oracle_on_device(const Problem& p,
                                                               const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  OwnedAnswer answer(specs, 0);
  const Job job{
      .tensors = tensors, .tokens = p.tokens(), .D = p.D, .has_dlse = p.dlse == Option::kOn};
  if (p.tokens() > 0) {
    differentiate<<<ctas_for(p.tokens(), kLanes), kOracleThreads>>>(job, answer.output(2),
                                                                    answer.output(3));
    CUDA_CHECK_LAUNCH();
    write_elements<<<ctas_for(p.tokens() * p.D), kOracleThreads>>>(job, answer.output(0),
                                                                   answer.output(1));
    CUDA_CHECK_LAUNCH();
  }
  return std::move(answer).finish();
}

}  // namespace attn
