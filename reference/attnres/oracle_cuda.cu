// The steps that the family's fp64 oracles on the GPU share: a warp an inner product, a thread a
// softmax, a thread a column of the queries' gradient.
#include <algorithm>
#include <utility>

#include "reference/attnres/oracle_device.cuh"

namespace attn::attnres {
namespace {

constexpr int kSquareCtas = 1024;  // of the sums over a whole output

/// r of source n of token t: a warp each.
__global__ void __launch_bounds__(kOracleThreads) measure_sources(const ReadJob job) {
  const std::int64_t i = thread_index() / kLanes;
  if (i >= job.tokens * job.N) return;
  const std::int64_t t = i / job.N;
  const std::int64_t n = i % job.N;
  const double r =
      warp_reciprocal_rms(job.D, job.eps, [&](std::int64_t d) { return job.source(t, n, d); });
  if (lane_index() == 0) job.r[i] = r;
}

/// The logit of query s and source n of token t: a warp each.
__global__ void __launch_bounds__(kOracleThreads) score(const ReadJob job) {
  const std::int64_t i = thread_index() / kLanes;
  if (i >= job.tokens * job.S * job.N) return;
  const std::int64_t n = i % job.N;
  const std::int64_t s = i / job.N % job.S;
  const std::int64_t t = i / job.N / job.S;
  const Dot product = warp_dot(
      job.D, [&](std::int64_t d) { return job.query(s, d); },
      [&](std::int64_t d) { return job.source(t, n, d); });
  if (lane_index() == 0) job.logits[i] = logit_of(product, job.r[t * job.N + n]);
}

/// The softmax of query s of token t: a thread each.
__global__ void __launch_bounds__(kOracleThreads) weigh(const ReadJob job) {
  const std::int64_t ts = thread_index();
  if (ts >= job.tokens * job.S) return;
  const Logit* logits = job.logits + ts * job.N;
  double largest = -INFINITY;
  double error = 0;
  for (std::int64_t n = 0; n < job.N; ++n) {
    largest = fmax(largest, logits[n].value);
    error = fmax(error, logits[n].error + kSumError * fabs(logits[n].value));
  }
  double sum = 0;
  for (std::int64_t n = 0; n < job.N; ++n) sum += exp(logits[n].value - largest);
  const double lse = largest + log(sum);
  for (std::int64_t n = 0; n < job.N; ++n) job.p[ts * job.N + n] = exp(logits[n].value - lse);
  job.lse[ts] = lse;
  job.lse_error[ts] = error + kSumError;
}

/// Column d of query s over the tokens of one chunk: a thread each, in parts [chunk, s, d].
__global__ void __launch_bounds__(kOracleThreads)
    sum_chunk(const QueryGradientJob job, std::int64_t chunk_tokens, QuerySum* parts) {
  const std::int64_t i = thread_index();
  const std::int64_t first = i / job.D / job.S * chunk_tokens;
  if (first >= job.tokens) return;
  const std::int64_t d = i % job.D;
  const std::int64_t s = i / job.D % job.S;
  const std::int64_t end = min(first + chunk_tokens, job.tokens);
  QuerySum sum;
  for (std::int64_t t = first; t < end; ++t) {
    double contribution = 0;
    double error = 0;
    for (std::int64_t n = 0; n < job.N; ++n) {
      const Dot& share = job.shares[(t * job.S + s) * job.N + n];
      const double v =
          load_element(job.v.data[static_cast<std::size_t>(n)], job.v.dtype, t * job.v.stride + d);
      contribution += share.value * v;
      error += share.error * fabs(v);
    }
    sum.value += contribution;
    sum.drift += error * error;
    sum.square += contribution * contribution;
  }
  parts[i] = sum;
}

/// Column d of query s over all chunks: a thread each.
__global__ void __launch_bounds__(kOracleThreads) sum_chunks(const QueryGradientJob job,
                                                             std::int64_t chunks,
                                                             const QuerySum* parts,
                                                             const AnswerWriter answer) {
  constexpr double kLambda = 4;
  const std::int64_t columns = job.S * job.D;
  const std::int64_t i = thread_index();
  if (i >= columns) return;
  QuerySum sum;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const QuerySum& part = parts[chunk * columns + i];
    sum.value += part.value;
    sum.drift += part.drift;
    sum.square += part.square;
  }
  if (job.adds) {
    const double held = load_element(job.held.data, job.held.dtype, i);
    sum.value += held;
    sum.square += held * held;
  }
  const double steps = sqrt(static_cast<double>(job.tokens)) + 8;
  answer.set(
      i, sum.value,
      kLambda * (sqrt(sum.drift) + kRoundoff * steps * (sqrt(sum.square) + fabs(sum.value))));
}

/// Squares of an output's elements that are no NaN, a part for each CTA.
__global__ void __launch_bounds__(kOracleThreads)
    sum_squares(const AnswerWriter answer, std::int64_t count, Reference::Squares* parts) {
  __shared__ Reference::Squares own[kOracleThreads];
  double values = 0;
  double errors = 0;
  for (std::int64_t i = thread_index(); i < count;
       i += std::int64_t{kSquareCtas} * kOracleThreads) {
    const double value = answer.value[i];
    const double error = answer.error[i];
    if (isnan(value)) continue;
    values += value * value;
    errors += error * error;
  }
  own[threadIdx.x].values = values;
  own[threadIdx.x].errors = errors;
  __syncthreads();  // all threads: their sums are there
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kOracleThreads; ++i) {
    values += own[i].values;
    errors += own[i].errors;
  }
  parts[blockIdx.x].values = values;
  parts[blockIdx.x].errors = errors;
}

}  // namespace

