// The backward of the merge in fp64 on the GPU: the definitions of oracle.cpp, a warp a token's
// gradients, then a thread an element.
#include <optional>
#include <utility>

#include "reference/attnres/merge_device.cuh"
#include "reference/attnres_merge_bwd/contract.h"

namespace attn {
namespace {

using namespace attnres;

/// What a token's elements need to know.
struct Token {
  Merge merge;
  Dot dl;  // gradient of the partial sum's logit
};

struct Job {
  AttnResMergeBwd::Tensors tensors;
  std::int64_t tokens;
  std::int64_t D;
  double eps;
  bool has_dlse;
  bool adds;     // the partial sum's gradient
  Token* facts;  // [t]
  Dot* shares;   // [t], what goes to the query: dl r

  __device__ static double at(const TensorView& tensor, std::int64_t i) {
    return load_element(tensor.data, tensor.dtype, i);
  }
};

/// The gradients of token t's logits: a warp each.
__global__ void __launch_bounds__(kOracleThreads)
    differentiate(const Job job, const AnswerWriter dz) {
  const std::int64_t t = thread_index() / kLanes;
  if (t >= job.tokens) return;
  const AttnResMergeBwd::Tensors& in = job.tensors;
  const std::int64_t first = t * job.D;
  const auto partial = [&](std::int64_t d) { return Job::at(in.partial, first + d); };
  const Merge m = device::warp_merge(
      job.D, job.eps, [&](std::int64_t d) { return Job::at(in.wt, d); }, partial, Job::at(in.z, t));
  const Dot c = warp_dot(
      job.D, [&](std::int64_t d) { return Job::at(in.dout, first + d); },
      [&](std::int64_t d) { return partial(d) - Job::at(in.read, first + d); });
  if (lane_index() != 0) return;
  const double dlse = job.has_dlse ? Job::at(in.dlse, t) : 0;
  const PairGradient gradient = device::pair_gradient(m, c, dlse);
  const Dot& dl = gradient.dl;
  job.facts[t].merge = m;
  job.facts[t].dl = dl;
  job.shares[t] = {dl.value * m.r, (dl.error + 4 * kRoundoff * fabs(dl.value)) * m.r};
  dz.set(t, gradient.dz);
}

/// Element i of the gradients of the partial sum and of the read.
__global__ void __launch_bounds__(kOracleThreads)
    write_elements(const Job job, const AnswerWriter dpartial, const AnswerWriter dread) {
  const std::int64_t i = thread_index();
  if (i >= job.tokens * job.D) return;
  const Token& token = job.facts[i / job.D];
  const Merge& m = token.merge;
  const double k = m.l * m.r * m.r / static_cast<double>(job.D);
  const double k_error =
      (m.error + 4 * kRoundoff * fabs(m.l)) * m.r * m.r / static_cast<double>(job.D);
  const double b = Job::at(job.tensors.partial, i);
  const double dout = Job::at(job.tensors.dout, i);
  const double query = m.r * Job::at(job.tensors.wt, i % job.D);
  const double held = job.adds ? Job::at(job.tensors.dpartial, i) : 0;
  const double direct = m.a * dout;
  const double reach = fabs(query) + fabs(k * b);  // of the logit, into b
  const double magnitude = fabs(direct) + fabs(held) + fabs(token.dl.value) * reach;
  dpartial.set(i, held + direct + token.dl.value * (query - k * b),
               m.error * m.other * fabs(direct) + kSmallest * fabs(dout) + token.dl.error * reach +
                   fabs(token.dl.value) * k_error * fabs(b) + 8 * kRoundoff * magnitude);
  dread.set(i, device::share(m, m.other, dout));
}

}  // namespace

std::optional<Reference> AttnResMergeBwd::oracle_on_device(const Problem& p,
                                                           const Tensors& tensors) {
  if (p.has_norm()) return std::nullopt;
  const std::vector<TensorSpec> specs = tensor_specs(p);
  OwnedAnswer answer(specs, 0);
  const DeviceArray<Token> facts(p.tokens());
  const DeviceArray<Dot> shares(p.tokens());
  const Job job{.tensors = tensors,
                .tokens = p.tokens(),
                .D = p.D,
                .eps = p.eps,
                .has_dlse = p.dlse == Option::kOn,
                .adds = p.dpartial == Store::kAdd,
                .facts = facts.get(),
                .shares = shares.get()};
  if (p.tokens() > 0) {
    differentiate<<<ctas_for(p.tokens(), kLanes), kOracleThreads>>>(job, answer.output(2));
    CUDA_CHECK_LAUNCH();
    write_elements<<<ctas_for(p.tokens() * p.D), kOracleThreads>>>(job, answer.output(0),
                                                                   answer.output(1));
    CUDA_CHECK_LAUNCH();
  }
  Planes partial{.data = {}, .stride = p.D, .dtype = p.dtype};
  partial.data[0] = tensors.partial.data;
  write_query_gradient({.v = partial,
                        .tokens = p.tokens(),
                        .N = 1,
                        .S = 1,
                        .D = p.D,
                        .shares = shares.get(),
                        .held = tensors.dwt,
                        .adds = p.dwt == Store::kAdd},
                       answer.output(3));
  return std::move(answer).finish();
}

}  // namespace attn
