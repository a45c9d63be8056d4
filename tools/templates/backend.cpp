// Column reduction on the CPU, one query after the other: a start to change step by step.
//
// Adds:     nothing yet; say here what it does that the previous rung does not.
// Mapping:  one thread; heads, then queries, then keys.
// Memory:   workspace: the scores of one query and the results of one head, 8 N bytes.
// Limit:    2 D FLOP and one exponential per visible pair; bound by scalar fp32 FMA.
// Rounding: fp32 everywhere, one rounding into the output's type.
// Source:   the definition, reference/colreduce/README.md.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "impls/colreduce/plain_problem.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;
using Tensors = ColReduce::Tensors;

Support supports(const Problem& p, const DeviceInfo&) { return takes_plain_only(p); }

std::size_t workspace_bytes(const Problem& p, const DeviceInfo&) {
  return 2 * static_cast<std::size_t>(p.N) * sizeof(float);
}

/// Scores of query m on the keys [begin, end); returns the largest.
float score_row(const Problem& p,
                const Tensors& t,
                std::int64_t b,
                std::int64_t h,
                std::int64_t m,
                std::int64_t begin,
                std::int64_t end,
                float* scores) {
  const auto scale = static_cast<float>(p.scale_value());
  float top = -std::numeric_limits<float>::infinity();
  for (std::int64_t n = begin; n < end; ++n) {
    const std::int64_t q_row = t.q.offset(b, h, m);
    const std::int64_t k_row = t.k.offset(b, p.key_head(h), n);
    float dot = 0;
    for (std::int64_t d = 0; d < p.D; ++d)
      dot += load_element(t.q.data, p.dtype, q_row + d * t.q.strides[3]) *
             load_element(t.k.data, p.dtype, k_row + d * t.k.strides[3]);
    scores[n] = dot * scale;
    top = std::max(top, scores[n]);
  }
  return top;
}

/// The columns of one head.
void reduce_head(
    const Problem& p, const Tensors& t, std::int64_t b, std::int64_t h, float* workspace) {
  const AttentionMask mask = p.attention_mask();
  float* scores = workspace;         // [N]
  float* columns = workspace + p.N;  // [N]
  std::fill(columns, columns + p.N, 0.0f);
  for (std::int64_t m = 0; m < p.M; ++m) {
    const std::int64_t begin = mask.key_begin(m);
    const std::int64_t end = mask.key_end(m);
    const float top = score_row(p, t, b, h, m, begin, end, scores);
    float sum = 0;
    for (std::int64_t n = begin; n < end; ++n) {
      scores[n] = std::exp(scores[n] - top);
      sum += scores[n];
    }
    for (std::int64_t n = begin; n < end; ++n) {
      const float weight = scores[n] / sum;
      columns[n] =
          p.reduction == Reduction::kMax ? std::max(columns[n], weight) : columns[n] + weight;
    }
  }
  for (std::int64_t n = 0; n < p.N; ++n)
    store_element(t.out.data, p.out_dtype, t.out.offset(b, h, n),
                  columns[n] / static_cast<float>(p.divisor(n)));
}

Launch plan(const Problem& p, const Tensors& tensors, Workspace workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, tensors, scratch = static_cast<float*>(workspace.data)](Stream) {
    for (std::int64_t b = 0; b < p.B; ++b) {
      for (std::int64_t h = 0; h < p.H; ++h) reduce_head(p, tensors, b, h, scratch);
    }
  };
  return launch;
}

}  // namespace

extern const Backend<ColReduce> new_backend;
constinit const Backend<ColReduce> new_backend = {
    .info = {.id = "new_backend",
             .summary = "one query after the other, on one thread",
             .memory = MemorySpace::kHost,
             .math = "fp32",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
