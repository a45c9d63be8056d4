// Host side of the row-resident kernels: what they take, their workspace, their launch.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <string>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/merge_heads.h"
#include "impls/colreduce/plain_problem.h"
#include "impls/colreduce/resident_choices.h"
#include "impls/colreduce/resident_exchange.cuh"
#include "impls/colreduce/resident_sm90.h"
#include "impls/common/shared_limit.h"

namespace attn::colreduce {
namespace {

/// Keys of a head that the device can hold.
std::int64_t most_keys(const ResidentKernel& kernel, const DeviceInfo& device) {
  return std::int64_t{device.sm_count} * kernel.chunks * kChunkKeys;
}

ResidentKernel kernel_for(const ColReduce::Problem& problem,
                          const DeviceInfo& device,
                          ResidentKernels kernels) {
  ResidentVariant variant{
      .is_max = problem.reduction == Reduction::kMax,
      .masked = problem.contributing_mask().diagonal < problem.N || problem.N % kChunkKeys != 0};
  const ResidentKernel kernel = kernels(problem.dtype, problem.D, variant);
  variant.wide = problem.N > most_keys(kernel, device);
  return variant.wide ? kernels(problem.dtype, problem.D, variant) : kernel;
}

/// The queries that contribute: a shorter q.
TensorView contributing_rows(const ColReduce::Problem& problem, TensorView q) {
  const RowRange queries = problem.contributing();
  const std::int64_t bytes =
      q.offset(0, 0, queries.begin) * static_cast<std::int64_t>(size_of(q.dtype));
  q.data = static_cast<char*>(q.data) + bytes;
  q.shape[2] = queries.count();
  return q;
}

/// Columns of all output heads.
std::int64_t outputs_of(const ColReduce::Problem& problem) {
  return problem.B * problem.out_heads() * problem.N;
}

SliceChoice slices_for(const ColReduce::Problem& problem,
                       const DeviceInfo& device,
                       ResidentKernels kernels) {
  // Little: packets have the rest of what a workspace may be, and combined heads are not to be stored.
  constexpr std::int64_t kSpare = std::int64_t{1} << 20;
  const std::int64_t part = std::max<std::int64_t>(4 * outputs_of(problem), 1);
  return choose_slice({.heads = problem.B * problem.H,
                       .combined = problem.combined_heads(),
                       .chunks = (problem.N + kChunkKeys - 1) / kChunkKeys,
                       .tiles = (problem.contributing().count() + kTileRows - 1) / kTileRows,
                       .most_parts = std::max<std::int64_t>(kSpare / part, 1),
                       .sm_count = device.sm_count,
                       .most_chunks = kernel_for(problem, device, kernels).chunks});
}

/// Of an output head: what several teams add up is merged.
std::int64_t parts_of(const ColReduce::Problem& problem, const SliceChoice& slices) {
  return problem.combined_heads() / slices.slice;
}

/// Elements of 8 bytes before `results`, before `totals`, before parts of outputs, and in all.
struct WorkspaceLayout {
  std::size_t results;
  std::size_t totals;
  std::size_t parts;
  std::size_t end;
};

WorkspaceLayout layout_of(const ColReduce::Problem& problem, const SliceChoice& slices) {
  const TeamChoice& team = slices.team;
  constexpr std::size_t kPackets = std::size_t{kExchangeSlots} * kTileRows;
  const auto ctas = static_cast<std::size_t>(team.ranks) * static_cast<std::size_t>(team.teams);
  const std::size_t results = ctas * kPackets;
  const std::size_t shared = static_cast<std::size_t>(team.teams) * kPackets;
  const std::size_t totals = results + shared;
  const std::size_t parts =
      totals + static_cast<std::size_t>(team.teams) * (kExchangeSlots * kTileRows * kTotalSpread);
  const std::int64_t count = parts_of(problem, slices);
  const auto floats = static_cast<std::size_t>(count > 1 ? count * outputs_of(problem) : 0);
  return {results, totals, parts, parts + (floats + 1) / 2};
}

}  // namespace

Support resident_supports(const ColReduce::Problem& problem,
                          const DeviceInfo& device,
                          ResidentKernels kernels) {
  if (Support plain = takes_plain_rows(problem); !plain) return plain;
  const bool adds = problem.reduction != Reduction::kMax && problem.heads != Heads::kMax;
  if (problem.heads != Heads::kEach && !adds)
    return Support::no("heads must be each where a maximum is taken");
  if (device.sm != 90) return Support::no("needs sm_90");
  if (problem.dtype == DType::kF32) return Support::no("dtype must be f16 or bf16");
  if (problem.D % 8 != 0) return Support::no("D must be a multiple of 8");
  if (problem.D > 128) return Support::no("D must be at most 128");
  const std::vector<TensorSpec> specs = ColReduce::tensor_specs(problem);
  for (std::size_t i = 0; i < 2; ++i)  // q and k
    if (Support support = tensor_map_supports(specs[i]); !support) return support;
  const ResidentKernel kernel = kernel_for(problem, device, kernels);
  const std::int64_t most = most_keys(kernel, device);
  if (problem.N > most)
    return Support::no("N must be at most " + std::to_string(most) +
                       ": the weights of a row stay on chip");
  if (problem.M > std::int64_t{1} << 30) return Support::no("M must be at most 2^30");
  constexpr std::int64_t kTileLimit = std::int64_t{1} << 31;  // tiles are numbered in 32 bits
  if (problem.B * problem.H >= kTileLimit ||
      problem.B * problem.H * ((problem.M + kTileRows - 1) / kTileRows) >= kTileLimit)
    return Support::no("B * H * ceil(M / 64) must be below 2^31");
  if (device.shared_bytes_per_block < static_cast<std::size_t>(kernel.shared_bytes))
    return Support::no("needs " + std::to_string(kernel.shared_bytes) + " bytes of shared memory");
  return Support::yes();
}

std::size_t resident_workspace_bytes(const ColReduce::Problem& problem,
                                     const DeviceInfo& device,
                                     ResidentKernels kernels) {
  return layout_of(problem, slices_for(problem, device, kernels)).end * sizeof(std::uint64_t);
}

Launch plan_resident(const ColReduce::Problem& problem,
                     const ColReduce::Tensors& tensors,
                     Workspace workspace,
                     const DeviceInfo& device,
                     ResidentKernels kernels) {
  const SliceChoice slices = slices_for(problem, device, kernels);
  const TeamChoice& team = slices.team;
  const ResidentKernel kernel = kernel_for(problem, device, kernels);
  const std::int64_t parts = parts_of(problem, slices);
  const double scale = problem.scale_value();
  const WorkspaceLayout layout = layout_of(problem, slices);

  ResidentArguments arguments{};
  arguments.q = make_tensor_map(contributing_rows(problem, tensors.q), kTileRows);
  arguments.k = make_tensor_map(tensors.k, kChunkKeys);
  arguments.sharing = static_cast<int>(problem.H / problem.key_heads());
  arguments.H = static_cast<int>(problem.H);
  arguments.heads = static_cast<int>(problem.B * problem.H);
  arguments.ranks = team.ranks;
  arguments.teams = team.teams;
  arguments.slice = static_cast<int>(slices.slice);
  arguments.parts = static_cast<int>(parts);
  arguments.mask = problem.contributing_mask();
  // A scale of 0 would make NaN of the -inf that stands for a hidden score.
  arguments.scale_log2 = std::fmax(static_cast<float>(std::fabs(scale) * kLog2E), FLT_MIN);
  arguments.negate = scale < 0;
  arguments.zero = 0;
  arguments.divisor = divisor_of(problem);
  const float averaged = problem.heads == Heads::kMean ? static_cast<float>(problem.H) : 1.0f;
  arguments.factor = 1.0f / (static_cast<float>(1 << kFactorBits) * averaged);
  arguments.words = static_cast<int>(layout.parts);
  arguments.packets = static_cast<std::uint64_t*>(workspace.data);
  arguments.results = arguments.packets + layout.results;
  arguments.totals = arguments.packets + layout.totals;

  HeadParts merge{.parts = reinterpret_cast<float*>(arguments.packets + layout.parts),
                  .count = static_cast<int>(parts),
                  .elements = outputs_of(problem),
                  .out = tensors.out.data,
                  .out_dtype = problem.out_dtype};
  arguments.out = parts == 1 ? merge.out : merge.parts;
  arguments.out_dtype = parts == 1 ? merge.out_dtype : DType::kF32;

  raise_shared_limit(kernel.function, static_cast<std::size_t>(kernel.shared_bytes));
  const dim3 grid(static_cast<unsigned>(team.ranks * team.teams));
  Launch launch;
  launch.enqueue = [=](Stream stream) {
    // Cooperative: all CTAs are resident, so that those who wait for packets wait for CTAs that run.
    ResidentArguments copy = arguments;
    void* parameters[] = {&copy};
    CUDA_CHECK(cudaLaunchCooperativeKernel(
        kernel.function, grid, dim3(static_cast<unsigned>(kernel.threads)), parameters,
        static_cast<std::size_t>(kernel.shared_bytes), static_cast<cudaStream_t>(stream.handle)));
    if (parts > 1) enqueue_merge_heads(merge, stream);
  };
  launch.note = std::to_string(team.teams) + " teams of " + std::to_string(team.ranks) + " CTAs";
  if (problem.combined_heads() > 1)
    launch.note += ", " + std::to_string(slices.slice) + " heads a team at a time";
  launch.kernels.push_back(
      {kernel.function, static_cast<std::size_t>(kernel.shared_bytes), kernel.threads});
  if (parts > 1) launch.kernels.push_back(merge_heads_use());
  return launch;
}

}  // namespace attn::colreduce
