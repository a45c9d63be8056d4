// Column reduction on CUDA cores in two passes over the scores, which are never stored.
//
// Adds:     no M x N matrix, one number per query between the passes; one rounding, at the end.
// Mapping:  pass 1: a CTA of 128 threads keeps 64 queries and streams tiles of 64 keys; pass 2
//           keeps 64 keys and streams queries. grid.x = heads x tiles. A thread owns 8 kept x 4
//           streamed rows; its row (pass 1) or column (pass 2) results stay in registers.
// Memory:   2 tiles of 64 rows x 32 components in fp32, component-major: 17 KB of shared memory;
//           scratch: the normaliser of every query, 4 B H M bytes.
// Limit:    4 D FLOP and 2 exponentials per visible pair; bound by fp32 FMA: 3 shared loads of 16
//           bytes feed 32 FMAs. Tiles that the mask hides are neither loaded nor computed.
// Rounding: fp32 everywhere; the products of f16 and bf16 inputs are exact; ex2.approx, base-2
//           scores; the output is rounded once.
// Source:   online softmax: impls/common/online_softmax.cuh; the split into a row pass and a column
//           pass: FlashAttention-2 (Dao, 2023), algorithm 2's recomputation of P from the lse.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/fused_simt.h"
#include "impls/colreduce/fused_simt_kernels.cuh"
#include "impls/colreduce/plain_problem.h"
#include "impls/common/fill.cuh"

namespace attn::colreduce {

SimtKernels simt_plain_kernels(DType dtype, bool vectors) {
  return simt::kernels_for<false>(dtype, vectors);
}

namespace {

using Problem = ColReduce::Problem;

/// Whether every row starts on 16 bytes and consists of whole vectors.
bool has_vector_rows(const TensorView& tensor) {
  const auto width = static_cast<std::int64_t>(16 / size_of(tensor.dtype));
  bool aligned = reinterpret_cast<std::uintptr_t>(tensor.data) % 16 == 0;
  for (std::size_t axis = 0; axis < 3; ++axis)
    aligned = aligned && (tensor.shape[axis] == 1 || tensor.strides[axis] % width == 0);
  return aligned && tensor.shape[3] % width == 0;
}

std::int64_t cta_count(const Problem& p, std::int64_t rows) {
  return p.B * p.H * ((rows + kSimtTile - 1) / kSimtTile);
}

Support supports(const Problem& p, const DeviceInfo&) {
  constexpr std::int64_t kMaxGrid = std::numeric_limits<std::int32_t>::max();
  if (p.D > kMaxGrid - kSimtTile) return Support::no("D must fit 32 bits");
  if (cta_count(p, std::max(p.M, p.N)) > kMaxGrid)
    return Support::no("B * H * ceil(max(M, N) / 64) must be below 2^31");
  return Support::yes();
}

/// Parts follow each other: the largest one's.
std::size_t workspace_bytes(const Problem& p, const DeviceInfo&) {
  if (p.lse == Lse::kIn) return 0;
  std::int64_t queries = 0;  // of the parts' heads
  for (const ColReduce::Part& part : ColReduce::parts(p))
    queries = std::max(queries, part.problem.B * p.H * part.problem.contributing().count());
  return static_cast<std::size_t>(queries) * sizeof(float);
}

/// Both passes, bound to a problem that is not ragged.
struct Passes {
  SimtKernels kernels;
  SimtParams params;
  unsigned row_ctas;  // 0: the lse is given
  unsigned column_ctas;

