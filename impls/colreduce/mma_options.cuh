// How the tensor-core passes cut up a problem with options: sequences of different lengths, heads
// that are combined. mma_tiles.cuh has the same of a plain problem.
#pragma once

#include <cstdint>
#include <type_traits>

#include "impls/colreduce/mma_tiles.cuh"
#include "impls/common/vector_io.cuh"

namespace attn::colreduce {

/// One item of a launch with options. The same for all threads.
struct SequenceItem : TileRange {
  int sequence;  // of the launch
  std::uint32_t batch;
  std::uint32_t slice;       // which group of heads of the batch
  std::uint32_t split;       // which part of the streamed axis
  std::uint32_t first_head;  // query heads [first_head, first_head + head_count)
  std::uint32_t head_count;
  int first_row;  // of the stationary tile

  /// Heads whose rows stand still one after the other; without a streamed tile one is enough.
  __device__ std::uint32_t heads() const { return tile_begin < tile_end ? head_count : 1; }
};

/// What a loader remembers of the head whose rows stream past.
struct StreamedSequenceHead {
  HeadRows rows;
  std::int64_t lse_offset;
};

template <class Arguments>
using StreamedHeadOf =
    std::conditional_t<std::is_same_v<Arguments, PassOptions>, StreamedSequenceHead, StreamedHead>;

template <class Policy, class Pass>
__device__ SequenceItem decode(const PassOptions& args, std::uint32_t index) {
  SequenceItem item;
  const SequenceList& list = args.sequences;
  item.sequence = list.find(index);
  const PassSequence& sequence = list.of[item.sequence];
  const std::uint32_t end =
      item.sequence + 1 < list.count ? list.of[item.sequence + 1].first_item : list.items;
  // Backwards within the sequence: the longest sequence stays first.
  std::uint32_t rest = args.backwards ? end - 1 - index : index - sequence.first_item;
  const int rows = Pass::kStreamsQueries ? sequence.N : sequence.M;
  const auto tiles = static_cast<std::uint32_t>((rows + Policy::kRows - 1) / Policy::kRows);
  item.first_row = static_cast<int>(rest % tiles) * Policy::kRows;
  rest /= tiles;
  item.split = rest % args.splits;
  rest /= args.splits;
  item.slice = rest % args.slices;
  item.batch = sequence.batch + rest / args.slices;
  const std::uint32_t part = item.slice % args.head_parts;
  item.first_head = item.slice / args.head_parts * args.combined + part * args.slice_heads;
  item.head_count = min(args.slice_heads, args.combined - part * args.slice_heads);
  static_cast<TileRange&>(item) =
      tiles_seen<Policy, Pass>(sequence.mask(), item.first_row, rows, item.split, args.splits);
  return item;
}

__device__ inline AttentionMask mask_of(const PassOptions& args, const SequenceItem& item) {
  return args.sequences.of[item.sequence].mask();
}

/// None where the head before it in the item has left the same keys in registers.
template <class Policy, class Pass>
__device__ int stationary_slots(const PassOptions& args,
                                const SequenceItem& item,
                                std::uint32_t head) {
  const bool holds_keys =
      Pass::kStreamsQueries && head > 0 && (item.first_head + head) % args.stationary.sharing != 0;
  return holds_keys ? 0 : Policy::kStationarySlots;
}

/// The rows of query head `h`: its queries, or the keys that it reads.
__device__ inline HeadRows rows_of_head(
    const PassOperand& operand, std::uint32_t batch, std::uint32_t h, int first_row, int rows) {
  return {batch * operand.batch_stride + h / operand.sharing * operand.head_stride +
              first_row * operand.row_stride,
          rows};
}

template <class Pass>
__device__ HeadRows stationary_rows(const PassOptions& args,
                                    const SequenceItem& item,
                                    std::uint32_t head) {
  const PassSequence& sequence = args.sequences.of[item.sequence];
  return rows_of_head(args.stationary, item.batch, item.first_head + head,
                      Pass::kStreamsQueries ? sequence.k_row : sequence.q_row,
                      Pass::kStreamsQueries ? sequence.N : sequence.M);
}

template <class Pass>
__device__ StreamedSequenceHead streamed_head(const PassOptions& args,
                                              const SequenceItem& item,
                                              std::uint32_t head) {
  const PassSequence& sequence = args.sequences.of[item.sequence];
  const std::uint32_t h = item.first_head + head;
  return {rows_of_head(args.stream, item.batch, h,
                       Pass::kStreamsQueries ? sequence.q_row : sequence.k_row,
                       Pass::kStreamsQueries ? sequence.M : sequence.N),
          sequence.lse_offset(item.batch, h, args.H)};
}

__device__ inline HeadRows streamed_rows(const PassOptions&, const StreamedSequenceHead& head) {
  return head.rows;
}

__device__ inline const float* streamed_lse(const PassOptions& args,
                                            const StreamedSequenceHead& head) {
  return args.lse_log2 + head.lse_offset;
}

__device__ inline int streamed_count(const PassOptions&, const StreamedSequenceHead& head) {
  return head.rows.rows;
}

/// Where a row pass writes the lse of an item's first row.
__device__ inline float* stationary_lse(const PassOptions& args, const SequenceItem& item) {
  return args.lse_log2 + item.split * args.lse_rows +
         args.sequences.of[item.sequence].lse_offset(item.batch, item.first_head, args.H) +
         item.first_row;
}

__device__ inline int stationary_count(const PassOptions& args, const SequenceItem& item) {
  return args.sequences.of[item.sequence].M;
}

/// Stores the total of key n over an item's heads, divided: the output, or a part of it.
__device__ inline void store_total(const PassOptions& args,
                                   const SequenceItem& item,
                                   int n,
                                   float total) {
  const PassSequence& sequence = args.sequences.of[item.sequence];
  if (n >= sequence.N) return;
  float divisor = args.averaged;
  if (args.divisor == Divisor::kVisible) {
    const AttentionMask mask = sequence.mask();
    divisor *= static_cast<float>(max(mask.query_end(n) - mask.query_begin(n), std::int64_t{1}));
  } else if (args.divisor == Divisor::kAll) {
    divisor *= static_cast<float>(sequence.M);
  }
  const std::int64_t out_heads = args.slices / args.head_parts;
  const std::int64_t head = item.batch * out_heads + item.slice / args.head_parts;
  const std::int64_t part = item.slice % args.head_parts;
  store_rounded(args.out, args.out_dtype,
                part * args.out_part + head * args.out_pitch + sequence.k_row + n, total / divisor);
}

/// Dot products become scores in base 2, where a soft cap asks for it; `scale_log2` is 1 then.
template <class Chunk>
__device__ void cap_scores(const PassOptions& args, Chunk& chunk) {
  if (args.cap_log2 == 0) return;
#pragma unroll
  for (auto& tile : chunk.value)
#pragma unroll
    for (auto& columns : tile)
#pragma unroll
      for (float& score : columns) score = args.cap_log2 * tanhf(score * args.cap_scale);
}

}  // namespace attn::colreduce
