// Reads in fp64 on the GPU: the definitions of mix.cpp, a thread an element of the output.
#include <utility>

#include "reference/attnres/mix.h"
#include "reference/attnres/oracle_device.cuh"

namespace attn::attnres {
namespace {

/// Element d of output [s, t].
__global__ void __launch_bounds__(kOracleThreads)
    mix_element(const ReadJob job, const AnswerWriter out) {
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

Reference read_on_device(const ReadProblem& p,
                         const Planes& v,
                         const TensorView& wt,
                         std::span<const TensorSpec> specs) {
  OwnedAnswer answer(specs, specs.size());
  const DeviceRead read(p, v, wt);
  if (p.tokens() > 0) {
    mix_element<<<ctas_for(p.S * p.tokens() * p.D), kOracleThreads>>>(read.job(), answer.output(0));
    CUDA_CHECK_LAUNCH();
  }
  const bool has_lse = Reference::outputs_of(specs, specs.size()).size() > 1;
  if (has_lse && p.tokens() > 0) {
    normalise<<<ctas_for(p.S * p.tokens()), kOracleThreads>>>(read.job(), answer.output(1));
    CUDA_CHECK_LAUNCH();
  }
  return std::move(answer).finish();
}

}  // namespace attn::attnres
