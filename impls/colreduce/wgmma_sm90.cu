// The column reduction in two passes on tensor cores of sm_90 (wgmma), fed by its copy engine.
//
// Computes what mma_sm80 does; products are asynchronous and of a whole warpgroup, copies need no
// thread, and CTAs stay for all their items, each of which is loaded under the one before.
// Mapping: one CTA of four warpgroups an SM takes items in turn. Pass 1: an item is 256 queries of
//   a head, or one of several parts of the keys where queries are few; pass 2: 256 keys, so that an
//   accumulator's row is a column of P and its sum never leaves the thread until the end: no
//   atomics, one fixed order. A warpgroup holds 64 stationary rows, a thread the scores of two of
//   them with a quarter of the streamed rows.
// Memory: the stationary tile passes through 64 KiB of shared memory (at D = 128) into 32 registers
//   of A fragments, so that the next one loads at once; streamed tiles of 128 rows, 32 KiB, in 4
//   stages, refilled by the last of 16 warps that has read one. 64 accumulator registers of at most
//   128. The workspace holds the lse, 4 B H M bytes, and up to 4 MiB of padding and parts.
// Traffic: 4 B H M N D FLOP over both passes and 2 B H M N exponentials; each pass reads the
//   streamed operand once per 256 stationary rows, from L2. Limits: at D = 128 tensor cores and
//   exponential unit alike, at D = 64 the exponential unit, HBM where there are few queries.
// Rounding: products exact, scores and all sums fp32; scale and reference in one FFMA; ex2.approx
//   (2^-22); P is never stored. A query whose visible scores are all -inf has P = 0.
// Source: FlashAttention-3 (Shah et al., 2024) for warpgroups that take turns at the tensor cores;
//   PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions". The kernel is wgmma_pipeline.cuh,
//   its loads wgmma_tiles.cuh, the passes wgmma_rows.cuh and wgmma_columns.cuh; with options also
//   wgmma_option_*.cuh and wgmma_packed_columns.cuh. The choices are wgmma_plan.h, the passes are
//   bound in wgmma_bind_sm90.cu.
#include <cstring>
#include <string>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/device_table.h"
#include "impls/colreduce/lse_tensor.h"
#include "impls/colreduce/merge_heads.h"
#include "impls/colreduce/merge_parts.h"
#include "impls/colreduce/wgmma_bind.h"
#include "impls/common/fill.cuh"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;

Support supports(const Problem& problem, const DeviceInfo& device) {
  if (device.sm != 90) return Support::no("needs sm_90");
  if (problem.dtype == DType::kF32) return Support::no("dtype must be f16 or bf16");
  if (problem.D % 8 != 0) return Support::no("D must be a multiple of 8");
  if (problem.D > 256) return Support::no("D must be at most 256");
  const std::vector<TensorSpec> specs = ColReduce::tensor_specs(problem);
  for (std::size_t i = 0; i < 2; ++i) {  // q and k
    const Support support = tensor_map_supports(specs[i]);
    if (!support.ok) return support;
  }
  constexpr std::int64_t kRowLimit = std::int64_t{1} << 30;  // row numbers are 32-bit in kernels
  if (problem.M > kRowLimit || problem.N > kRowLimit)
    return Support::no("M and N must be at most 2^30");
  if (problem.B * problem.H * (problem.M / 64 + problem.N / 64 + 2) > 2 * kRowLimit)
    return Support::no("B * H * (M / 64 + N / 64 + 2) must be at most 2^31");
  const WgmmaPlan plan = wgmma_plan(problem, device);
  if (plan.lse_bytes >= 8 * kRowLimit)
    return Support::no("B * H * M, with M rounded up to a multiple of 4, must be below 2^31");
  if (plan.lse_bytes + plan.table_bytes > 4 * problem.B * problem.H * problem.M + kExtraBytes)
    return Support::no(
        "the lse of B * H heads, padded to multiples of 16 bytes, and the tables of sequences "
        "exceed 4 MiB more");
  const WgmmaKernel kernel = column_kernel(problem, plan);
  if (device.shared_bytes_per_block < static_cast<std::size_t>(kernel.shared_bytes))
    return Support::no("needs " + std::to_string(kernel.shared_bytes) + " bytes of shared memory");
  return Support::yes();
}