  void enqueue(cudaStream_t stream) const {
    if (row_ctas > 0) {
      kernels.row<<<row_ctas, kSimtThreads, 0, stream>>>(params);
      CUDA_CHECK_LAUNCH();
    }
    kernels.column<<<column_ctas, kSimtThreads, 0, stream>>>(params);
    CUDA_CHECK_LAUNCH();
  }
};

Passes bind(const Problem& p,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const SimtKernels& kernels) {
  const bool given = p.lse == Lse::kIn;
  const RowRange rows = p.lse == Lse::kOut ? RowRange{0, p.M} : p.contributing();
  const SimtParams params{
      .q = tensors.q,
      .k = tensors.k,
      .mask = p.attention_mask(),
      .queries = p.contributing(),
      .H = p.H,
      .group = p.H / p.key_heads(),
      .combined = p.combined_heads(),
      .max_over_heads = p.heads == Heads::kMax,
      .D = static_cast<int>(p.D),
      .scale_log2 = static_cast<float>(p.scale_value() * kLog2E),
      .cap_log2 = static_cast<float>(p.softcap * kLog2E),
      .cap_scale = static_cast<float>(p.softcap > 0 ? p.scale_value() / p.softcap : 0.0),
      .rows = rows,
      .lse_log2 = given ? nullptr : static_cast<float*>(workspace.data),
      .given_lse = given ? static_cast<const float*>(tensors.lse.data) : nullptr,
      .lse = p.lse == Lse::kOut ? static_cast<float*>(tensors.lse.data) : nullptr,
      .lse_pitch = tensors.lse.strides[1],
      .out = tensors.out.data,
      .out_pitch = tensors.out.strides[1],
      .out_dtype = p.out_dtype,
      .reduction = p.reduction,
      .mean_over = p.mean_over,
      .averaged = p.heads == Heads::kMean ? static_cast<float>(p.H) : 1.0f};
  return {kernels, params, given ? 0 : static_cast<unsigned>(cta_count(p, rows.count())),
          static_cast<unsigned>(cta_count(p, p.N) / p.combined_heads())};
}

/// What no part of a ragged problem writes.
void clear_outputs(const Problem& p, const ColReduce::Tensors& tensors, cudaStream_t stream) {
  const std::int64_t elements = p.B * p.out_heads() * p.N;
  CUDA_CHECK(cudaMemsetAsync(tensors.out.data, 0,
                             static_cast<std::size_t>(elements) * size_of(p.out_dtype), stream));
  if (p.lse != Lse::kOut) return;
  enqueue_fill(static_cast<float*>(tensors.lse.data), p.B * p.H * p.M, -INFINITY, stream);
}

Launch plan(const Problem& p,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo&) {
  const std::vector<ColReduce::Part> parts = ColReduce::parts(p);
  const auto sliced = [&](const ColReduce::Part& part) { return part.slice(tensors); };
  const bool vectors = std::all_of(parts.begin(), parts.end(), [&](const ColReduce::Part& part) {
    const ColReduce::Tensors own = sliced(part);
    return has_vector_rows(own.q) && has_vector_rows(own.k);
  });
  const SimtKernels kernels = takes_plain_only(p) ? simt_plain_kernels(p.dtype, vectors)
                                                  : simt_option_kernels(p.dtype, vectors);
  std::vector<Passes> passes;
  for (const ColReduce::Part& part : parts)
    passes.push_back(bind(part.problem, sliced(part), workspace, kernels));

  Launch launch;
  launch.note = vectors ? "16-byte loads" : "scalar loads";
  if (p.lse != Lse::kIn)
    launch.kernels.push_back({reinterpret_cast<const void*>(kernels.row), 0, kSimtThreads});
  launch.kernels.push_back({reinterpret_cast<const void*>(kernels.column), 0, kSimtThreads});
  launch.enqueue = [p, tensors, passes](Stream stream) {
    const auto handle = static_cast<cudaStream_t>(stream.handle);
    if (p.is_ragged()) clear_outputs(p, tensors, handle);
    for (const Passes& part : passes) part.enqueue(handle);
  };
  return launch;
}

}  // namespace

extern const Backend<ColReduce> fused_simt;
constinit const Backend<ColReduce> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "two passes over the scores on CUDA cores, nothing M x N is stored",
             .memory = MemorySpace::kDevice,
             .math = "exact products, fp32 FMA, ex2.approx",
             .numerics = NumericsClass::kFp32,
             .deterministic = true},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
