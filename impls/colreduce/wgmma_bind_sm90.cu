// Binds the passes of wgmma_sm90 to a problem.
#include <cmath>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/wgmma_bind.h"
#include "impls/common/online_softmax.cuh"
#include "impls/common/shared_limit.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;

/// What a pass is given whatever it computes.
WgmmaOptionArguments arguments_of(const Problem& problem,
                                  const WgmmaPlan& plan,
                                  const WgmmaNumbers& numbers) {
  WgmmaOptionArguments arguments{};
  arguments.numbers = numbers;
  arguments.mask = numbers.whole.mask;
  arguments.order = numbers.order;
  arguments.H = numbers.H;
  arguments.splits = numbers.splits;
  arguments.items = numbers.chains;
  arguments.lse_pitch = static_cast<std::uint32_t>(plan.sequences.lse_pitch);
  arguments.scale_log2 = static_cast<float>(problem.scale_value() * kLog2E);
  if (problem.softcap > 0) {
    arguments.cap = SoftCap::of(problem.softcap * kLog2E, problem.scale_value() / problem.softcap);
    arguments.scale_log2 = 1;
  }
  return arguments;
}

BoundPass bind(const WgmmaKernel& kernel,
               const WgmmaOptionArguments& arguments,
               const DeviceInfo& device) {
  raise_shared_limit(kernel.function, static_cast<std::size_t>(kernel.shared_bytes));
  return {kernel, arguments, choose_ctas(arguments.items, device.sm_count)};
}

/// The contributing queries alone; of a ragged problem all, whose sequences say where theirs are.
TensorView queries_of(const Problem& problem, const TensorView& q, const WgmmaPlan& plan) {
  if (problem.is_ragged()) return q;
  const WgmmaSequence& whole = plan.sequences.list.front();
  TensorView view = q;
  view.data = static_cast<char*>(q.data) +
              q.offset(0, 0, whole.q_first) * static_cast<std::int64_t>(size_of(q.dtype));
  view.shape[2] = whole.mask.M;
  return view;
}

}  // namespace

WgmmaKernel column_kernel(const Problem& problem, const WgmmaPlan& plan) {
  const bool is_max = problem.reduction == Reduction::kMax;
  if (!plan.column_options) return wgmma_column_kernel(problem.dtype, problem.D, is_max);
  if (plan.column_pack < wgmma_stream_rows(problem.D))
    return wgmma_packed_column_kernel(problem.dtype, problem.D, is_max);
  return wgmma_option_column_kernel(problem.dtype, problem.D, is_max);
}

void BoundPass::enqueue(Stream stream) const {
  WgmmaOptionArguments copy = arguments;
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

BoundPass bind_rows(const Problem& problem,
                    const ColReduce::Tensors& tensors,
                    const WgmmaPlan& plan,
                    const WgmmaTables& tables,
                    float* lse_log2,
                    const DeviceInfo& device) {
  const WgmmaKernel kernel = plan.row_options ? wgmma_option_row_kernel(problem.dtype, problem.D)
                                              : wgmma_row_kernel(problem.dtype, problem.D);
  const TensorView q = queries_of(problem, tensors.q, plan);
  WgmmaOptionArguments arguments = arguments_of(problem, plan, row_numbers(problem, plan, device));
  arguments.stationary = {make_tensor_map(q, plan.row_pack, kWgmmaRows / plan.row_pack), 1};
  arguments.stream = {make_tensor_map(tensors.k, kernel.stream_rows), arguments.numbers.sharing};
  arguments.rows = static_cast<int>(arguments.mask.M);
  arguments.lse_log2 = lse_log2;
  arguments.lse_without_key = plan.splits.parts > 1 ? -INFINITY : INFINITY;
  arguments.numbers.sequences = tables.sequences;
  arguments.numbers.units = tables.row_units;
  return bind(kernel, arguments, device);
}

BoundPass bind_columns(const Problem& problem,
                       const ColReduce::Tensors& tensors,
                       const WgmmaPlan& plan,
                       const WgmmaTables& tables,
                       float* lse_log2,
                       float* part_columns,
                       const DeviceInfo& device) {
  const WgmmaKernel kernel = column_kernel(problem, plan);
  const TensorView q = queries_of(problem, tensors.q, plan);
  const std::int64_t heads = problem.B * problem.H;
  const std::int64_t pitch = plan.sequences.lse_pitch;
  WgmmaOptionArguments arguments =
      arguments_of(problem, plan, column_numbers(problem, plan, device));
  arguments.stationary = {make_tensor_map(tensors.k, kWgmmaRows), arguments.numbers.sharing};
  arguments.rows = static_cast<int>(arguments.mask.N);
  arguments.divisor = divisor_of(problem);
  arguments.out = plan.head_parts() > 1 ? part_columns : tensors.out.data;
  arguments.out_dtype = plan.head_parts() > 1 ? DType::kF32 : problem.out_dtype;
  if (!plan.column_options) {
    arguments.stream = {make_tensor_map(q, kernel.stream_rows), 1};
    arguments.lse_map = make_vector_map(lse_log2, heads * pitch, kernel.stream_rows);
    return bind(kernel, arguments, device);
  }
  const int tile_heads = kernel.stream_rows / plan.column_pack;
  arguments.stream = {make_tensor_map(q, plan.column_pack, tile_heads), 1};
  arguments.lse_map = make_matrix_map(lse_log2, pitch, heads, plan.column_pack, tile_heads);
  arguments.numbers.sequences = tables.sequences;
  arguments.numbers.units = tables.column_units;
  arguments.out_pitch = problem.N;
  arguments.max_over_heads = problem.heads == Heads::kMax;
  arguments.averaged = problem.heads == Heads::kMean ? static_cast<float>(problem.H) : 1.0f;
  return bind(kernel, arguments, device);
}

}  // namespace attn::colreduce
