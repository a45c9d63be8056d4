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
// Memory: the stationary tile is A fragments in registers (64 of 128 at D = 128). Streamed tiles
//   are 64 rows, 17 KiB with padding, in 3 stages of cp.async: 52 KiB a CTA. The workspace holds
//   the lse, 4 B H M bytes.
// Traffic: 4 B H M N D FLOP over both passes and 2 B H M N exponentials; each pass reads the
//   streamed operand once per stationary tile, from L2. Limits: the mma.sync rate at D = 128, the
//   exponential unit at D = 64, HBM where there are few queries (both passes read all keys).
// Rounding: products exact, scores and all sums fp32; scale and reference in one FFMA; ex2.approx
//   (2^-22); P is never stored. A query whose visible scores are all -inf has P = 0.
// Source: FlashAttention-2 (Dao, 2023) for stationary rows and late normalisation; PTX ISA, "Matrix
//   Fragments for mma.m16n8k16" for layouts. The kernel is mma_pipeline.cuh (with mma_tiles.cuh and
//   mma_loader.cuh), what it computes in each pass mma_rows.cuh, mma_columns.cuh and, for few
//   queries, mma_few_queries.cuh.
#include <cmath>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/key_splits.h"
#include "impls/colreduce/mma_sm80.h"
#include "impls/colreduce/plain_problem.h"
#include "impls/common/online_softmax.cuh"

namespace attn::colreduce {
namespace {

PassOperand operand(const TensorView& view, std::int64_t sharing) {
  return {.data = view.data,
          .batch_stride = view.strides[0],
          .head_stride = view.strides[1],
          .row_stride = view.strides[2],
          .rows = static_cast<int>(view.shape[2]),
          .sharing = static_cast<std::uint32_t>(sharing)};
}

std::int64_t tiles_of(std::int64_t rows, int tile) { return (rows + tile - 1) / tile; }

PassLaunch bind(const ColReduce::Problem& problem,
                const PassKernel& kernel,
                PassArguments arguments,
                const DeviceInfo& device) {
  const double scale = problem.scale_value();
  arguments.mask = problem.attention_mask();
  arguments.D = static_cast<int>(problem.D);
  arguments.H = static_cast<std::uint32_t>(problem.H);
  arguments.heads = static_cast<std::uint32_t>(problem.B * problem.H);
  arguments.tiles = static_cast<std::uint32_t>(tiles_of(arguments.stationary.rows, kernel.rows));
  arguments.items = arguments.heads * arguments.tiles * arguments.splits;
  arguments.scale_log2 = static_cast<float>(std::fabs(scale) * kLog2E);
  arguments.negate = scale < 0;
  // A CTA that goes on to the next short item loads it while it computes this one; long items
  // balance better when the hardware hands them out.
  constexpr std::int64_t kShortTiles = 2;
  const bool in_turn = tiles_of(arguments.stream.rows, kernel.stream_rows) <= kShortTiles;
  const auto resident = static_cast<std::uint32_t>(device.sm_count * kernel.ctas_per_sm);
  const unsigned ctas = in_turn && resident < arguments.items ? resident : arguments.items;
  CUDA_CHECK(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kernel.shared_bytes));
  return {kernel, arguments, ctas};
}

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
bool takes_narrow_rows(const ColReduce::Problem& problem, const DeviceInfo& device) {
  const PassKernel wide = row_pass_kernel(problem.dtype, problem.D, false);
  const std::int64_t items = problem.B * problem.H * tiles_of(problem.M, wide.rows);
  return problem.M <= 64 || items <= device.sm_count;
}

Launch plan(const ColReduce::Problem& problem,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo& device) {
  float* lse_log2 = static_cast<float*>(workspace.data);
  const PassLaunch rows =
      bind_row_pass(problem, tensors, lse_log2, takes_narrow_rows(problem, device), 1, device);
  const PassLaunch columns = bind_column_pass(problem, tensors, lse_log2, device);
  return {.enqueue =
              [=](Stream stream) {
                rows.enqueue(stream);
                columns.enqueue(stream);
              },
          .note = tile_note(rows, columns),
          .kernels = {rows.use(), columns.use()}};
}

}  // namespace

