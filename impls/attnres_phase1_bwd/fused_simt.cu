// The backward of phase 1 on CUDA cores: sources and dout come to shared memory once.
//
// Adds:     logits and weights again from the rows, so that nothing is saved by the forward; no scratch a
//           token for the queries' gradient.
// Mapping:  persistent CTAs, one an SM and one token at a time. A thread owns groups of eight columns: it
//           copies, multiplies and stores them itself, and adds to its columns of the queries' gradient
//           alone. A second kernel adds the CTAs' shares in order.
// Memory:   shared: two tokens' rows (2 (N + S) D elements), where they fit, and one table in fp32: the
//           queries, where up to eight have their gradient in registers; else the gradient, and the
//           queries come from the caches. Workspace: S D floats a CTA and the queries.
// Limit:    memory: 2 N + S rows a token, 3 N + S where gradients are added to; D (10 N S + 6 N) FLOP,
//           with as many cycles of shared memory as of FMA.
// Rounding: fp32, one rounding of each output; repeats are bitwise equal.
// Source:   reference/attnres/README.md; asynchronous copies: PTX ISA, "cp.async".
#include <cuda_runtime.h>

#include <algorithm>

#include "harness/core/cuda_check.h"
#include "impls/attnres/query_kernels.cuh"
#include "impls/attnres_phase1_bwd/fused_simt.h"
#include "impls/common/shared_limit.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres_phase1_bwd {
namespace {

using attnres::Rows;
using Problem = AttnResPhase1Bwd::Problem;
using Tensors = AttnResPhase1Bwd::Tensors;

int tile_of(const Problem& p) { return p.S == 1 ? 1 : 4; }

/// Floats of a query's row, rounded up to whole groups.
std::int64_t row_floats(const Problem& p) { return attnres::column_groups(p.D) * 8; }

attnres::ReadConfig config_for(const Problem& p, bool vectors, const DeviceInfo& device) {
  const std::int64_t tile = tile_of(p);
  const std::int64_t S = (p.S + tile - 1) / tile * tile;
  const std::int64_t N = (p.N + 3) / 4 * 4;
  const std::int64_t sums = (2 * S + 1) * N;
  const attnres::ReadNeeds needs{
      .row_bytes = (p.N + p.S) * row_floats(p) * static_cast<std::int64_t>(size_of(p.dtype)),
      .table_floats = p.S * row_floats(p),
      .cta_floats = 5 * S * N,      // totals, weights, gradients
      .warp_floats = sums + 2 * N,  // partial sums, and r and k
      .cta_warps = kSimtWarps,
      .most_teams = 1};
  constexpr attnres::Layout kVectors[] = {
      {Rows::kStaged, true}, {Rows::kDirect, true}, {Rows::kDirect, false}};
  constexpr attnres::Layout kSingle[] = {{Rows::kSingle, false}};
  return vectors ? attnres::choose_read(needs, p.D, kVectors, device.shared_bytes_per_block)
                 : attnres::choose_read(needs, p.D, kSingle, device.shared_bytes_per_block);
}

Support supports(const Problem& p, const DeviceInfo& device) {
  if (config_for(p, false, device).team_warps == 0)
    return Support::no("the products of N sources and S queries must fit shared memory");
  return Support::yes();
}

std::int64_t cta_count(const Problem& p, const DeviceInfo& device) {
  return std::min<std::int64_t>(p.tokens(), std::max(1, device.sm_count));
}

/// The queries, then the CTAs' shares of their gradient.
std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return static_cast<std::size_t>((1 + cta_count(p, device)) * p.S * row_floats(p)) * sizeof(float);
}

/// Whether sources, gradients and dout have one type and whole vectors.
bool has_vectors(const Problem& p, const Tensors& t) {
  return p.grad_type() == p.dtype && p.out_type() == p.dtype && attnres::has_vector_rows(t.v, p) &&
         attnres::has_vector_rows(t.dv, p) && attnres::has_vector_rows(t.dout);
}

SimtKernel kernel_for(DType dtype, int held, int tile, const attnres::Layout& layout) {
  if (layout.rows == Rows::kSingle) return simt_kernel_single(tile);
  if (dtype == DType::kF16) return simt_kernel_f16(held, tile, layout);
  if (dtype == DType::kBF16) return simt_kernel_bf16(held, tile, layout);
  return simt_kernel_f32(held, tile, layout);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  const attnres::ReadConfig config = config_for(p, has_vectors(p, t), device);
  auto* split = static_cast<float*>(workspace.data);
  float* partials = split + p.S * row_floats(p);
  SimtArguments arguments{
      .read = attnres::read_arguments(p, t.v, t.wt, split, config.team_warps, config.teams),
      .dout = t.dout.data,
      .dout_dtype = p.out_type(),
      .dlse = static_cast<const float*>(t.dlse.data),
      .dv = t.dv,
      .add = {},
      .partials = partials};
  for (const std::int64_t n : p.add_to) arguments.add[n] = true;
  const int held = attnres::held_queries(config, p.S, p.D);
  const SimtKernel kernel = kernel_for(p.dtype, held, tile_of(p), config.layout);
  raise_shared_limit(reinterpret_cast<const void*>(kernel), config.shared_bytes);
  const auto ctas = static_cast<int>(cta_count(p, device));

  Launch launch;
  launch.note = held > 0 ? attnres::describe(config, "queries") + ", their gradient in registers"
                         : attnres::describe(config, "query gradient");
  launch.kernels.push_back(
      {reinterpret_cast<const void*>(kernel), config.shared_bytes, config.threads()});
  launch.enqueue = [=](Stream stream) {
    const auto handle = static_cast<cudaStream_t>(stream.handle);
    if (ctas > 0) {
      attnres::enqueue_split(arguments.read, static_cast<int>(p.S), split, handle);
      kernel<<<ctas, config.threads(), config.shared_bytes, handle>>>(arguments);
      CUDA_CHECK_LAUNCH();
    }
    attnres::enqueue_sum(partials, ctas, p.S, p.D, p.dwt, static_cast<float*>(t.dwt.data), handle);
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResPhase1Bwd> fused_simt;
constinit const Backend<AttnResPhase1Bwd> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "rows staged once, weights computed again, gradients of queries in order",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_phase1_bwd
