// Binds the two tensor-core passes to a problem: which kernels, over which items, in which order.
//
// A problem without a window, a soft cap or sequences of different lengths takes the plain kernels,
// in pass 2 if it combines no heads either; a range of queries is to them a shorter q with a shifted
// mask. All others take the kernels with options, whose launches carry the sequences among their
// parameters.
#include <algorithm>
#include <cmath>
#include <string>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/exchange_lse.h"
#include "impls/colreduce/key_splits.h"
#include "impls/colreduce/merge_heads.h"
#include "impls/colreduce/merge_parts.h"
#include "impls/colreduce/mma_sm80.h"
#include "impls/common/online_softmax.cuh"
#include "impls/common/shared_limit.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;
using Sequences = std::vector<PassSequence>;

/// A kernel bound to its arguments and grid.
struct PassLaunch {
  PassKernel kernel;
  PassOptions arguments;
  unsigned ctas = 1;

  void enqueue(Stream stream) const {
    // Plain kernels read the part that all arguments begin with.
    PassOptions copy = arguments;
    void* parameters[] = {&copy};
    CUDA_CHECK(cudaLaunchKernel(kernel.function, dim3(ctas), dim3(kernel.threads), parameters,
                                static_cast<std::size_t>(kernel.shared_bytes),
                                static_cast<cudaStream_t>(stream.handle)));
  }
};

/// The launches of one pass, by the same kernel.
struct Pass {
  PassKernel kernel;
  std::vector<PassLaunch> launches;

  void enqueue(Stream stream) const {
    for (const PassLaunch& launch : launches) launch.enqueue(stream);
  }
  KernelUse use() const {
    return {kernel.function, static_cast<std::size_t>(kernel.shared_bytes), kernel.threads};
  }
};

std::int64_t tiles_of(std::int64_t rows, int tile) { return (rows + tile - 1) / tile; }

/// What is bound.
struct Request {
  const Problem& problem;
  const Sequences& sequences;  // pass_sequences(problem)
  const DeviceInfo& device;

  /// Whether the passes need their kernels with options.
  bool rows_take_options() const {
    return !is_uniform(problem, sequences) || is_windowed(sequences) || problem.softcap > 0;
  }
  bool columns_take_options() const { return rows_take_options() || problem.combined_heads() > 1; }
  /// Contributing queries of all heads.
  std::int64_t lse_rows() const { return problem.H * compact_rows(sequences); }
  std::int64_t out_elements() const { return problem.B * problem.out_heads() * problem.N; }
  std::int64_t slots(const PassKernel& kernel) const {
    return std::int64_t{device.sm_count} * kernel.ctas_per_sm;
  }
};

PassOperand operand(const TensorView& view, std::int64_t sharing) {
  return {.data = view.data,
          .batch_stride = view.strides[0],
          .head_stride = view.strides[1],
          .row_stride = view.strides[2],
          .rows = static_cast<int>(view.shape[2]),
          .sharing = static_cast<std::uint32_t>(sharing)};
}

PassOperand queries(const ColReduce::Tensors& tensors) { return operand(tensors.q, 1); }

PassOperand keys(const Problem& problem, const ColReduce::Tensors& tensors) {
  return operand(tensors.k, problem.H / problem.key_heads());
}

/// What all launches of both passes have in common.
PassOptions common_arguments(const Request& request, float* lse_log2) {
  const Problem& problem = request.problem;
  const double scale = std::fabs(problem.scale_value());
  PassOptions arguments;
  arguments.D = static_cast<int>(problem.D);
  arguments.H = static_cast<std::uint32_t>(problem.H);
  arguments.heads = static_cast<std::uint32_t>(problem.B * problem.H);
  arguments.scale_log2 = static_cast<float>(scale * kLog2E);
  arguments.negate = problem.scale_value() < 0;
  if (problem.softcap > 0) {
    arguments.cap_log2 = static_cast<float>(problem.softcap * kLog2E);
    arguments.cap_scale = static_cast<float>(scale / problem.softcap);
    arguments.scale_log2 = 1;
  }
  arguments.slices = arguments.H;
  arguments.lse_log2 = lse_log2;
  arguments.lse_rows = request.lse_rows();
  return arguments;
}

