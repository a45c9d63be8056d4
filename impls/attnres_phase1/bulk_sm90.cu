// Phase 1 with the rows in a ring of bulk copies, products and mixed rows on tensor cores.
//
// Adds:     nobody waits for a copy that was not started long before; S N D multiply-adds of the inner
//           products and as many of the mixed rows leave the FMA pipes, and the sums over threads go.
// Mapping:  persistent CTAs, one an SM: three or four teams of four warps (BulkShape) take groups of tokens
//           in turn, so that one's latencies pass while others compute, and refill the stages that they
//           have read. Where memory is the limit, CTAs draw groups from a counter (bulk_rows.cuh): some get
//           more of its bandwidth than others. A warp multiplies a range of the columns, and mixes chunks of
//           64 or 128 of them in turn. Rows too large for an SM are split by columns over the 2, 4 or 8 CTAs
//           of a cluster; so are few tokens.
// Memory:   shared: the queries in 16 bits and as many stages of up to eight rows as fit (headline: 33 KB
//           of queries, five stages of 33 KB). Up to 122 registers a thread, of three teams 145; no spills.
//           Workspace: the counter.
// Limit:    memory: N + S rows a token. Headline token: 48 KB, 2,990 clocks of an SM at its share of the
//           copy rate, and about 3,600 warp instructions, 900 clocks.
// Rounding: products of 16-bit elements are exact, sums fp32 (tensor cores truncate: chains of eight
//           products, then ordinary additions); fp32 queries as three bf16 terms, weights as three terms of
//           the rows' type; rows that are not finite in fp32 on FMA pipes.
// Source:   reference/attnres/README.md; PTX ISA, "cp.async.bulk", "mma", "st.async".
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>

#include "impls/attnres/bulk_launch.cuh"
#include "impls/attnres/read_config.h"
#include "impls/attnres_phase1/bulk_kernel.cuh"

namespace attn::attnres_phase1 {
namespace {

using Problem = AttnResPhase1::Problem;
using Tensors = AttnResPhase1::Tensors;
using BulkKernel = void (*)(BulkArguments);

template <class T>
BulkKernel kernel_of(const BulkShape& shape) {
  using bulk::GroupShape;
  if (shape.tiles == 0) return bulk::read_kernel<T, GroupShape<0, 1>>;
  if (shape.tiles == 2) return bulk::read_kernel<T, GroupShape<2, 1>>;
  return shape.chunks == 2 ? bulk::read_kernel<T, GroupShape<1, 2>>
                           : bulk::read_kernel<T, GroupShape<1, 1>>;
}

BulkKernel kernel_for(DType dtype, const BulkShape& shape) {
  return dtype == DType::kF16 ? kernel_of<__half>(shape) : kernel_of<__nv_bfloat16>(shape);
}

/// Bulk copies and 16-byte accesses need every row to start on 16 bytes.
void check_rows(const Problem& p, const Tensors& t) {
  const bool queries = reinterpret_cast<std::uintptr_t>(t.wt.data) % 16 == 0;
  if (!queries || !attnres::has_vector_rows(t.v, p) || !attnres::has_vector_rows(t.out))
    throw std::invalid_argument("bulk_sm90: every row must start on 16 bytes");
}

BulkArguments arguments_of(const Problem& p,
                           const Tensors& t,
                           const attnres::BulkConfig& config,
                           std::uint32_t* drawn) {
  return {.config = config,
          .v = t.v,
          .wt = t.wt.data,
          .wt_dtype = p.query_type(),
          .terms = bulk_terms(p),
          .out = t.out.data,
          .out_dtype = p.out_type(),
          .lse = static_cast<float*>(t.lse.data),
          .drawn = drawn,
          .tokens = p.tokens(),
          .N = static_cast<int>(p.N),
          .S = static_cast<int>(p.S),
          .D = static_cast<int>(p.D),
          .eps = static_cast<float>(p.eps),
          .over_D = 1.0f / static_cast<float>(p.D)};
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return bulk_draws(bulk_config(p, device), p, device) ? sizeof(std::uint32_t) : 0;
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  const attnres::BulkConfig config = bulk_config(p, device);
  Launch launch;
  auto* const drawn =
      bulk_draws(config, p, device) ? static_cast<std::uint32_t*>(workspace.data) : nullptr;
  launch.note = attnres::describe(config) + (drawn == nullptr ? "" : ", drawn");
  launch.enqueue = [](Stream) {};
  if (p.tokens() == 0) return launch;
  check_rows(p, t);
  const BulkArguments arguments = arguments_of(p, t, config, drawn);
  const BulkKernel kernel = kernel_for(p.dtype, bulk_shape(config, p));
  launch.kernels.push_back(
      {reinterpret_cast<const void*>(kernel), config.shared_bytes, config.threads()});
  const std::int64_t groups = (p.tokens() + config.tokens - 1) / config.tokens;
  const attnres::ClusterLaunch clusters = attnres::bulk_launch(
      kernel, arguments, {config.ranks, config.threads(), config.shared_bytes}, groups);
  launch.enqueue = [=](Stream stream) {
    if (drawn != nullptr)
      CUDA_CHECK(
          cudaMemsetAsync(drawn, 0, sizeof(*drawn), static_cast<cudaStream_t>(stream.handle)));
    clusters.enqueue(stream);
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResPhase1> bulk_sm90;
constinit const Backend<AttnResPhase1> bulk_sm90 = {
    .info = {.id = "bulk_sm90",
             .summary = "bulk copies into a ring of rows, products and mixed rows on tensor cores",
             .memory = MemorySpace::kDevice,
             .math = "16-bit mma with exact products, weights in three terms, fp32 sums, exp of "
                     "the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = bulk_supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_phase1
