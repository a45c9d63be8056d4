// The backward of phase 1 in fp64 on the GPU: the definitions of oracle.cpp. A warp an inner product, a
// thread a softmax's gradient, a thread an element of a source's gradient.
#include <array>
#include <optional>
#include <utility>

#include "reference/attnres/oracle_device.cuh"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {
namespace {

using namespace attnres;

struct Job {
  ReadJob read;
  TensorView dout;  // [S, B, T, D]
  TensorView dlse;  // [S, B, T]; without data: none
  Dot* c;           // [t, s, n], of dout and a source
  Dot* g;           // [t, s, n], of a logit
  Dot* shares;      // [t, s, n], what goes to the query: g r
  Dot* k;           // [t, n], sum over s of g l

  __device__ double gradient(std::int64_t t, std::int64_t s, std::int64_t d) const {
    return load_element(dout.data, dout.dtype, (s * read.tokens + t) * read.D + d);
  }
};

/// Which gradients are added to what their plane holds.
struct Held {
  Planes dv;
  std::array<bool, kMaxSources> adds;
};

/// c of query s and source n of token t: a warp each.
__global__ void __launch_bounds__(kOracleThreads) multiply(const Job job) {
  const ReadJob& read = job.read;
  const std::int64_t i = thread_index() / kLanes;
  if (i >= read.tokens * read.S * read.N) return;
  const std::int64_t n = i % read.N;
  const std::int64_t s = i / read.N % read.S;
  const std::int64_t t = i / read.N / read.S;
  const Dot product = warp_dot(
      read.D, [&](std::int64_t d) { return job.gradient(t, s, d); },
      [&](std::int64_t d) { return read.source(t, n, d); });
  if (lane_index() == 0) job.c[i] = product;
}

/// The logits' gradients of query s of token t: a thread each.
__global__ void __launch_bounds__(kOracleThreads) differentiate(const Job job) {
  const ReadJob& read = job.read;
  const std::int64_t ts = thread_index();
  if (ts >= read.tokens * read.S) return;
  const std::int64_t t = ts / read.S;
  const std::int64_t s = ts % read.S;
  const double dlse =
      job.dlse.data ? load_element(job.dlse.data, DType::kF32, s * read.tokens + t) : 0;
  const Dot* c = job.c + ts * read.N;
  const double* p = read.p + ts * read.N;
  const double weight_error = read.lse_error[ts];
  double mean = 0;
  for (std::int64_t n = 0; n < read.N; ++n) mean += p[n] * c[n].value;
  double mean_error = 0;
  for (std::int64_t n = 0; n < read.N; ++n)
    mean_error += p[n] * (c[n].error + 2 * weight_error * fabs(c[n].value - mean) +
                          4 * kRoundoff * fabs(c[n].value));
  const double lone = read.N == 1 ? 0 : 1;  // of one source, the gradient is exactly dlse
  for (std::int64_t n = 0; n < read.N; ++n) {
    const double g = p[n] * (lone * (c[n].value - mean) + dlse);
    const double error = 2 * weight_error * fabs(g) +
                         lone * p[n] *
                             (c[n].error + mean_error +
                              4 * kRoundoff * (fabs(c[n].value) + fabs(mean) + fabs(dlse)));
    const double r = read.r[t * read.N + n];
    job.g[ts * read.N + n] = {g, error};
    job.shares[ts * read.N + n] = {g * r, (error + 4 * kRoundoff * fabs(g)) * r};
  }
}

/// k of source n of token t: a thread each.
__global__ void __launch_bounds__(kOracleThreads) collect(const Job job) {
  const ReadJob& read = job.read;
  const std::int64_t i = thread_index();
  if (i >= read.tokens * read.N) return;
  const std::int64_t t = i / read.N;
  const std::int64_t n = i % read.N;
  Dot k;
  for (std::int64_t s = 0; s < read.S; ++s) {
    const std::int64_t ts = t * read.S + s;
    const Dot& g = job.g[ts * read.N + n];
    const double l = read.logits[ts * read.N + n].value;
    k.value += g.value * l;
    k.error += g.error * fabs(l) + fabs(g.value) * (read.lse_error[ts] + 8 * kRoundoff * fabs(l));
  }
  job.k[i] = k;
}

/// Element d of the gradient of source n of token t.
__global__ void __launch_bounds__(kOracleThreads)
    write_sources(const Job job, const Held held, const AnswerWriter answer) {
  const ReadJob& read = job.read;
  const std::int64_t i = thread_index();
  if (i >= read.N * read.tokens * read.D) return;
  const std::int64_t d = i % read.D;
  const std::int64_t t = i / read.D % read.tokens;
  const std::int64_t n = i / read.D / read.tokens;
  const double r = read.r[t * read.N + n];
  const Dot k = job.k[t * read.N + n];
  const double scale = r * r / static_cast<double>(read.D);
  const double v = read.source(t, n, d);
  double sum = -k.value * scale * v;
  double magnitude = fabs(sum);
  double error = k.error * scale * fabs(v);
  for (std::int64_t s = 0; s < read.S; ++s) {
    const std::int64_t ts = t * read.S + s;
    const Dot& g = job.g[ts * read.N + n];
    const double direct = read.p[ts * read.N + n] * job.gradient(t, s, d);
    const double through = r * read.query(s, d);
    sum += direct + g.value * through;
    magnitude += fabs(direct) + fabs(g.value * through);
    error += (read.N == 1 ? 0 : 2 * read.lse_error[ts] * fabs(direct)) + g.error * fabs(through);
  }
  if (held.adds[static_cast<std::size_t>(n)]) {
    const double old = load_element(held.dv.data[static_cast<std::size_t>(n)], held.dv.dtype,
                                    t * held.dv.stride + d);
    sum += old;
    magnitude += fabs(old);
  }
  answer.set(i, sum, error + 8 * kRoundoff * magnitude);
}

}  // namespace

