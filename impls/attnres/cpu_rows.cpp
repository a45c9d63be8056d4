// Row operations, compiled for several instruction sets, and the threads that share the tokens.
#include "impls/attnres/cpu_rows.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "impls/common/cpu_simd.h"

// One copy of a function for each instruction set; the loader picks.
#if defined(__x86_64__)
#define ATTN_CPU_CLONES __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define ATTN_CPU_CLONES
#endif

namespace attn::attnres {
namespace {

constexpr int kLanes = 16;
using Lanes = simd::Vec<kLanes>;

}  // namespace

ATTN_CPU_CLONES
void widen_row(float* to, const void* from, DType dtype, std::int64_t D) {
  simd::widen<kLanes>(to, from, dtype, static_cast<int>(D));
}

ATTN_CPU_CLONES
float dot(const float* a, const float* b, std::int64_t D) {
  Lanes::Float sums[2] = {};  // two chains of additions, and shorter ones
  std::int64_t d = 0;
  for (; d + 2 * kLanes <= D; d += 2 * kLanes) {
    for (int half = 0; half < 2; ++half) {
      Lanes::Float x;
      Lanes::Float y;
      Lanes::load(x, a + d + half * kLanes);
      Lanes::load(y, b + d + half * kLanes);
      sums[half] += x * y;
    }
  }
  float rest = 0;
  for (; d < D; ++d) rest += a[d] * b[d];
  sums[0] += sums[1];
  return simd::sum_lanes<kLanes>(sums[0]) + rest;
}

ATTN_CPU_CLONES
void add_scaled(float* y, float a, const float* x, std::int64_t D) {
  for (std::int64_t d = 0; d < D; ++d) y[d] += a * x[d];
}

void store_row(void* to, DType dtype, const float* from, std::int64_t D, Store store) {
  for (std::int64_t d = 0; d < D; ++d) {
    const float held = store == Store::kAdd ? load_element(to, dtype, d) : 0.0f;
    store_element(to, dtype, d, held + from[d]);
  }
}

float reciprocal_rms(const float* v, std::int64_t D, double eps) {
  return 1 / std::sqrt(dot(v, v, D) / static_cast<float>(D) + static_cast<float>(eps));
}

float softmax(float* logits, std::int64_t N) {
  const float largest = *std::max_element(logits, logits + N);
  float sum = 0;
  for (std::int64_t n = 0; n < N; ++n) sum += logits[n] = std::exp(logits[n] - largest);
  for (std::int64_t n = 0; n < N; ++n) logits[n] /= sum;
  return largest + std::log(sum);
}

void load_sources(
    const Planes& planes, const SourceProblem& p, std::int64_t t, float* v, float* r) {
  for (std::int64_t n = 0; n < p.N; ++n) {
    float* row = v + n * p.D;
    widen_row(row, element(planes.data[static_cast<std::size_t>(n)], p.dtype, t * planes.stride),
              p.dtype, p.D);
    r[n] = reciprocal_rms(row, p.D, p.eps);
  }
}

void logits(
    const float* query, const float* v, const float* r, const SourceProblem& p, float* logits) {
  for (std::int64_t n = 0; n < p.N; ++n) logits[n] = r[n] * dot(query, v + n * p.D, p.D);
}

void mix_rows(const float* weights, const float* v, const SourceProblem& p, float* mixed) {
  std::fill_n(mixed, p.D, 0.0f);
  for (std::int64_t n = 0; n < p.N; ++n) add_scaled(mixed, weights[n], v + n * p.D, p.D);
}

void add_update(float* b, const void* update, void* sum, DType dtype, std::int64_t D) {
  for (std::int64_t d = 0; d < D; ++d) {
    store_element(sum, dtype, d, b[d] + load_element(update, dtype, d));
    b[d] = load_element(sum, dtype, d);
  }
}

std::int64_t chunk_count(std::int64_t tokens) {
  return std::clamp<std::int64_t>((tokens + kTokensPerChunk - 1) / kTokensPerChunk, 1, kMaxChunks);
}

std::size_t CpuScratch::bytes(const DeviceInfo& device) const {
  return static_cast<std::size_t>(shared_floats + std::max(1, device.threads) * thread_floats) *
         sizeof(float);
}

void for_each_chunk(std::int64_t tokens,
                    const CpuScratch& scratch,
                    float* workspace,
                    int threads,
                    const ChunkWork& work) {
  const std::int64_t chunks = chunk_count(tokens);
#pragma omp parallel for schedule(dynamic) num_threads(std::max(1, threads))
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
    work(chunk, chunk * tokens / chunks, (chunk + 1) * tokens / chunks,
         workspace + scratch.shared_floats + omp_get_thread_num() * scratch.thread_floats);
}

void sum_chunks(
    const float* partials, std::int64_t chunks, std::int64_t elements, float* dwt, Store store) {
  for (std::int64_t i = 0; i < elements; ++i) {
    float sum = store == Store::kAdd ? dwt[i] : 0.0f;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) sum += partials[chunk * elements + i];
    dwt[i] = sum;
  }
}

}  // namespace attn::attnres
