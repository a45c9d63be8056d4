// Phase 1 on CUDA cores: the sources of a token come to shared memory once, for all queries.
//
// Adds:     one kernel; all S x N inner products of a token are summed over its threads together.
// Mapping:  persistent CTAs, one an SM; teams of 1 to 16 warps, each with its own tokens. A thread owns
//           groups of eight columns: it copies, multiplies and mixes them itself.
// Memory:   shared: the queries in fp32 and two tokens' rows a team (2 N D elements), where they fit;
//           else rows and queries come from the caches. One barrier a token and tile of eight queries.
// Limit:    memory: N + S rows a token; D (4 N S + 2 N) FLOP. Queries in shared memory cost as much of
//           its bandwidth as the products take of the FMA pipes, at eight queries and four sources.
// Rounding: fp32, one rounding of each output; products of 16-bit elements are exact.
// Source:   reference/attnres/README.md; asynchronous copies: PTX ISA, "cp.async".
#include <cuda_runtime.h>

#include <algorithm>
#include <string>

#include "harness/core/cuda_check.h"
#include "impls/attnres/query_kernels.cuh"
#include "impls/attnres_phase1/fused_simt.h"
#include "impls/common/shared_limit.h"
#include "reference/attnres_phase1/contract.h"

namespace attn::attnres_phase1 {
namespace {

using attnres::Rows;
using Problem = AttnResPhase1::Problem;
using Tensors = AttnResPhase1::Tensors;

/// Queries, rounded up to whole tiles.
std::int64_t padded_queries(const Problem& p) {
  const std::int64_t tile = attnres::query_tile(p.S);
  return (p.S + tile - 1) / tile * tile;
}

attnres::ReadConfig config_for(const Problem& p, bool vectors, const DeviceInfo& device) {
  const std::int64_t row = attnres::column_groups(p.D) * 8;
  const std::int64_t sums = (attnres::query_tile(p.S) + 1) * ((p.N + 3) / 4 * 4);
  const attnres::ReadNeeds needs{
      .row_bytes = p.N * row * static_cast<std::int64_t>(size_of(p.dtype)),
      .table_floats = padded_queries(p) * row,
      .warp_floats = 4 * sums};  // two partial sums, a total, and weights
  constexpr attnres::Layout kVectors[] = {
      {Rows::kStaged, true}, {Rows::kStaged, false}, {Rows::kDirect, false}};
  constexpr attnres::Layout kSingle[] = {{Rows::kSingle, false}};
  return vectors ? attnres::choose_read(needs, p.D, kVectors, device.shared_bytes_per_block)
                 : attnres::choose_read(needs, p.D, kSingle, device.shared_bytes_per_block);
}

Support supports(const Problem& p, const DeviceInfo& device) {
  if (config_for(p, false, device).team_warps == 0)
    return Support::no("the weights of a token must fit shared memory");
  return Support::yes();
}

/// The queries, where they are not in shared memory.
std::size_t workspace_bytes(const Problem& p, const DeviceInfo&) {
  return static_cast<std::size_t>(padded_queries(p) * attnres::column_groups(p.D) * 8) *
         sizeof(float);
}

SimtKernel kernel_for(DType dtype, int tile, const attnres::Layout& layout) {
  if (dtype == DType::kF16) return simt_kernel_f16(tile, layout);
  if (dtype == DType::kBF16) return simt_kernel_bf16(tile, layout);
  return simt_kernel_f32(tile, layout);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  const bool vectors = attnres::has_vector_rows(t.v, p) && attnres::has_vector_rows(t.out);
  attnres::ReadConfig config = config_for(p, vectors, device);
  const std::int64_t sms = std::max(1, device.sm_count);
  config.teams = static_cast<int>(  // few tokens spread over the SMs
      std::clamp<std::int64_t>((p.tokens() + sms - 1) / sms, 1, config.teams));
  const int tile = attnres::query_tile(p.S);
  auto* split = static_cast<float*>(workspace.data);
  const SimtArguments arguments{
      .read = attnres::read_arguments(p, t.v, t.wt, split, config.team_warps, config.teams),
      .out = t.out.data,
      .out_dtype = p.out_type(),
      .lse = static_cast<float*>(t.lse.data)};
  const SimtKernel kernel = kernel_for(p.dtype, tile, config.layout);
  raise_shared_limit(reinterpret_cast<const void*>(kernel), config.shared_bytes);
  const auto ctas =
      static_cast<unsigned>(std::min(sms, (p.tokens() + config.teams - 1) / config.teams));

  Launch launch;
  launch.note = attnres::describe(config, "queries");
  launch.kernels.push_back(
      {reinterpret_cast<const void*>(kernel), config.shared_bytes, config.threads()});
  launch.enqueue = [=, queries = static_cast<int>(padded_queries(p))](Stream stream) {
    if (ctas == 0) return;
    const auto handle = static_cast<cudaStream_t>(stream.handle);
    if (!config.layout.shared_table) attnres::enqueue_split(arguments.read, queries, split, handle);
    kernel<<<ctas, config.threads(), config.shared_bytes, handle>>>(arguments);
    CUDA_CHECK_LAUNCH();
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResPhase1> fused_simt;
constinit const Backend<AttnResPhase1> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "sources staged once for all queries, the next token's on their way",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_phase1
