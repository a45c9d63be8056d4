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
//   its loads wgmma_tiles.cuh, the passes wgmma_rows.cuh and wgmma_columns.cuh, the choices
//   wgmma_choices.h.
#include <cmath>
#include <string>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/merge_parts.h"
#include "impls/colreduce/plain_problem.h"
#include "impls/colreduce/wgmma_sm90.h"
#include "impls/common/online_softmax.cuh"

namespace attn::colreduce {
namespace {

RowSplitShape split_shape(const ColReduce::Problem& problem, const DeviceInfo& device) {
  const auto out_size = static_cast<std::int64_t>(size_of(problem.out_dtype));
  return {.heads = problem.B * problem.H,
          .M = problem.M,
          .N = problem.N,
          .D = problem.D,
          .out_bytes = problem.B * problem.H * problem.N * out_size,
          .sm_count = device.sm_count};
}

Support supports(const ColReduce::Problem& problem, const DeviceInfo& device) {
  if (Support plain = takes_plain_only(problem); !plain) return plain;
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
  if (problem.B * problem.H * lse_pitch(problem.M) >= 2 * kRowLimit)
    return Support::no("B * H * M, with M rounded up to a multiple of 4, must be below 2^31");
  if (problem.B * problem.H * (lse_pitch(problem.M) - problem.M) * 4 > kExtraBytes)
    return Support::no(
        "the lse of B * H heads, padded to multiples of 16 bytes, exceeds 4 MiB more");
  if (problem.B * problem.H * (problem.M / 64 + problem.N / 64 + 2) > 2 * kRowLimit)
    return Support::no("B * H * (M / 64 + N / 64 + 2) must be at most 2^31");
  const WgmmaKernel kernel = wgmma_column_kernel(problem.dtype, problem.D, false);
  if (device.shared_bytes_per_block < static_cast<std::size_t>(kernel.shared_bytes))
    return Support::no("needs " + std::to_string(kernel.shared_bytes) + " bytes of shared memory");
  return Support::yes();
}

std::size_t workspace_bytes(const ColReduce::Problem& problem, const DeviceInfo& device) {
  return static_cast<std::size_t>(wgmma_workspace(split_shape(problem, device)));
}

/// A kernel bound to its arguments and grid.
struct BoundPass {
  WgmmaKernel kernel;
  WgmmaArguments arguments;
  unsigned ctas = 1;
  bool overlaps = false;  ///< may start while the kernel before it ends