/// The rows of an operand that the only sequence of a uniform problem has.
PassOperand cut(PassOperand operand, DType dtype, int first_row, int rows) {
  const std::int64_t bytes =
      first_row * operand.row_stride * static_cast<std::int64_t>(size_of(dtype));
  operand.data = static_cast<const char*>(operand.data) + bytes;
  operand.rows = rows;
  return operand;
}

/// A pass whose items are tiles of the rows that `stationary` counts: PassSequence::M or N.
Pass bind(const Request& request,
          const PassKernel& kernel,
          PassOptions arguments,
          RowCount stationary) {
  const bool keys_stand = stationary == &PassSequence::N;
  const RowCount streamed = keys_stand ? &PassSequence::M : &PassSequence::N;
  raise_shared_limit(kernel.function, static_cast<std::size_t>(kernel.shared_bytes));
  Pass pass{kernel, {}};
  const auto add = [&](std::uint32_t items) {
    // A CTA that goes on to the next short item loads it while it computes this one; long items
    // balance better when the hardware hands them out.
    constexpr std::int64_t kShortTiles = 2;
    const std::int64_t tiles =
        tiles_of(longest(request.sequences, streamed), kernel.stream_rows) * arguments.slice_heads;
    const auto resident = static_cast<std::uint32_t>(request.slots(kernel));
    arguments.items = items;
    pass.launches.push_back(
        {kernel, arguments, tiles <= kShortTiles ? std::min(resident, items) : items});
  };
  if (kernel.options) {
    const auto items = [&](const PassSequence& sequence) {
      return sequence.repeats * tiles_of(sequence.*stationary, kernel.rows) * arguments.slices *
             arguments.splits;
    };
    for (const SequenceList& list : launch_lists(request.sequences, items)) {
      arguments.sequences = list;
      add(list.items);
    }
    return pass;
  }
  const PassSequence& whole = request.sequences.front();
  const DType dtype = request.problem.dtype;
  arguments.mask = whole.mask();
  arguments.stationary =
      cut(arguments.stationary, dtype, keys_stand ? whole.k_row : whole.q_row, whole.*stationary);
  arguments.stream =
      cut(arguments.stream, dtype, keys_stand ? whole.q_row : whole.k_row, whole.*streamed);
  arguments.tiles = static_cast<std::uint32_t>(tiles_of(whole.*stationary, kernel.rows));
  add(arguments.heads * arguments.tiles * arguments.splits);
  return pass;
}

/// Pass 1, queries stationary: lse_log2[split, query] over the keys of each of the parts. A query
/// without weight in its part gets +inf, so that pass 2 gives it weight 0, or -inf when there are
/// several parts to merge.
Pass bind_row_pass(const Request& request,
                   const ColReduce::Tensors& tensors,
                   float* lse_log2,
                   const RowPassChoice& choice) {
  PassOptions arguments = common_arguments(request, lse_log2);
  arguments.stationary = queries(tensors);
  arguments.stream = keys(request.problem, tensors);
  arguments.splits = static_cast<std::uint32_t>(choice.splits);
  arguments.lse_without_key = choice.splits > 1 ? -INFINITY : INFINITY;
  // From the end: under a causal mask late queries see most keys. Pass 2 starts where this one
  // ends, at the first head, whose keys are then still in L2.
  arguments.backwards = true;
  const auto kernel = request.rows_take_options() ? row_options_kernel : row_pass_kernel;
  return bind(request, kernel(request.problem.dtype, request.problem.D, choice.narrow), arguments,
              &PassSequence::M);
}

/// Pass 2 where one tile holds all queries of a head: queries stationary, the keys cut into as many
/// parts as pay.
Pass bind_few_queries_pass(const Request& request,
                           const ColReduce::Tensors& tensors,
                           const PassKernel& kernel,
                           PassOptions arguments) {
  arguments.stationary = queries(tensors);
  arguments.stream = keys(request.problem, tensors);
  const std::int64_t key_tiles = tiles_of(request.problem.N, kernel.stream_rows);
  arguments.splits =
      static_cast<std::uint32_t>(choose_key_splits({.items = request.problem.B * request.problem.H,
                                                    .key_tiles = key_tiles,
                                                    .slots = request.slots(kernel),
                                                    .limit = key_tiles,
                                                    .merge = false}));
  return bind(request, kernel, arguments, &PassSequence::M);
}

