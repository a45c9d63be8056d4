// The column reduction on tensor cores (mma.sync, sm_80 and up), in two passes over the scores.
//
// Computes what fused_simt does; the dot products move to tensor cores and the key tiles into a
// ring of asynchronous copies.
// Mapping: pass 1 keeps 128 queries of one head in a CTA (64 where there are few) and streams the
//   keys; pass 2 keeps 128 keys and streams the queries with their lse, so that an accumulator's
//   row is a column of P and its sum never leaves the thread until the end: no atomics, one fixed
//   order. CTA = 4 warps of 32 stationary rows; 4 CTAs an SM. Where one tile of 64 holds all queries
//   of a head, pass 2 keeps the queries as well (8 warps, 2 CTAs an SM) and streams each key once.
//   Items of one or two streamed tiles are taken in turn by as many CTAs as the device holds.
//   Heads that are combined are one item: its keys stand still while the heads' queries pass, and
//   keys that heads share stay in registers. Where that leaves SMs idle, CTAs share the heads.
// Memory: the stationary tile is A fragments in registers (64 of 128 at D = 128). Streamed tiles
//   are 64 rows, 17 KiB with padding, in 3 stages of cp.async: 52 KiB a CTA. The workspace holds
//   the lse of the queries that contribute, at most 4 B H M bytes, and parts of combined heads.
// Traffic: 4 B H M N D FLOP over both passes and 2 B H M N exponentials; each pass reads the
//   streamed operand once per stationary tile, from L2. Limits: the mma.sync rate at D = 128, the
//   exponential unit at D = 64, HBM where there are few queries (both passes read all keys).
// Rounding: products exact, scores and all sums fp32; scale and reference in one FFMA; ex2.approx
//   (2^-22); P is never stored. A query whose visible scores are all -inf has P = 0.
// Source: FlashAttention-2 (Dao, 2023) for stationary rows and late normalisation; PTX ISA, "Matrix
//   Fragments for mma.m16n8k16" for layouts. The kernel is mma_pipeline.cuh (with mma_tiles.cuh,
//   mma_options.cuh and mma_loader.cuh), what it computes in each pass mma_rows.cuh,
//   mma_columns.cuh and, for few queries, mma_few_queries.cuh; mma_passes.cu binds the passes.
#include <vector>

#include "impls/colreduce/mma_sm80.h"

namespace attn::colreduce {
namespace {

/// Loads are 16 bytes: every stride that moves must keep that alignment.
bool rows_are_aligned(const TensorSpec& spec) {
  for (int axis = 0; axis < kMaxRank - 1; ++axis) {
    const auto i = static_cast<std::size_t>(axis);
    if (spec.shape[i] > 1 && spec.strides[i] % 8 != 0) return false;
  }
  return true;
}

/// 64 queries a CTA, more warps for each: for few queries, or where tiles of 128 leave every SM with
/// one CTA of four warps at most.
bool takes_narrow_rows(const ColReduce::Problem& problem,
                       const std::vector<PassSequence>& sequences,
                       const DeviceInfo& device) {
  const PassKernel wide = row_pass_kernel(problem.dtype, problem.D, false);
  const std::int64_t items = problem.H * tiles_of(sequences, &PassSequence::M, wide.rows);
  return longest(sequences, &PassSequence::M) <= 64 || items <= device.sm_count;
}

Launch plan(const ColReduce::Problem& problem,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo& device) {
  const std::vector<PassSequence> sequences = pass_sequences(problem);
  return plan_passes(problem, sequences, tensors, workspace, device,
                     {.narrow = takes_narrow_rows(problem, sequences, device)});
}

}  // namespace

Support mma_supports(const ColReduce::Problem& problem, const DeviceInfo& device) {
  if (device.sm < 80) return Support::no("needs sm_80 or newer");
  if (problem.dtype == DType::kF32) return Support::no("dtype must be f16 or bf16");
  if (problem.D % 8 != 0) return Support::no("D must be a multiple of 8");
  if (problem.D > 256) return Support::no("D must be at most 256");
  const std::vector<TensorSpec> specs = ColReduce::tensor_specs(problem);
  for (std::size_t i = 0; i < 2; ++i) {  // q and k
    if (!rows_are_aligned(specs[i])) return Support::no("strides must be multiples of 8 elements");
    if (specs[i].offset_elements % 8 != 0)
      return Support::no("q and k must start at multiples of 16 bytes");
  }
  constexpr std::int64_t kRowLimit = std::int64_t{1} << 30;  // row numbers are 32-bit in kernels
  if (problem.M > kRowLimit || problem.N > kRowLimit)
    return Support::no("M and N must be at most 2^30");
  // Tiles have at least 64 rows, and keys are split only where tiles are few.
  const std::int64_t sequences =
      problem.is_packed() ? static_cast<std::int64_t>(problem.cu_q.size()) - 1 : problem.B;
  if (problem.B * problem.H * (problem.M / 64 + problem.N / 64) + 2 * problem.H * sequences >
      2 * kRowLimit)
    return Support::no("H * (B * (M / 64 + N / 64) + 2 * sequences) must be at most 2^31");
  const PassKernel kernel = column_pass_kernel(problem.dtype, problem.D, false);
  if (device.shared_bytes_per_block < static_cast<std::size_t>(kernel.shared_bytes))
    return Support::no("needs " + std::to_string(kernel.shared_bytes) + " bytes of shared memory");
  return Support::yes();
}

extern constinit const Backend<ColReduce> mma_sm80;
constinit const Backend<ColReduce> mma_sm80 = {
    .info = {.id = "mma_sm80",
             .summary = "two passes on tensor cores, keys stationary in the second",
             .memory = MemorySpace::kDevice,
             .math = "16-bit mma, fp32 accumulate, ex2.approx",
             .numerics = NumericsClass::kFp32,
             .deterministic = true},
    .supports = mma_supports,
    .workspace_bytes = mma_workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
