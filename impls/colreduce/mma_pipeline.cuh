// The streaming kernel that both passes of the column reduction on tensor cores share: a stationary
// tile of one operand in registers, the other operand streamed past it through shared memory.
// Scores are dot products of stationary and streamed rows; nothing here knows which of the two is a
// query.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "impls/arch/sm80/cp_async.cuh"
#include "impls/arch/sm80/lane.cuh"
#include "impls/arch/sm80/ldmatrix.cuh"
#include "impls/arch/sm80/mma.cuh"
#include "impls/colreduce/mma_loader.cuh"
#include "impls/colreduce/mma_options.cuh"
#include "impls/colreduce/mma_tiles.cuh"

namespace attn::colreduce {

/// Scores of a warp's rows with kChunk streamed rows. With g = lane / 4 and t = lane mod 4,
/// value[i][j][c] belongs to row 16 i + g + 8 (c / 2) of the warp and column 8 j + 2 t + c % 2.
template <class Policy>
struct ScoreChunk {
  float value[Policy::kRowTiles][Policy::kChunk / 8][4];
};

/// One value for each stationary row of a thread: rows 16 i + g + 8 r of the warp.
template <class Policy>
struct RowValues {
  float value[Policy::kRowTiles][2];
};

/// Which of a row's columns in a chunk are visible: those with column - first in [begin, end).
struct ColumnWindow {
  int begin;
  int end;
  __device__ bool holds(int column) const { return column >= begin && column < end; }
};

__device__ inline ColumnWindow window_from(const Interval& visible, int first_column) {
  return {static_cast<int>(visible.begin - first_column),
          static_cast<int>(visible.end - first_column)};
}

/// What a pass does not need of the streaming kernel's calls, because it finishes nothing before the
/// end of a head.
struct FinishesAtTheEnd {
  template <class Arguments, class AnyItem>
  __device__ void store_tile(const Arguments&, const AnyItem&, int, unsigned char*, std::uint32_t) {
  }
  __device__ static float* tile_columns(unsigned char*, int) { return nullptr; }
};

/// Column within a chunk, of a lane's element [j][c] (ScoreChunk), less the lane's first column.
__device__ constexpr int chunk_column(int j, int c) { return 8 * j + c % 2; }

/// The stationary rows of a warp, as A fragments.
template <class Policy>
struct RowFragments {
  std::uint32_t value[Policy::kRowTiles][Policy::kD / 16][4];

  /// Takes what lies in stationary slot `slot_index`, at address `slot`, of this warp's rows.
  __device__ void load(std::uint32_t slot, int slot_index, int row_warp, int lane, bool negate) {
    const int row = row_warp * Policy::kWarpRows - slot_index * Policy::kStreamRows;
    if (row < 0 || row >= Policy::kStreamRows) return;
    const std::uint32_t sign = negate ? 0x80008000u : 0u;
    const std::uint32_t base = slot + (row + lane % 16) * Policy::kPitchBytes + lane / 16 * 16;
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i) {
#pragma unroll
      for (int k = 0; k < Policy::kD / 16; ++k) {
        sm80::ldmatrix_x4(value[i][k], base + i * 16 * Policy::kPitchBytes + k * 32);
#pragma unroll
        for (std::uint32_t& pair : value[i][k]) pair ^= sign;
      }
    }
  }

  /// Scores with the kChunk columns whose fragments start at `column_address` (this lane's address
  /// of an ldmatrix.x4 over 16 columns and 16 components).
  template <class Element>
  __device__ void scores(ScoreChunk<Policy>& chunk, std::uint32_t column_address) const {
#pragma unroll
    for (int j = 0; j < Policy::kChunk / 8; j += 2) {
#pragma unroll
      for (int i = 0; i < Policy::kRowTiles; ++i)
#pragma unroll
        for (int c = 0; c < 8; ++c) chunk.value[i][j + c / 4][c % 4] = 0;
#pragma unroll
      for (int k = 0; k < Policy::kD / 16; ++k) {
        std::uint32_t b[4];
        sm80::ldmatrix_x4(b, column_address + j * 8 * Policy::kPitchBytes + k * 32);
#pragma unroll
        for (int i = 0; i < Policy::kRowTiles; ++i) {
          sm80::mma_m16n8k16<Element>(chunk.value[i][j], value[i][k], b[0], b[1]);
          sm80::mma_m16n8k16<Element>(chunk.value[i][j + 1], value[i][k], b[2], b[3]);
        }
      }
    }
  }
};