std::size_t workspace_bytes(const Problem& problem, const DeviceInfo& device) {
  return static_cast<std::size_t>(wgmma_plan(problem, device).bytes());
}

/// The words of a ragged problem's tables, as WgmmaTables finds them.
std::vector<std::uint32_t> table_words(const WgmmaPlan& plan) {
  std::vector<std::uint32_t> words(static_cast<std::size_t>(plan.table_bytes) / 4);
  auto* to = reinterpret_cast<char*>(words.data());
  const auto append = [&](const auto& entries) {
    const std::size_t bytes = entries.size() * sizeof(entries[0]);
    std::memcpy(to, entries.data(), bytes);
    to += bytes;
  };
  if (words.empty()) return words;
  append(plan.sequences.list);
  append(plan.row_units);
  append(plan.column_units);
  return words;
}

WgmmaTables tables_at(const WgmmaPlan& plan, const void* data) {
  if (plan.table_bytes == 0) return {};
  const auto* sequences = static_cast<const WgmmaSequence*>(data);
  const auto* units = reinterpret_cast<const WgmmaUnit*>(sequences + plan.sequences.list.size());
  return {sequences, units, units + plan.row_units.size()};
}

/// Everything that one launch runs, in this order.
struct Steps {
  bool returns_lse = false;
  bool takes_lse = false;
  int lse_parts = 1;
  float* part_lse = nullptr;
  float* lse_log2 = nullptr;
  std::int64_t scratch_queries = 0;  // floats of lse_log2
  LseRows lse_rows;
  std::vector<std::uint32_t> table;
  void* table_at = nullptr;
  std::vector<BoundPass> passes;  // rows unless the lse is given, columns; none of an empty problem
  int head_parts = 1;
  float* part_columns = nullptr;
  void* out = nullptr;
  DType out_dtype = DType::kF32;
  std::int64_t outputs = 0;
  bool max_over_heads = false;
  bool clears = false;  // not every output is some sequence's
  bool clears_lse = false;
  std::int64_t lse_rows_total = 0;  // of the tensor

  void enqueue(Stream stream) const {
    if (clears_lse)
      enqueue_fill(lse_rows.tensor, lse_rows_total, -INFINITY,
                   static_cast<cudaStream_t>(stream.handle));
    enqueue_table(table, table_at, stream);
    if (passes.empty()) return clear(out, size_of(out_dtype), stream);
    if (takes_lse) {
      enqueue_take_lse(lse_rows, stream);
    } else {
      passes.front().enqueue(stream);
      if (lse_parts > 1)
        enqueue_merge_parts(part_lse, lse_log2, lse_parts, scratch_queries, stream);
    }
    if (clears && head_parts > 1)
      clear(part_columns, sizeof(float) * static_cast<std::size_t>(head_parts), stream);
    if (clears && head_parts == 1) clear(out, size_of(out_dtype), stream);
    passes.back().enqueue(stream);
    if (head_parts > 1)
      enqueue_merge_heads({.parts = part_columns,
                           .count = head_parts,
                           .elements = outputs,
                           .max = max_over_heads,
                           .out = out,
                           .out_dtype = out_dtype},
                          stream);
    if (returns_lse) enqueue_return_lse(lse_rows, stream);
  }

  void clear(void* data, std::size_t output_bytes, Stream stream) const {
    CUDA_CHECK(cudaMemsetAsync(data, 0, static_cast<std::size_t>(outputs) * output_bytes,
                               static_cast<cudaStream_t>(stream.handle)));
  }
};

