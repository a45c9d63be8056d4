// The copies behind the streaming kernel of mma_pipeline.cuh.
//
// All tiles of a CTA, stationary and streamed, of all its items, form one sequence of equal slots
// in one ring of cp.async stages: loads for the next item are under way while the last tiles of
// this one are computed.
#pragma once

#include <cstdint>

#include "impls/arch/sm80/cp_async.cuh"
#include "impls/colreduce/mma_options.cuh"
#include "impls/colreduce/mma_tiles.cuh"

namespace attn::colreduce {

/// Issues the copies of the CTA's whole sequence of slots, one slot a call, and keeps track of the
/// ring. Each thread copies 16-byte pieces at one place of every kSweepRows-th row.
template <class Element, class Policy, class Pass>
class SlotLoader {
 public:
  using Arguments = typename Pass::Arguments;

  __device__ SlotLoader(const Arguments& args,
                        std::uint32_t shared,
                        std::uint32_t thread,
                        std::uint32_t first_item,
                        std::uint32_t item_stride)
      : args_(args), shared_(shared), thread_(thread), index_(first_item), stride_(item_stride) {}

  /// Copies the next slot of the sequence, or nothing after its end, and commits one group.
  __device__ void issue() {
    if (step_ == steps_ && index_ < args_.items) {
      start_head();
      if (++head_number_ == heads_) {
        head_number_ = 0;
        index_ += stride_;
      }
    }
    if (step_ < steps_) {
      if (step_ == Policy::kStationarySlots)
        point_at(args_.stream, streamed_rows(args_, head_), tile_ * Policy::kStreamRows);
      const bool stationary = step_ < Policy::kStationarySlots;
      copy_rows(stationary ? args_.stationary.row_stride : args_.stream.row_stride);
      if (Pass::kStreamsQueries && !stationary) copy_lse();
      ++step_;
    }
    sm80::cp_async_commit();
    slot_ = slot_ + 1 == Policy::kStages ? 0 : slot_ + 1;
  }

 private:
  static constexpr int kPieces = Policy::kD / 8;  // 16-byte pieces of a row
  static constexpr int kSweepRows = Policy::kThreads / kPieces;
  static_assert(Policy::kStreamRows % kSweepRows == 0, "sweeps of the CTA fill a slot exactly");
  static_assert(Policy::kStreamRows <= Policy::kThreads, "one thread for each lse of a slot");

  /// Begins with head number head_number_ of the current item.
  __device__ void start_head() {
    const auto item = decode<Policy, Pass>(args_, index_);
    heads_ = item.heads();
    head_ = streamed_head<Pass>(args_, item, head_number_);
    tile_ = item.tile_begin;
    steps_ = Policy::kStationarySlots + item.tile_end - item.tile_begin;
    step_ = Policy::kStationarySlots - stationary_slots<Policy, Pass>(args_, item, head_number_);
    if (step_ == 0)
      point_at(args_.stationary, stationary_rows<Pass>(args_, item, head_number_), item.first_row);
  }

  /// The next slot starts at row `row` of a head.
  __device__ void point_at(const PassOperand& operand, const HeadRows& head, int row) {
    const int piece = static_cast<int>(thread_ % kPieces);
    row += static_cast<int>(thread_ / kPieces);
    from_ = static_cast<const Element*>(operand.data) + head.offset + row * operand.row_stride +
            piece * 8;
    rows_left_ = piece * 8 < args_.D ? head.rows - row : 0;
  }

  /// Rows past the end and components past D become zeros.
  __device__ void copy_rows(std::int64_t row_stride) {
    const std::uint32_t to = shared_ + slot_ * Pass::kStageBytes +
                             thread_ / kPieces * Policy::kPitchBytes + thread_ % kPieces * 16;
#pragma unroll
    for (int row = 0; row < Policy::kStreamRows; row += kSweepRows) {
      sm80::cp_async_16(to + row * Policy::kPitchBytes, from_, row < rows_left_);
      from_ += kSweepRows * row_stride;
    }
    rows_left_ -= Policy::kStreamRows;
  }

  __device__ void copy_lse() {
    const int row = tile_++ * Policy::kStreamRows + static_cast<int>(thread_);
    if (thread_ < Policy::kStreamRows)
      sm80::cp_async_4(shared_ + slot_ * Pass::kStageBytes + Policy::kSlotBytes + thread_ * 4,
                       streamed_lse(args_, head_) + row, row < streamed_count(args_, head_));
  }

  const Arguments& args_;
  const std::uint32_t shared_;
  const std::uint32_t thread_;
  std::uint32_t index_;
  const std::uint32_t stride_;
  const Element* from_ = nullptr;  // this thread's piece of the next slot
  int rows_left_ = 0;              // valid rows from there on
  StreamedHeadOf<Arguments> head_{};
  std::uint32_t head_number_ = 0;  // of the current item: the next head to begin with
  std::uint32_t heads_ = 1;        // of the current item
  int tile_ = 0;                   // next streamed tile, of a pass that reads the lse
  int step_ = 0;                   // slots of this head issued
  int steps_ = 0;
  int slot_ = 0;
};

}  // namespace attn::colreduce
