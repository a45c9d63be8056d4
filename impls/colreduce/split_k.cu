// The column reduction of mma_sm80 with the keys of pass 1 split over CTAs.
//
// Computes what mma_sm80 does with the same kernels; where queries are too few to occupy the
// device, pass 1 gives each stationary tile of queries to several CTAs, each with a part of the
// keys.
// Mapping: pass 1 grid = heads x parts x query tiles; one thread a query merges the parts; pass 2
//   needs no split, its stationary tiles are the many keys.
// Memory: parts leave their lse, [parts, B, H, M] fp32, in the output buffer, which pass 2
//   overwrites: the workspace is mma_sm80's, and all parts must fit in the output.
// Traffic: as mma_sm80 plus 8 B H M per part. With few queries both passes are streams over K: the
//   limit is HBM, less what pass 2 still finds in L2 of the keys that pass 1 read last.
// Rounding: as mma_sm80; the merge adds fp32 terms 2^(lse_part - max) in a fixed order.
// Source: split-KV decoding (FlashDecoding: Dao, Haziza, Massa and Sizov, 2023) for splitting the
//   keys and merging by lse.
#include <vector>

#include "impls/colreduce/key_splits.h"
#include "impls/colreduce/mma_sm80.h"

namespace attn::colreduce {
namespace {

int key_splits(const ColReduce::Problem& problem,
               const std::vector<PassSequence>& sequences,
               bool narrow,
               const DeviceInfo& device) {
  const std::int64_t queries = problem.H * compact_rows(sequences);
  if (queries == 0) return 1;
  const PassKernel kernel = row_pass_kernel(problem.dtype, problem.D, narrow);
  const std::int64_t out_bytes = problem.B * problem.out_heads() * problem.N *
                                 static_cast<std::int64_t>(size_of(problem.out_dtype));
  const int keys = longest(sequences, &PassSequence::N);
  return choose_key_splits(
      {.items = problem.H * tiles_of(sequences, &PassSequence::M, kernel.rows),
       .key_tiles = (keys + kernel.stream_rows - 1) / kernel.stream_rows,
       .slots = std::int64_t{device.sm_count} * kernel.ctas_per_sm,
       .limit = out_bytes / (queries * static_cast<std::int64_t>(sizeof(float)))});
}

Launch plan(const ColReduce::Problem& problem,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo& device) {
  const std::vector<PassSequence> sequences = pass_sequences(problem);
  const bool narrow = longest(sequences, &PassSequence::M) <= 64;
  return plan_passes(problem, sequences, tensors, workspace, device,
                     {.narrow = narrow, .splits = key_splits(problem, sequences, narrow, device)});
}

}  // namespace

extern constinit const Backend<ColReduce> split_k;
constinit const Backend<ColReduce> split_k = {
    .info = {.id = "split_k",
             .summary = "mma_sm80 with the keys of pass 1 split over CTAs",
             .memory = MemorySpace::kDevice,
             .math = "16-bit mma, fp32 accumulate, ex2.approx",
             .numerics = NumericsClass::kFp32,
             .deterministic = true},
    .supports = mma_supports,
    .workspace_bytes = mma_workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