Support mma_supports(const ColReduce::Problem& problem, const DeviceInfo& device) {
  if (Support plain = takes_plain_only(problem); !plain) return plain;
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
  if (problem.B * problem.H * (problem.M / 64 + problem.N / 64 + 2) > 2 * kRowLimit)
    return Support::no("B * H * (M / 64 + N / 64 + 2) must be at most 2^31");
  const PassKernel kernel = column_pass_kernel(problem.dtype, problem.D, false);
  if (device.shared_bytes_per_block < static_cast<std::size_t>(kernel.shared_bytes))
    return Support::no("needs " + std::to_string(kernel.shared_bytes) + " bytes of shared memory");
  return Support::yes();
}

std::size_t mma_workspace_bytes(const ColReduce::Problem& problem, const DeviceInfo&) {
  return static_cast<std::size_t>(problem.B * problem.H * problem.M) * sizeof(float);
}

void PassLaunch::enqueue(Stream stream) const {
  PassArguments copy = arguments;
  void* parameters[] = {&copy};
  CUDA_CHECK(cudaLaunchKernel(kernel.function, dim3(ctas), dim3(kernel.threads), parameters,
                              static_cast<std::size_t>(kernel.shared_bytes),
                              static_cast<cudaStream_t>(stream.handle)));
}

PassLaunch bind_row_pass(const ColReduce::Problem& problem,
                         const ColReduce::Tensors& tensors,
                         float* lse_log2,
                         bool narrow,
                         int splits,
                         const DeviceInfo& device) {
  PassArguments arguments;
  arguments.stationary = operand(tensors.q, 1);
  arguments.stream = operand(tensors.k, problem.H / problem.key_heads());
  arguments.splits = static_cast<std::uint32_t>(splits);
  arguments.lse_log2 = lse_log2;
  arguments.lse_without_key = splits > 1 ? -INFINITY : INFINITY;
  // From the end: under a causal mask late queries see most keys. Pass 2 starts where this one
  // ends, at the first head, whose keys are then still in L2.
  arguments.backwards = true;
  return bind(problem, row_pass_kernel(problem.dtype, problem.D, narrow), arguments, device);
}

PassLaunch bind_column_pass(const ColReduce::Problem& problem,
                            const ColReduce::Tensors& tensors,
                            float* lse_log2,
                            const DeviceInfo& device) {
  const PassOperand queries = operand(tensors.q, 1);
  const PassOperand keys = operand(tensors.k, problem.H / problem.key_heads());
  PassArguments arguments;
  arguments.lse_log2 = lse_log2;
  arguments.out = tensors.out.data;
  arguments.out_dtype = problem.out_dtype;
  arguments.divisor = divisor_of(problem);
  const bool is_max = problem.reduction == Reduction::kMax;
  const PassKernel few = few_queries_pass_kernel(problem.dtype, problem.D, is_max);
  if (problem.M <= few.rows) {
    arguments.stationary = queries;
    arguments.stream = keys;
    const std::int64_t key_tiles = tiles_of(problem.N, few.stream_rows);
    arguments.splits = static_cast<std::uint32_t>(
        choose_key_splits({.items = problem.B * problem.H,
                           .key_tiles = key_tiles,
                           .slots = std::int64_t{device.sm_count} * few.ctas_per_sm,
                           .limit = key_tiles,
                           .merge = false}));
    return bind(problem, few, arguments, device);
  }
  arguments.stationary = keys;
  arguments.stream = queries;
  return bind(problem, column_pass_kernel(problem.dtype, problem.D, is_max), arguments, device);
}

std::string tile_note(const PassLaunch& row_pass, const PassLaunch& column_pass) {
  const auto tile = [](const PassKernel& kernel) {
    return std::to_string(kernel.rows) + "x" + std::to_string(kernel.stream_rows);
  };
  return "rows " + tile(row_pass.kernel) + ", columns " + tile(column_pass.kernel) + ", " +
         std::to_string(row_pass.kernel.stages) + " stages";
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
