// Rows of D elements in fp32 on a CPU, and the read over depth that the family's cpu_fused backends make
// of them.
#pragma once

#include <cstdint>
#include <functional>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// to[d] = from[d] as fp32, exact.
void widen_row(float* to, const void* from, DType dtype, std::int64_t D);
/// to[d] = from[d], rounded once; or to[d] + from[d], where the result is added.
void store_row(void* to, DType dtype, const float* from, std::int64_t D, Store store);

float dot(const float* a, const float* b, std::int64_t D);
/// y[d] += a x[d]
void add_scaled(float* y, float a, const float* x, std::int64_t D);

/// Address of element `at` of memory that holds `dtype`.
inline void* element(void* data, DType dtype, std::int64_t at) {
  return static_cast<char*>(data) + at * static_cast<std::int64_t>(size_of(dtype));
}

float reciprocal_rms(const float* v, std::int64_t D, double eps);
/// logits[n] becomes the weight p[n]; returns the log of the sum of their exponentials.
float softmax(float* logits, std::int64_t N);

/// Loads the N sources of token t into v [N, D] and their reciprocal RMS into r [N].
void load_sources(const Planes& planes, const SourceProblem& p, std::int64_t t, float* v, float* r);
/// The logits [N] of one query against the sources v [N, D].
void logits(
    const float* query, const float* v, const float* r, const SourceProblem& p, float* logits);
/// mixed [D] = the sum of weights[n] v[n].
void mix_rows(const float* weights, const float* v, const SourceProblem& p, float* mixed);
/// b + update in fp32, rounded to `sum` and read back into b.
void add_update(float* b, const void* update, void* sum, DType dtype, std::int64_t D);

/// Tokens are cut into chunks that do not depend on the threads, so that sums over them do not either.
inline constexpr std::int64_t kTokensPerChunk = 16;
inline constexpr std::int64_t kMaxChunks = 64;
std::int64_t chunk_count(std::int64_t tokens);

/// The queries as fp32 and one scratch area a thread, in a backend's workspace.
struct CpuScratch {
  std::int64_t shared_floats = 0;  ///< read or written by all threads
  std::int64_t thread_floats = 0;  ///< of each thread

  std::size_t bytes(const DeviceInfo& device) const;
};

/// Calls work(chunk, first token, end token, thread's scratch) for every chunk, on all threads.
using ChunkWork = std::function<void(std::int64_t, std::int64_t, std::int64_t, float*)>;
void for_each_chunk(std::int64_t tokens,
                    const CpuScratch& scratch,
                    float* workspace,
                    int threads,
                    const ChunkWork& work);

/// Calls work(token, thread's scratch) for every token, on all threads.
template <class Work>
void for_each_token(std::int64_t tokens,
                    const CpuScratch& scratch,
                    float* workspace,
                    int threads,
                    const Work& work) {
  for_each_chunk(tokens, scratch, workspace, threads,
                 [&](std::int64_t, std::int64_t begin, std::int64_t end, float* own) {
                   for (std::int64_t token = begin; token < end; ++token) work(token, own);
                 });
}

/// dwt[d] = sum over chunks of partials[chunk][d], in order; added to what is there where it is.
void sum_chunks(
    const float* partials, std::int64_t chunks, std::int64_t elements, float* dwt, Store store);

}  // namespace attn::attnres
