// The merge on CUDA cores: every row is read once and stays in registers.
//
// Adds:     the sum, its logit, both weights, the merged row and its norm in one kernel.
// Mapping:  a CTA has a token, a thread 16 columns (32 where D > 8192), so 128 threads at D = 2048;
//           CTAs go on to further tokens, and many of them share an SM: their loads overlap.
// Memory:   rows in registers; 2 sums a warp in shared memory, one barrier a token, one more for
//           a norm, whose weight comes from the caches.
// Limit:    memory: 3 rows a token, two more with an update, one more with a norm beside the output; about
//           7 D FLOP, 11 D with a norm.
// Rounding: fp32; the updated sum is rounded before anything reads it; one rounding of each output; the
//           norm is that of the rounded row.
// Source:   reference/attnres/README.md.
#include <cuda_runtime.h>

#include "impls/attnres/read_config.h"
#include "impls/attnres_merge/fused_simt.h"
#include "reference/attnres_merge/contract.h"

namespace attn::attnres_merge {
namespace {

using Problem = AttnResMerge::Problem;
using Tensors = AttnResMerge::Tensors;

/// Whether all rows that there are start on 16 bytes.
bool has_vectors(const Tensors& t) {
  bool vectors = true;
  for (const TensorView* view :
       {&t.partial, &t.read, &t.update, &t.gamma, &t.out, &t.normed, &t.sum})
    vectors = vectors && (!view->data || attnres::has_vector_rows(*view));
  return vectors;
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  const std::int64_t groups = attnres::column_groups(p.D);
  const bool aligned = has_vectors(t);
  const SimtArguments arguments{.merge = attnres::merge_arguments(p, t),
                                .update = attnres::rows_of(t.update),
                                .out = attnres::rows_of(t.out),
                                .sum = attnres::rows_of(t.sum),
                                .normed = attnres::rows_of(t.normed),
                                .gamma = attnres::rows_of(t.gamma),
                                .lse = static_cast<float*>(t.lse.data),
                                .norm_eps = static_cast<float>(p.norm_eps)};
  const auto find = p.has_norm() ? simt_kernel_norm : simt_kernel;
  const SimtKernel kernel = find(p.dtype, p.out_type(), aligned, groups);
  const bool vectors = attnres::has_merge_vectors(p.dtype, p.out_type(), aligned);
  return attnres::resident_launch(kernel, arguments, p.tokens(), attnres::merge_threads(groups),
                                  device.sm_count, attnres::loads_note(vectors));
}

}  // namespace

extern const Backend<AttnResMerge> fused_simt;
constinit const Backend<AttnResMerge> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "one kernel, every row read once and kept in registers",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .plan = plan};

}  // namespace attn::attnres_merge