/// Query heads that one item of pass 2 combines: all of an output head's, or fewer where that would
/// leave the device idle.
std::int64_t heads_an_item(const Request& request) {
  const Problem& problem = request.problem;
  const std::int64_t combined = problem.combined_heads();
  if (combined == 1) return 1;
  const PassKernel kernel = column_options_kernel(problem.dtype, problem.D, false);
  const std::int64_t query_tiles =
      tiles_of(longest(request.sequences, &PassSequence::M), kernel.stream_rows);
  const int parts = choose_key_splits(
      {.items = problem.out_heads() * tiles_of(request.sequences, &PassSequence::N, kernel.rows),
       .key_tiles = combined * query_tiles,
       .slots = request.slots(kernel),
       .limit = combined});
  return (combined + parts - 1) / parts;
}

/// What pass 2 makes of an output head: one part, or several that a merge combines.
HeadParts head_parts(const Request& request) {
  const std::int64_t heads = heads_an_item(request);
  return {.count = static_cast<int>((request.problem.combined_heads() + heads - 1) / heads),
          .elements = request.out_elements(),
          .max = request.problem.heads == Heads::kMax,
          .out_dtype = request.problem.out_dtype};
}

/// Pass 2, keys stationary: the reduction over the queries, from the lse of the contributing ones,
/// to the output, or to `parts` where there are several.
Pass bind_column_pass(const Request& request,
                      const ColReduce::Tensors& tensors,
                      float* lse_log2,
                      const HeadParts& parts) {
  const Problem& problem = request.problem;
  const bool is_max = problem.reduction == Reduction::kMax;
  PassOptions arguments = common_arguments(request, lse_log2);
  arguments.stationary = keys(problem, tensors);
  arguments.stream = queries(tensors);
  arguments.out = parts.count > 1 ? parts.parts : parts.out;
  arguments.out_dtype = parts.count > 1 ? DType::kF32 : parts.out_dtype;
  arguments.divisor = divisor_of(problem);
  if (!request.columns_take_options()) {
    const PassKernel few = few_queries_pass_kernel(problem.dtype, problem.D, is_max);
    if (request.sequences.front().M <= few.rows)
      return bind_few_queries_pass(request, tensors, few, arguments);
    return bind(request, column_pass_kernel(problem.dtype, problem.D, is_max), arguments,
                &PassSequence::N);
  }
  arguments.combined = static_cast<std::uint32_t>(problem.combined_heads());
  arguments.slice_heads = static_cast<std::uint32_t>(heads_an_item(request));
  arguments.head_parts = static_cast<std::uint32_t>(parts.count);
  arguments.slices = static_cast<std::uint32_t>(problem.out_heads()) * arguments.head_parts;
  arguments.max_over_heads = parts.max;
  arguments.averaged = problem.heads == Heads::kMean ? static_cast<float>(problem.H) : 1.0f;
  arguments.out_pitch = problem.N;
  arguments.out_part = parts.elements;
  return bind(request, column_options_kernel(problem.dtype, problem.D, is_max), arguments,
              &PassSequence::N);
}

