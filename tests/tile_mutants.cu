// Kernels of the column reduction that take tiles of keys wrongly: two passes, a thread a query and then a
// thread a key, in fp64, so that what the checker says against one is due to its mutation.
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/mma_output.cuh"
#include "impls/common/vector_io.cuh"
#include "tests/tile_mutants.h"

namespace attn {
namespace {

constexpr std::int64_t kTile = 64;
constexpr int kThreads = 128;

struct Normaliser {
  double row_max, row_sum;
};

struct MutantArguments {
  TensorView q, k;
  void* out;  // [B, H, N]
  DType out_dtype;
  AttentionMask mask;
  std::int64_t B, H, H_kv, D;
  double scale;
  bool is_max;
  colreduce::Divisor divisor;
  Normaliser* rows;  // [B, H, M]
  Mutation mutation;

  __device__ bool is(Mutation other) const { return mutation == other; }

  __device__ static double load(const TensorView& view, std::int64_t at) {
    if (view.dtype == DType::kF16) return to_float(static_cast<const __half*>(view.data)[at]);
    if (view.dtype == DType::kBF16)
      return to_float(static_cast<const __nv_bfloat16*>(view.data)[at]);
    return static_cast<const float*>(view.data)[at];
  }
  /// Of head b * H + h.
  __device__ double score(std::int64_t head, std::int64_t m, std::int64_t n) const {
    const std::int64_t b = head / H;
    const std::int64_t h = head % H;
    double sum = 0;
    for (std::int64_t d = 0; d < D; ++d)
      sum += load(q, q.offset(b, h, m, d)) * load(k, k.offset(b, h / (H / H_kv), n, d));
    return sum * scale;
  }
  /// How often key n is taken: of several tiles one, never a row's first, is taken wrongly.
  __device__ int times(std::int64_t n) const {
    const std::int64_t tiles = (mask.N + kTile - 1) / kTile;
    const bool odd = tiles > 1 && n / kTile == tiles / 2;
    return odd && is(Mutation::kTileMissing) ? 0 : odd && is(Mutation::kTileTwice) ? 2 : 1;
  }
};

__global__ void __launch_bounds__(kThreads) normalise_rows(const MutantArguments args) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t M = args.mask.M;
  if (i >= args.B * args.H * M) return;
  const std::int64_t keys = args.mask.key_end(i % M);
  double row_max = -INFINITY;
  double sum = 0;
  for (std::int64_t begin = 0; begin < keys; begin += kTile) {
    const std::int64_t end = min(begin + kTile, keys);
    if (args.is(Mutation::kLastTileNotNormalised) && begin > 0 && end == keys) break;
    double larger = row_max;
    for (std::int64_t n = begin; n < end; ++n) larger = fmax(larger, args.score(i / M, i % M, n));
    if (begin > 0 && !args.is(Mutation::kNoRescale)) sum *= exp(row_max - larger);
    row_max = larger;
    for (std::int64_t n = begin; n < end; ++n)
      sum += args.times(n) * exp(args.score(i / M, i % M, n) - row_max);
  }
  if (args.is(Mutation::kPaddingNormalised) && keys == args.mask.N)
    sum += static_cast<double>((kTile - keys % kTile) % kTile) * exp(-row_max);
  args.rows[i] = {row_max, sum};
}

__global__ void __launch_bounds__(kThreads) reduce_columns(const MutantArguments args) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t N = args.mask.N;
  if (i >= args.B * args.H * N) return;
  const std::int64_t head = i / N;
  const std::int64_t n = i % N;
  if (args.is(Mutation::kLastColumnUnwritten) && n == N - 1) return;
  const std::int64_t queries = args.mask.M - (args.is(Mutation::kLastQueryLost) ? 1 : 0);
  double whole = 0;
  for (std::int64_t m = 0; m < queries; ++m) {
    if (!args.mask.visible(m, n)) continue;
    const Normaliser row = args.rows[head * args.mask.M + m];
    const double weight = args.times(n) * exp(args.score(head, m, n) - row.row_max) / row.row_sum;
    whole = args.is_max ? fmax(whole, weight) : whole + weight;
  }
  colreduce::store_reduced(args, static_cast<std::uint32_t>(head), static_cast<int>(n),
                           static_cast<float>(whole));
}

using Problem = TileMutants::Problem;
using Tensors = TileMutants::Tensors;

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::size_t workspace_bytes(const Problem& p, const DeviceInfo&) {
  return static_cast<std::size_t>(p.B * p.H * p.M) * sizeof(Normaliser);
}

template <std::size_t kIndex>
Launch plan(const Problem& p, const Tensors& t, Workspace w, const DeviceInfo&) {
  const MutantArguments args{.q = t.q,
                             .k = t.k,
                             .out = t.out.data,
                             .out_dtype = p.out_dtype,
                             .mask = p.attention_mask(),
                             .B = p.B,
                             .H = p.H,
                             .H_kv = p.key_heads(),
                             .D = p.D,
                             .scale = p.scale_value(),
                             .is_max = p.reduction == Reduction::kMax,
                             .divisor = colreduce::divisor_of(p),
                             .rows = static_cast<Normaliser*>(w.data),
                             .mutation = kTileMutations[kIndex]};
  const auto ctas = [](std::int64_t threads) {
    return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  };
  return {.enqueue = [=, heads = p.B * p.H](Stream stream) {
    const auto queue = static_cast<cudaStream_t>(stream.handle);
    normalise_rows<<<ctas(heads * args.mask.M), kThreads, 0, queue>>>(args);
    CUDA_CHECK_LAUNCH();
    reduce_columns<<<ctas(heads * args.mask.N), kThreads, 0, queue>>>(args);
    CUDA_CHECK_LAUNCH();
  }};
}

template <std::size_t... kIndex>
std::vector<Backend<TileMutants>> make_backends(std::index_sequence<kIndex...>) {
  const auto mutant = [](std::size_t index) {
    return kMutants[static_cast<std::size_t>(kTileMutations[index])];
  };
  return {{.info = {.id = mutant(kIndex).name,
                    .summary = mutant(kIndex).name,
                    .memory = MemorySpace::kDevice,
                    .math = "fp64",
                    .numerics = mutant(kIndex).numerics},
           .supports = supports,
           .workspace_bytes = workspace_bytes,
           .plan = plan<kIndex>}...};
}

}  // namespace

std::span<const BackendSlot<TileMutants>> TileMutants::backends() {
  static const std::vector<Backend<TileMutants>> kBackends =
      make_backends(std::make_index_sequence<kTileMutations.size()>());
  static const std::vector<BackendSlot<TileMutants>> kSlots = slots_of(kBackends);
  return kSlots;
}

}  // namespace attn