/// The arrays behind a DeviceAnswer.
struct OwnedAnswer::Storage : DeviceAnswer {
  explicit Storage(std::size_t count)
      : values(static_cast<std::int64_t>(count)), errors(static_cast<std::int64_t>(count)) {
    value = values.get();
    error = errors.get();
    elements = count;
  }
  DeviceArray<double> values;
  DeviceArray<float> errors;
};

OwnedAnswer::OwnedAnswer(std::span<const TensorSpec> specs, std::size_t first_gradient)
    : outputs_(Reference::outputs_of(specs, first_gradient)),
      storage_(std::make_shared<Storage>(outputs_.back().end)) {
  CUDA_CHECK(cudaDeviceSynchronize());  // whoever wrote the inputs may have used another stream
}

AnswerWriter OwnedAnswer::output(std::size_t index) const {
  const std::size_t first = index == 0 ? 0 : outputs_[index - 1].end;
  return {storage_->values.get() + first, storage_->errors.get() + first};
}

Reference OwnedAnswer::finish() && {
  std::vector<Reference::Squares> squares(outputs_.size());
  DeviceArray<Reference::Squares> parts(kSquareCtas);
  std::vector<Reference::Squares> on_host(kSquareCtas);
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    if (!outputs_[i].is_gradient) continue;
    const std::size_t first = i == 0 ? 0 : outputs_[i - 1].end;
    sum_squares<<<kSquareCtas, kOracleThreads>>>(
        output(i), static_cast<std::int64_t>(outputs_[i].end - first), parts.get());
    CUDA_CHECK_LAUNCH();
    parts.copy_to(on_host.data(), kSquareCtas);
    for (const Reference::Squares& part : on_host) {
      squares[i].values += part.values;
      squares[i].errors += part.errors;
    }
  }
  CUDA_CHECK(cudaDeviceSynchronize());
  return {std::move(outputs_), std::move(storage_), std::move(squares)};
}

DeviceRead::DeviceRead(const ReadProblem& p, const Planes& v, const TensorView& wt)
    : r_(p.tokens() * p.N),
      p_(p.tokens() * p.S * p.N),
      lse_(p.tokens() * p.S),
      lse_error_(p.tokens() * p.S),
      logits_(p.tokens() * p.S * p.N),
      job_{.v = v,
           .wt = wt,
           .tokens = p.tokens(),
           .N = p.N,
           .S = p.S,
           .D = p.D,
           .eps = p.eps,
           .r = r_.get(),
           .logits = logits_.get(),
           .p = p_.get(),
           .lse = lse_.get(),
           .lse_error = lse_error_.get()} {
  if (p.tokens() == 0) return;
  measure_sources<<<ctas_for(p.tokens() * p.N, kLanes), kOracleThreads>>>(job_);
  CUDA_CHECK_LAUNCH();
  score<<<ctas_for(p.tokens() * p.S * p.N, kLanes), kOracleThreads>>>(job_);
  CUDA_CHECK_LAUNCH();
  weigh<<<ctas_for(p.tokens() * p.S), kOracleThreads>>>(job_);
  CUDA_CHECK_LAUNCH();
}

void write_query_gradient(const QueryGradientJob& job, const AnswerWriter& answer) {
  constexpr std::int64_t kChunkTokens = 256;  // threads enough for a GPU at a few thousand tokens
  const std::int64_t chunks = (job.tokens + kChunkTokens - 1) / kChunkTokens;
  const std::int64_t columns = job.S * job.D;
  DeviceArray<QuerySum> parts(chunks * columns);
  if (chunks > 0) {
    sum_chunk<<<ctas_for(chunks * columns), kOracleThreads>>>(job, kChunkTokens, parts.get());
    CUDA_CHECK_LAUNCH();
  }
  sum_chunks<<<ctas_for(columns), kOracleThreads>>>(job, chunks, parts.get(), answer);
  CUDA_CHECK_LAUNCH();
  CUDA_CHECK(cudaDeviceSynchronize());  // before the parts go
}

}  // namespace attn::attnres
