// The column reduction of mma_sm80 with the keys of pass 1 split over CTAs.
//
// Computes what mma_sm80 does with the same kernels; where queries are too few to occupy the
// device, pass 1 gives each stationary tile of queries to several CTAs, each with a part of the
// keys.
// Mapping: pass 1 grid = heads x parts x query tiles; one thread a query merges the parts; pass 2
//   needs no split, its stationary tiles are the many keys.
// Memory: parts leave their lse, [parts, B, H, M] fp32, in the output buffer, which pass 2
//   overwrites: the workspace stays 4 B H M, and 4 M parts must fit in a head's output.
// Traffic: as mma_sm80 plus 8 B H M per part. With few queries both passes are streams over K: the
//   limit is HBM, less what pass 2 still finds in L2 of the keys that pass 1 read last.
// Rounding: as mma_sm80; the merge adds fp32 terms 2^(lse_part - max) in a fixed order.
// Source: split-KV decoding (FlashDecoding: Dao, Haziza, Massa and Sizov, 2023) for splitting the
//   keys and merging by lse.
#include <string>

#include "impls/colreduce/key_splits.h"
#include "impls/colreduce/merge_parts.h"
#include "impls/colreduce/mma_sm80.h"

namespace attn::colreduce {
namespace {

bool takes_narrow_rows(const ColReduce::Problem& problem) { return problem.M <= 64; }

int key_splits(const ColReduce::Problem& problem, const DeviceInfo& device) {
  const PassKernel kernel = row_pass_kernel(problem.dtype, problem.D, takes_narrow_rows(problem));
  const auto tiles = [](std::int64_t rows, int tile) { return (rows + tile - 1) / tile; };
  const std::int64_t out_bytes_per_head =
      problem.N * static_cast<std::int64_t>(size_of(problem.out_dtype));
  return choose_key_splits(
      {.items = problem.B * problem.H * tiles(problem.M, kernel.rows),
       .key_tiles = tiles(problem.N, kernel.stream_rows),
       .slots = std::int64_t{device.sm_count} * kernel.ctas_per_sm,
       .limit = out_bytes_per_head / (problem.M * static_cast<std::int64_t>(sizeof(float)))});
}

Launch plan(const ColReduce::Problem& problem,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo& device) {
  const int splits = key_splits(problem, device);
  float* lse_log2 = static_cast<float*>(workspace.data);
  float* part_lse = splits > 1 ? static_cast<float*>(tensors.out.data) : lse_log2;
  const PassLaunch rows =
      bind_row_pass(problem, tensors, part_lse, takes_narrow_rows(problem), splits, device);
  const PassLaunch columns = bind_column_pass(problem, tensors, lse_log2, device);
  const std::int64_t queries = problem.B * problem.H * problem.M;

  Launch launch;
  launch.note = "key splits " + std::to_string(splits) + ", " + tile_note(rows, columns);
  launch.kernels = {rows.use(), columns.use()};
  if (splits > 1) launch.kernels.push_back(merge_parts_use());
  launch.enqueue = [=](Stream stream) {
    rows.enqueue(stream);
    if (splits > 1) enqueue_merge_parts(part_lse, lse_log2, splits, queries, stream);
    columns.enqueue(stream);
  };
  return launch;
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
