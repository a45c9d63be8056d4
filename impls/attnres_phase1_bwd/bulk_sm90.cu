// The backward of phase 1 with a token's rows in a ring of bulk copies and products on tensor cores.
//
// Adds:     all products are on tensor cores, gradients too; warps have roles and meet at barriers in memory,
//           so that copies, weights and gradients of three tokens run at a time.
// Mapping:  persistent CTAs, a token at a time; rows that are too large for an SM are split by columns over
//           the CTAs of a cluster, and so are few tokens. One warp copies, three multiply and find weights,
//           up to 16 find gradients, each of its own blocks of 32 columns: a token's sources by its queries
//           and their dout, and the queries' gradient by its sources, which a thread adds up in registers.
//           A second kernel adds the clusters' shares in order.
// Memory:   shared: as many tokens' rows (N + S, and those that are added to) as fit, 2 to 6, and the
//           queries; headline: four stages of 49 KB. Registers: 104 a thread of gradients, 64 of others.
//           Workspace: S D floats a cluster.
// Limit:    memory: 2 N + S rows a token, 3 N + S where gradients are added to. Headline token: 64 KB,
//           4,000 clocks of an SM at its share of the copy rate; 9,400 warp instructions, 2,350 clocks;
//           1,400 products on its four tensor cores.
// Rounding: products of 16-bit elements are exact, sums fp32 (tensor cores truncate: short chains of products,
//           then ordinary additions); coefficients of gradients are two tf32 terms, 21 bits; one rounding of
//           each output; repeats are bitwise equal.
// Source:   reference/attnres/README.md; PTX ISA, "cp.async.bulk", "mma", "mbarrier", "setmaxnreg".
#include <cuda_runtime.h>

#include <bit>
#include <cstdint>
#include <stdexcept>

#include "impls/attnres/bulk_launch.cuh"
#include "impls/attnres/query_kernels.cuh"
#include "impls/attnres/read_config.h"
#include "impls/attnres_phase1_bwd/bulk_sm90.h"

namespace attn::attnres_phase1_bwd {
namespace {

using Problem = AttnResPhase1Bwd::Problem;
using Tensors = AttnResPhase1Bwd::Tensors;

/// The clusters' shares of the queries' gradient.
std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  const std::int64_t clusters = most_clusters(p, choose_layout(p, device), device);
  return static_cast<std::size_t>(clusters * p.S * p.D) * sizeof(float);
}

/// Bulk copies and vector accesses need every row to start on 16 bytes.
void check_rows(const Problem& p, const Tensors& t) {
  const bool queries = reinterpret_cast<std::uintptr_t>(t.wt.data) % 16 == 0;
  if (!queries || !attnres::has_vector_rows(t.v, p) || !attnres::has_vector_rows(t.dv, p) ||
      !attnres::has_vector_rows(t.dout))
    throw std::invalid_argument("bulk_sm90: every row must start on 16 bytes");
}

BulkArguments arguments_of(const Problem& p,
                           const Tensors& t,
                           const BulkLayout& layout,
                           float* partials) {
  const auto N = static_cast<int>(p.N);
  BulkArguments arguments{.v = t.v,
                          .wt = t.wt.data,
                          .dout = t.dout.data,
                          .dlse = static_cast<const float*>(t.dlse.data),
                          .dv = t.dv,
                          .partials = partials,
                          .tokens = p.tokens(),
                          .N = N,
                          .S = static_cast<int>(p.S),
                          .D = static_cast<int>(p.D),
                          .eps = static_cast<float>(p.eps),
                          .inverse_width = 1.0f / static_cast<float>(p.D),
                          .ranks = layout.ranks,
                          .ranks_log2 = std::countr_zero(static_cast<unsigned>(layout.ranks)),
                          .stages = layout.stages,
                          .warps = layout.warps,
                          .lanes = WeightLanes::of(N),
                          .held_rows = 0,
                          .held_source = {},
                          .held_row = {},
                          .memory = layout.memory};
  for (int n = 0; n < N; ++n) {
    arguments.held_row[n] = -1;
    if (!p.adds_to(n)) continue;
    arguments.held_source[arguments.held_rows] = static_cast<std::int8_t>(n);
    arguments.held_row[n] = static_cast<std::int8_t>(arguments.held_rows++);
  }
  return arguments;
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  const BulkLayout layout = choose_layout(p, device);
  auto* partials = static_cast<float*>(workspace.data);
  Launch launch;
  launch.note = describe(layout);
  attnres::ClusterLaunch gradients{[](Stream) {}, 0};
  if (p.tokens() > 0) {
    check_rows(p, t);
    const BulkKernel kernel =
        p.dtype == DType::kF16 ? bulk_kernel_f16(layout) : bulk_kernel_bf16(layout);
    const auto shared_bytes = static_cast<std::size_t>(layout.memory.bytes);
    launch.kernels.push_back(
        {reinterpret_cast<const void*>(kernel), shared_bytes, layout.threads()});
    gradients = attnres::bulk_launch(kernel, arguments_of(p, t, layout, partials),
                                     {layout.ranks, layout.threads(), shared_bytes},
                                     most_clusters(p, layout, device));
  }
  launch.enqueue = [=](Stream stream) {
    gradients.enqueue(stream);
    attnres::enqueue_sum(partials, static_cast<int>(gradients.clusters), p.S, p.D, p.dwt,
                         static_cast<float*>(t.dwt.data), static_cast<cudaStream_t>(stream.handle));
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResPhase1Bwd> bulk_sm90;
constinit const Backend<AttnResPhase1Bwd> bulk_sm90 = {
    .info = {.id = "bulk_sm90",
             .summary =
                 "bulk copies into a ring of rows, warps with roles, products on tensor cores",
             .memory = MemorySpace::kDevice,
             .math = "16-bit mma with exact products, tf32 mma in two terms, fp32 sums, ex2.approx",
             .numerics = NumericsClass::kFp32},
    .supports = bulk_supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_phase1_bwd