/// Where parts of the heads begin in the workspace, behind the lse.
std::size_t parts_offset(const Request& request) {
  constexpr std::size_t kAlignment = 256;
  const std::size_t bytes = static_cast<std::size_t>(request.lse_rows()) * sizeof(float);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// "64x128": stationary by streamed rows of a pass's tiles.
std::string tile_note(const PassKernel& kernel) {
  return std::to_string(kernel.rows) + "x" + std::to_string(kernel.stream_rows);
}

/// Everything that a launch enqueues, in order.
struct Plan {
  std::vector<LseExchange> given_lse;  // instead of pass 1
  Pass rows;
  const float* part_lse = nullptr;  // of pass 1's parts of the keys
  float* lse_log2 = nullptr;
  int splits = 1;
  std::int64_t lse_rows = 0;
  std::vector<LseExchange> returned_lse;
  TensorView lse;           // to clear before it is returned; no data: nothing to clear
  void* cleared = nullptr;  // what pass 2 leaves partly unwritten
  std::size_t cleared_bytes = 0;
  Pass columns;
  HeadParts parts;

  void enqueue(Stream stream) const {
    for (const LseExchange& exchange : given_lse) enqueue_read_lse(exchange, stream);
    rows.enqueue(stream);
    if (splits > 1) enqueue_merge_parts(part_lse, lse_log2, splits, lse_rows, stream);
    if (lse.data)
      enqueue_clear_lse(static_cast<float*>(lse.data), lse.shape[0] * lse.shape[1] * lse.shape[2],
                        stream);
    for (const LseExchange& exchange : returned_lse) enqueue_write_lse(exchange, stream);
    if (cleared)
      CUDA_CHECK(
          cudaMemsetAsync(cleared, 0, cleared_bytes, static_cast<cudaStream_t>(stream.handle)));
    columns.enqueue(stream);
    if (parts.count > 1) enqueue_merge_heads(parts, stream);
  }
  std::string note() const;
  std::vector<KernelUse> kernels() const;
};

std::string Plan::note() const {
  std::string note;
  if (splits > 1) note += "key splits " + std::to_string(splits) + ", ";
  if (rows.kernel.function) note += "rows " + tile_note(rows.kernel) + ", ";
  note += "columns " + tile_note(columns.kernel) + ", ";
  if (parts.count > 1) note += "head parts " + std::to_string(parts.count) + ", ";
  return note + std::to_string(columns.kernel.stages) + " stages";
}

std::vector<KernelUse> Plan::kernels() const {
  std::vector<KernelUse> kernels;
  if (!given_lse.empty()) kernels.push_back(read_lse_use());
  if (rows.kernel.function) kernels.push_back(rows.use());
  if (splits > 1) kernels.push_back(merge_parts_use());
  if (!returned_lse.empty()) kernels.push_back(write_lse_use());
  kernels.push_back(columns.use());
  if (parts.count > 1) kernels.push_back(merge_heads_use());
  return kernels;
}

}  // namespace

std::size_t mma_workspace_bytes(const Problem& problem, const DeviceInfo& device) {
  const Sequences sequences = pass_sequences(problem);
  const Request request{problem, sequences, device};
  const HeadParts parts = head_parts(request);
  if (parts.count == 1) return static_cast<std::size_t>(request.lse_rows()) * sizeof(float);
  return parts_offset(request) +
         static_cast<std::size_t>(parts.count * parts.elements) * sizeof(float);
}

Launch plan_passes(const Problem& problem,
                   const Sequences& sequences,
                   const ColReduce::Tensors& tensors,
                   Workspace workspace,
                   const DeviceInfo& device,
                   const RowPassChoice& choice) {
  const Request request{problem, sequences, device};
  Plan plan;
  plan.lse_log2 = static_cast<float*>(workspace.data);
  plan.lse_rows = request.lse_rows();
  if (problem.lse == Lse::kIn) {
    plan.given_lse = lse_exchanges(problem, sequences, tensors.lse, plan.lse_log2);
  } else {
    plan.splits = choice.splits;
    float* own = choice.splits > 1 ? static_cast<float*>(tensors.out.data) : plan.lse_log2;
    plan.part_lse = own;
    plan.rows = bind_row_pass(request, tensors, own, choice);
  }
  if (problem.lse == Lse::kOut) {
    plan.returned_lse = lse_exchanges(problem, sequences, tensors.lse, plan.lse_log2);
    if (compact_rows(sequences) != problem.B * problem.M) plan.lse = tensors.lse;
  }
  plan.parts = head_parts(request);
  plan.parts.parts =
      reinterpret_cast<float*>(static_cast<char*>(workspace.data) + parts_offset(request));
  plan.parts.out = tensors.out.data;
  plan.columns = bind_column_pass(request, tensors, plan.lse_log2, plan.parts);
  if (!is_uniform(problem, sequences)) {
    const bool partial = plan.parts.count > 1;
    plan.cleared = partial ? plan.parts.parts : plan.parts.out;
    plan.cleared_bytes = static_cast<std::size_t>(plan.parts.count * plan.parts.elements) *
                         size_of(partial ? DType::kF32 : problem.out_dtype);
  }
  return {.enqueue = [plan](Stream stream) { plan.enqueue(stream); },
          .note = plan.note(),
          .kernels = plan.kernels()};
}

}  // namespace attn::colreduce