/// grid: any number of CTAs, which share the items evenly; block: Policy::kThreads; dynamic shared
/// memory: Pass::kSharedBytes. Pass says what becomes of the scores: mma_rows.cuh, mma_columns.cuh,
/// mma_few_queries.cuh.
template <class Element, class Policy, class Pass>
__global__ void __launch_bounds__(Policy::kThreads, Policy::kCtasPerSm)
    stream_pass(const __grid_constant__ typename Pass::Arguments args) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const std::uint32_t shared = sm80::shared_address(shared_bytes);
  const std::uint32_t thread = threadIdx.x;
  const int lane = static_cast<int>(thread % 32);
  // The shuffle tells the compiler that all lanes agree.
  const int warp = static_cast<int>(__shfl_sync(0xffffffffu, thread / 32, 0));
  const int row_warp = warp % Policy::kRowWarps;
  const int column = warp / Policy::kRowWarps * Policy::kWarpColumns;
  const std::uint32_t column_offset =
      (column + lane % 8 + lane / 16 * 8) * Policy::kPitchBytes + lane / 8 % 2 * 16;

  SlotLoader<Element, Policy, Pass> loader(args, shared, thread, blockIdx.x, gridDim.x);
#pragma unroll 1
  for (int i = 0; i < Policy::kStages - 1; ++i) loader.issue();

  int slot = Policy::kStages - 1;
  const auto next_slot = [&] {
    slot = slot + 1 == Policy::kStages ? 0 : slot + 1;
    sm80::cp_async_wait<Policy::kStages - 2>();
    // All threads: their copies into `slot` have landed and are visible to all; the slot before it
    // has been read by all, and the next load goes there.
    __syncthreads();
    loader.issue();
    return static_cast<std::uint32_t>(slot * Pass::kStageBytes);
  };

  unsigned char* exchange = shared_bytes + Policy::kStages * Pass::kStageBytes;
  RowFragments<Policy> rows;
  ScoreChunk<Policy> chunk;
#pragma unroll 1
  for (std::uint32_t index = blockIdx.x; index < args.items; index += gridDim.x) {
    const auto item = decode<Policy, Pass>(args, index);
    Pass pass(args, item, row_warp);
#pragma unroll 1
    for (std::uint32_t head = 0; head < item.heads(); ++head) {
      const int slots = stationary_slots<Policy, Pass>(args, item, head);
#pragma unroll 1
      for (int step = -slots; step < item.tile_end - item.tile_begin; ++step) {
        const std::uint32_t stage = next_slot();
        if (step < 0) {
          rows.load(shared + stage, step + Policy::kStationarySlots, row_warp, sm80::lane_id(),
                    args.negate);
          continue;
        }
        const int tile = item.tile_begin + step;
        if (step > 0) pass.store_tile(args, item, tile - 1, exchange, threadIdx.x);
        float* columns =
            Pass::tile_columns(exchange, tile) + row_warp * Policy::kStreamRows + column;
        const std::uint32_t address = shared + stage + column_offset;
        const float* lse =
            reinterpret_cast<const float*>(shared_bytes + stage + Policy::kSlotBytes) + column +
            lane % 4 * 2;
        if (tile >= item.full_begin && tile < item.full_end) {
          RowValues<Policy> part;
#pragma unroll
          for (int c = 0; c < Policy::kWarpColumns; c += Policy::kChunk) {
            rows.template scores<Element>(chunk, address + c * Policy::kPitchBytes);
            cap_scores(args, chunk);
            pass.accumulate(part, c == 0, chunk, args.scale_log2, lse + c, columns + c);
          }
          if (pass.commit(part)) continue;
        }
        const int own_lane = sm80::lane_id();
        const int row = item.first_row + row_warp * Policy::kWarpRows + own_lane / 4;
        const int first_column = tile * Policy::kStreamRows + column + own_lane % 4 * 2;
#pragma unroll 1
        for (int c = 0; c < Policy::kWarpColumns; c += Policy::kChunk) {
          rows.template scores<Element>(chunk, address + c * Policy::kPitchBytes);
          cap_scores(args, chunk);
          pass.take_visible(chunk, args.scale_log2, lse + c, mask_of(args, item), row,
                            first_column + c, columns + c);
        }
      }
      pass.end_head(args, head, exchange, threadIdx.x);
    }
    pass.store(args, item, exchange, threadIdx.x);
  }
}

}  // namespace attn::colreduce
