// Phase 1 in fp64 on the GPU: the definitions of oracle.cpp, a thread an element of the output.
#include <optional>
#include <utility>

#include "reference/attnres/oracle_device.cuh"
#include "reference/attnres_phase1/contract.h"

namespace attn {
namespace {

using namespace attnres;

/// Element d of output [s, t].
__global__ void __launch_bounds__(kOracleThreads) mix(const ReadJob job, const AnswerWriter out) {
  const std::int64_t i = thread_index();
  if (i >= job.S * job.tokens * job.D) return;
  const std::int64_t d = i % job.D;
  const std::int64_t t = i / job.D % job.tokens;
  const std::int64_t ts = t * job.S + i / job.D / job.tokens;
  double mixed = 0;
  double magnitude = 0;
  for (std::int64_t n = 0; n < job.N; ++n) {
    const double p = job.p[ts * job.N + n];
    const double v = job.source(t, n, d);
    mixed += p * v;
    magnitude += p * fabs(v);
  }
  out.set(i, mixed, job.N == 1 ? 0 : 2 * job.lse_error[ts] * magnitude);
}

/// The normaliser [s, t].
__global__ void __launch_bounds__(kOracleThreads)
    normalise(const ReadJob job, const AnswerWriter lse) {
  const std::int64_t i = thread_index();
  if (i >= job.S * job.tokens) return;
  const std::int64_t ts = i % job.tokens * job.S + i / job.tokens;
  lse.set(i, job.lse[ts], job.lse_error[ts]);
}

}  // namespace

std::optional<Reference> AttnResPhase1::oracle_on_device(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  OwnedAnswer answer(specs, specs.size());
  const DeviceRead read(p, tensors.v, tensors.wt);
  if (p.tokens() > 0) {
    mix<<<ctas_for(p.S * p.tokens() * p.D), kOracleThreads>>>(read.job(), answer.output(0));
    CUDA_CHECK_LAUNCH();
    normalise<<<ctas_for(p.S * p.tokens()), kOracleThreads>>>(read.job(), answer.output(1));
    CUDA_CHECK_LAUNCH();
  }
  return std::move(answer).finish();
}

}  // namespace attn