Steps steps_of(const Problem& problem,
               const ColReduce::Tensors& tensors,
               const WgmmaPlan& plan,
               Workspace workspace,
               const DeviceInfo& device) {
  auto* base = static_cast<char*>(workspace.data);
  auto* lse_log2 = reinterpret_cast<float*>(base);
  char* tables = base + plan.lse_bytes;
  auto* scratch = reinterpret_cast<float*>(tables + plan.table_bytes);
  Steps steps;
  steps.returns_lse = problem.lse == Lse::kOut;
  steps.takes_lse = problem.lse == Lse::kIn;
  steps.lse_parts = plan.splits.parts;
  steps.part_lse = plan.splits.parts == 1  ? lse_log2
                   : plan.splits.in_output ? static_cast<float*>(tensors.out.data)
                                           : scratch;
  steps.lse_log2 = lse_log2;
  steps.scratch_queries = plan.lse_bytes / 4;
  steps.table = table_words(plan);
  steps.table_at = tables;
  steps.head_parts = static_cast<int>(plan.head_parts());
  steps.part_columns = scratch;
  steps.out = tensors.out.data;
  steps.out_dtype = problem.out_dtype;
  steps.outputs = problem.B * problem.out_heads() * problem.N;
  steps.max_over_heads = problem.heads == Heads::kMax;
  steps.clears = problem.is_ragged();
  steps.clears_lse =
      steps.returns_lse && (problem.is_ragged() || plan.sequences.queries < problem.M);
  steps.lse_rows_total = problem.B * problem.H * problem.M;
  const WgmmaTables at = tables_at(plan, tables);
  steps.lse_rows = {.sequences = at.sequences,
                    .whole = {},
                    .count = problem.B,
                    .H = problem.H,
                    .queries = plan.sequences.queries,
                    .M = problem.M,
                    .pitch = plan.sequences.lse_pitch,
                    .tensor = static_cast<float*>(tensors.lse.data),
                    .lse_log2 = lse_log2};
  if (plan.sequences.list.empty()) return steps;
  steps.lse_rows.whole = plan.sequences.list.front();
  if (problem.is_ragged())
    steps.lse_rows.count = static_cast<std::int64_t>(plan.sequences.list.size());
  if (!steps.takes_lse)
    steps.passes.push_back(bind_rows(problem, tensors, plan, at, steps.part_lse, device));
  steps.passes.push_back(bind_columns(problem, tensors, plan, at, lse_log2, scratch, device));
  steps.passes.back().overlaps = !steps.takes_lse && steps.lse_parts == 1 && !steps.clears;
  return steps;
}

Launch plan(const Problem& problem,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo& device) {
  const WgmmaPlan plan = wgmma_plan(problem, device);
  const Steps steps = steps_of(problem, tensors, plan, workspace, device);
  Launch launch;
  for (const BoundPass& pass : steps.passes) launch.kernels.push_back(pass.use());
  if (steps.passes.empty()) {
    launch.note = "nothing to reduce";
  } else {
    const WgmmaKernel& kernel = steps.passes.back().kernel;
    launch.note = "key splits " + std::to_string(plan.splits.parts) + ", " +
                  std::to_string(kWgmmaRows) + "x" + std::to_string(kernel.stream_rows) + ", " +
                  std::to_string(kernel.stages) + " stages";
  }
  if (plan.column_options)
    launch.note += ", " + std::to_string(kWgmmaRows / plan.row_pack) + " heads a tile, " +
                   std::to_string(plan.span) + " a CTA";
  if (steps.lse_parts > 1) launch.kernels.push_back(merge_parts_use());
  if (steps.head_parts > 1) launch.kernels.push_back(merge_heads_use());
  if (steps.takes_lse) launch.kernels.push_back(take_lse_use());
  if (steps.returns_lse) launch.kernels.push_back(return_lse_use());
  if (!steps.table.empty()) launch.kernels.push_back(table_use());
  launch.enqueue = [steps](Stream stream) { steps.enqueue(stream); };
  return launch;
}

}  // namespace

extern constinit const Backend<ColReduce> wgmma_sm90;
constinit const Backend<ColReduce> wgmma_sm90 = {
    .info = {.id = "wgmma_sm90",
             .summary = "two passes on wgmma, tiles by TMA, CTAs that stay for all their items",
             .memory = MemorySpace::kDevice,
             .math = "16-bit wgmma, fp32 accumulate, ex2.approx",
             .numerics = NumericsClass::kFp32,
             .deterministic = true},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