std::optional<Reference> AttnResPhase1Bwd::oracle_on_device(const Problem& p,
                                                            const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  OwnedAnswer answer(specs, 0);
  const DeviceRead read(p, tensors.v, tensors.wt);
  const std::int64_t reads = p.tokens() * p.S * p.N;
  const DeviceArray<Dot> c(reads);
  const DeviceArray<Dot> g(reads);
  const DeviceArray<Dot> shares(reads);
  const DeviceArray<Dot> k(p.tokens() * p.N);
  const Job job{.read = read.job(),
                .dout = tensors.dout,
                .dlse = tensors.dlse,
                .c = c.get(),
                .g = g.get(),
                .shares = shares.get(),
                .k = k.get()};
  Held held{.dv = tensors.dv, .adds = {}};
  for (std::int64_t n = 0; n < p.N; ++n) held.adds[static_cast<std::size_t>(n)] = p.adds_to(n);
  if (reads > 0) {
    multiply<<<ctas_for(reads, kLanes), kOracleThreads>>>(job);
    CUDA_CHECK_LAUNCH();
    differentiate<<<ctas_for(p.tokens() * p.S), kOracleThreads>>>(job);
    CUDA_CHECK_LAUNCH();
    collect<<<ctas_for(p.tokens() * p.N), kOracleThreads>>>(job);
    CUDA_CHECK_LAUNCH();
    write_sources<<<ctas_for(p.N * p.tokens() * p.D), kOracleThreads>>>(job, held,
                                                                        answer.output(0));
    CUDA_CHECK_LAUNCH();
  }
  std::size_t last = 0;  // the queries' gradient, behind one output a tensor of planes
  for (const TensorSpec& spec : specs) last += is_written(spec.role) ? 1 : 0;
  write_query_gradient({.v = tensors.v,
                        .tokens = p.tokens(),
                        .N = p.N,
                        .S = p.S,
                        .D = p.D,
                        .shares = shares.get(),
                        .held = tensors.dwt,
                        .adds = p.dwt == Store::kAdd},
                       answer.output(last - 1));
  return std::move(answer).finish();
}

}  // namespace attn