  void enqueue(Stream stream) const {
    WgmmaArguments copy = arguments;
    void* parameters[] = {&copy};
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(ctas);
    config.blockDim = dim3(static_cast<unsigned>(kernel.threads));
    config.dynamicSmemBytes = static_cast<std::size_t>(kernel.shared_bytes);
    config.stream = static_cast<cudaStream_t>(stream.handle);
    config.attrs = &attribute;
    config.numAttrs = overlaps ? 1 : 0;
    CUDA_CHECK(cudaLaunchKernelExC(&config, kernel.function, parameters));
  }
  KernelUse use() const { return {kernel.function, static_cast<std::size_t>(kernel.shared_bytes)}; }
};

/// The pass that keeps tiles of `stationary` and streams `stream`, each read by `*_sharing` query
/// heads. `arguments` comes with its splits and outputs.
BoundPass bind(const ColReduce::Problem& problem,
               const WgmmaKernel& kernel,
               const TensorView& stationary,
               const TensorView& stream,
               WgmmaArguments arguments,
               const DeviceInfo& device) {
  const auto sharing = [&](const TensorView& view) {
    return static_cast<std::uint32_t>(problem.H / view.shape[1]);
  };
  const std::int64_t rows = stationary.shape[2];
  const std::int64_t heads = problem.B * problem.H;
  const std::int64_t units = (rows + kWgmmaRows - 1) / kWgmmaRows * arguments.splits;
  const std::int64_t stream_bytes = stream.shape[2] * problem.D * 2 / sharing(stream);
  arguments.stationary = {make_tensor_map(stationary, kWgmmaRows), sharing(stationary)};
  arguments.stream = {make_tensor_map(stream, kernel.stream_rows), sharing(stream)};
  arguments.mask = problem.attention_mask();
  arguments.lse_pitch = static_cast<std::uint32_t>(lse_pitch(problem.M));
  arguments.order.heads = static_cast<std::uint32_t>(heads);
  arguments.order.units = static_cast<std::uint32_t>(units);
  arguments.order.group = choose_group(problem.mask != Mask::kNone, heads, stream_bytes,
                                       static_cast<std::int64_t>(device.l2_bytes));
  arguments.rows = static_cast<int>(rows);
  arguments.H = static_cast<std::uint32_t>(problem.H);
  arguments.items = static_cast<std::uint32_t>(heads * units);
  arguments.scale_log2 = static_cast<float>(problem.scale_value() * kLog2E);
  CUDA_CHECK(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kernel.shared_bytes));
  return {kernel, arguments, choose_ctas(heads * units, device.sm_count)};
}

BoundPass bind_rows(const ColReduce::Problem& problem,
                    const ColReduce::Tensors& tensors,
                    float* lse_log2,
                    int splits,
                    const DeviceInfo& device) {
  WgmmaArguments arguments{};
  arguments.splits = static_cast<std::uint32_t>(splits);
  arguments.lse_log2 = lse_log2;
  arguments.lse_without_key = splits > 1 ? -INFINITY : INFINITY;
  // Late queries see most keys. Pass 2 starts where this one ends, at the first head, whose keys
  // are then still in L2.
  arguments.order.heads_backwards = true;
  arguments.order.units_backwards = true;
  return bind(problem, wgmma_row_kernel(problem.dtype, problem.D), tensors.q, tensors.k, arguments,
              device);
}

BoundPass bind_columns(const ColReduce::Problem& problem,
                       const ColReduce::Tensors& tensors,
                       float* lse_log2,
                       const DeviceInfo& device) {
  const WgmmaKernel kernel =
      wgmma_column_kernel(problem.dtype, problem.D, problem.reduction == Reduction::kMax);
  WgmmaArguments arguments{};
  arguments.lse_map =
      make_vector_map(lse_log2, problem.B * problem.H * lse_pitch(problem.M), kernel.stream_rows);
  arguments.out = tensors.out.data;
  arguments.out_dtype = problem.out_dtype;
  arguments.divisor = divisor_of(problem);
  return bind(problem, kernel, tensors.k, tensors.q, arguments, device);
}

Launch plan(const ColReduce::Problem& problem,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo& device) {
  const RowSplits splits = choose_row_splits(split_shape(problem, device));
  const std::int64_t queries = problem.B * problem.H * lse_pitch(problem.M);  // with padding
  auto* lse_log2 = static_cast<float*>(workspace.data);
  float* part_lse = splits.parts == 1  ? lse_log2
                    : splits.in_output ? static_cast<float*>(tensors.out.data)
                                       : lse_log2 + queries;
  const BoundPass rows = bind_rows(problem, tensors, part_lse, splits.parts, device);
  BoundPass columns = bind_columns(problem, tensors, lse_log2, device);
  columns.overlaps = splits.parts == 1;

  Launch launch;
  launch.note = "key splits " + std::to_string(splits.parts) + ", " + std::to_string(kWgmmaRows) +
                "x" + std::to_string(columns.kernel.stream_rows) + ", " +
                std::to_string(columns.kernel.stages) + " stages";
  launch.kernels = {rows.use(), columns.use()};
  if (splits.parts > 1) launch.kernels.push_back(merge_parts_use());
  launch.enqueue = [=](Stream stream) {
    rows.enqueue(stream);
    if (splits.parts > 1) enqueue_merge_parts(part_lse, lse_log2, splits.parts, queries, stream);
    columns.enqueue(stream);
  };
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
