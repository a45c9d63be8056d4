// The streaming kernel that both passes of wgmma_sm90 share: a stationary tile of one operand in
// registers, the other operand streamed past it through shared memory. Scores are dot products of
// stationary and streamed rows; nothing here knows which of the two is a query.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "impls/arch/sm80/lane.cuh"
#include "impls/arch/sm80/ldmatrix.cuh"
#include "impls/arch/sm90/atomic.cuh"
#include "impls/arch/sm90/barrier.cuh"
#include "impls/arch/sm90/dependent_launch.cuh"
#include "impls/arch/sm90/fence.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/wgmma.cuh"
#include "impls/colreduce/wgmma_tiles.cuh"

namespace attn::colreduce {

/// Visible columns, counted from a column of a chunk.
struct ColumnRange {
  int begin;
  int end;
  __device__ bool holds(int column) const { return column >= begin && column < end; }
};

__device__ inline ColumnRange range_from(const VisibleColumns& visible, int first_column) {
  return {static_cast<int>(visible.begin - first_column),
          static_cast<int>(visible.end - first_column)};
}

/// Score i of a thread belongs to row lane / 4 + 8 (i / 2 mod 2) of its warp (wgmma.cuh) and to
/// this column of the chunk, less the thread's first, 2 (lane mod 4).
__device__ constexpr int score_column(int i) { return i / 4 * 8 + i % 2; }

/// The soft cap: dot products become scores in base 2.
template <int kScores>
__device__ void cap_scores(const SoftCap& cap, float (&scores)[kScores]) {
  if (!cap.exists()) return;
  std::uint32_t bits = 0;
#pragma unroll
  for (float& score : scores) {
    score *= cap.scale;
    bits |= __float_as_uint(score);
  }
  if (__any_sync(0xffffffffu, !SoftCap::are_small(bits))) {
#pragma unroll
    for (float& score : scores) score = cap.any(score);
  } else {
#pragma unroll
    for (float& score : scores) score = cap.small(score);
  }
}

/// Where a warp is in the ring of streamed tiles.
template <class Policy>
struct RingPlace {
  int stage = 0;
  std::uint32_t parity = 0;
  int lse_slot = 0;

  __device__ void advance() {
    if (++stage == Policy::kStages) {
      stage = 0;
      parity ^= 1;
    }
    lse_slot = lse_slot + 1 == Policy::kLseSlots ? 0 : lse_slot + 1;
  }
};

/// A warp of the kernel: its stationary rows, its place in the ring, and the loop over tiles.
template <class Element, class Policy, class Pass>
struct WgmmaWarp {
  using Layout = WgmmaLayout<Policy, Pass>;
  using Item = typename Pass::Items::Item;

  const Loader<Policy, Pass>& loader;
  unsigned char* shared_bytes;  // dynamic shared memory
  int warp;                     // of the CTA
  int lane;
  // Offset of the lane's first column among a chunk's lse, in bytes: pinned, lest it be derived
  // from the thread's number for each chunk.
  std::uint32_t lse_lane[1] = {static_cast<std::uint32_t>(lane % 4 * 8)};
  RingPlace<Policy> place{};
  std::uint32_t rows[Policy::kSteps][4];  // A fragments, layout as in wgmma.cuh

  /// Loads the warp's 16 rows of the item's stationary tile, and has the next one loaded when all
  /// warps have theirs.
  __device__ void load_stationary(const Item& item) {
    // Box b is [256 rows][128 bytes], 16-byte pieces at piece xor (row mod 8).
    const int row = warp * 16 + lane % 16;
    const std::uint32_t base = loader.shared + row * 128;
#pragma unroll
    for (int k = 0; k < Policy::kSteps; ++k) {
      const int piece = k % 4 * 2 + lane / 16;
      sm80::ldmatrix_x4(rows[k], base + k / 4 * Policy::kRows * 128 + ((piece ^ row % 8) * 16));
    }
    if constexpr (Pass::kClearsRows) clear_absent_rows(item);
    // The fragments before what the copy engine writes over them (README.md, "one_pass_sm90", met
    // loads that it seemed to overtake).
    sm90::fence_async_shared();
    sm90::fence_cta();
    __syncwarp();  // all lanes: they have read their fragments and the item of the round before
    give_back(&loader.control.stationary_released, [&] { loader.load_stationary(); });
  }

  /// Zeros for rows behind the end of the item's sequence, as the copy engine brings behind the end
  /// of a tensor: what lies there may be anything, and the warp's other rows must not notice.
  __device__ void clear_absent_rows(const Item& item) {
    const int row = Pass::Items::row_at(loader.args, item, item.first_row, warp * 16) + lane / 4;
    const int end = Pass::Items::rows(loader.args, item);
#pragma unroll
    for (int k = 0; k < Policy::kSteps; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (row + i % 2 * 8 >= end) rows[k][i] = 0;
    }
  }

  /// Tells that this warp has read a buffer: all lanes have, when it is called. The last warp's
  /// first lane sees that all 16 have, and refills the buffer.
  template <class Refill>
  __device__ void give_back(std::uint32_t* counter, Refill refill) const {
    if (lane == 0) {
      constexpr std::uint32_t kLast = Policy::kWarps - 1;
      if (sm90::shared_count_relaxed(sm90::shared_address(counter), kLast) == kLast) {
        // Orders the control data that refills read and write one after another; the buffer itself
        // has been read by then, as each warp has waited for what it read.
        sm90::fence_cta();
        refill();
        sm90::fence_cta();
      }
    }
    __syncwarp();  // products need the whole warp together
  }

  __device__ void give_back_tile(int stage) const {
    give_back(&loader.control.released[stage], [&] { loader.load_tile(stage); });
  }

  __device__ void wait_for_tile(const RingPlace<Policy>& at) const {
    // Together also because all lanes must have seen this phase before the stage is given back for
    // another.
    sm90::mbarrier_wait_warp(sm90::shared_address(&loader.control.full[at.stage]), at.parity);
  }

  // Turns: barrier 1 + g opens warpgroup g's. It counts 128 threads that wait and 128 of the
  // warpgroup before, which arrive when they have issued theirs. Nothing is made visible.
  static constexpr int kTurnThreads = 256;
  __device__ void begin_turn() const {
    if constexpr (Policy::kOrdered) sm90::named_barrier_sync(1 + warp / 4, kTurnThreads);
  }
  __device__ void end_turn() const {
    if constexpr (Policy::kOrdered)
      sm90::named_barrier_arrive(1 + (warp / 4 + 1) % 4, kTurnThreads);
  }

  // Of kTiles tiles in a run: chunks, accumulators in use, turns to issue.
  template <int kTiles>
  struct Run {
    static constexpr int kCount = kTiles * Policy::kChunks;
    static constexpr int kAhead = kCount < Policy::kBuffers ? kCount : Policy::kBuffers;
    static constexpr int kTurns = 1 + kCount - kAhead;
  };

  /// Waits for a tile and describes it. What comes from lane 0 lies in a uniform register, as
  /// products want it: without the shuffle each of them would move its descriptor there. The
  /// lane's number, 0 in lane 0, keeps ptxas from finding that the shuffle changes nothing.
  __device__ std::uint64_t tile_at(const RingPlace<Policy>& at) const {
    wait_for_tile(at);
    const std::uint32_t tile = loader.shared + Layout::kRing + at.stage * Layout::kTileBytes;
    return sm90::wgmma_descriptor(__shfl_sync(0xffffffffu, tile + lane, 0));
  }

  /// Issues the products of the warpgroup's rows with a chunk of a tile, as one group.
  __device__ void issue(float (&scores)[Policy::kChunk / 2], std::uint64_t tile, int chunk) const {
    tile += chunk * (Policy::kChunk * 128 >> 4);
    sm90::wgmma_fence();
#pragma unroll
    for (int k = 0; k < Policy::kSteps; ++k)
      sm90::wgmma_registers<Element>(
          scores, rows[k],
          tile + k / 4 * (Policy::kStreamRows * 128 >> 4) + k % 4 * sm90::kDescriptorStep, k > 0);
    sm90::wgmma_commit();
  }

  /// Streams kTiles tiles past the rows. No product is under way before or after: ptxas serialises
  /// products that are in flight across a loop's back edge.
  template <int kTiles>
  __device__ void run(Pass& pass, const Item& item, int& column, int full_begin, int full_end) {
    constexpr int kCount = Run<kTiles>::kCount;
    constexpr int kAhead = Run<kTiles>::kAhead;
    float scores[kAhead][Policy::kChunk / 2];
    static_assert(kAhead <= Policy::kChunks, "the first products are all of one tile");
    RingPlace<Policy> ahead = place;
    std::uint64_t tile = tile_at(ahead);
    begin_turn();
#pragma unroll
    for (int i = 0; i < kAhead; ++i) issue(scores[i], tile, i);
    end_turn();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      float(&chunk)[Policy::kChunk / 2] = scores[i % kAhead];
      if (kAhead > 1 && i + 1 < kCount) {
        sm90::wgmma_wait<1>();
      } else {
        sm90::wgmma_wait<0>();
      }
      sm90::pin_registers(chunk);
      const int lse_index =
          place.lse_slot * Policy::kStreamRows + i % Policy::kChunks * Policy::kChunk;
      if (i % Policy::kChunks == Policy::kChunks - 1) {
        give_back_tile(place.stage);
        place.advance();
      }
      take(pass, chunk, item, column, full_begin, full_end, lse_index);
      column += Policy::kChunk;
      const int next = i + kAhead;
      if (next >= kCount) continue;
      if (next % Policy::kChunks == 0) {
        ahead.advance();
        tile = tile_at(ahead);
      }
      begin_turn();
      issue(chunk, tile, next % Policy::kChunks);
      end_turn();
    }
  }

  /// Hands a chunk that starts at streamed row `column` to the pass.
  __device__ void take(Pass& pass,
                       float (&scores)[Policy::kChunk / 2],
                       const Item& item,
                       int column,
                       int full_begin,
                       int full_end,
                       int lse_index) const {
    const typename Pass::Items::Arguments& args = loader.args;
    const float* lse =
        reinterpret_cast<const float*>(shared_bytes + Layout::kLse + lse_lane[0]) + lse_index;
    if constexpr (Pass::Items::kOptions) cap_scores(args.cap, scores);
    if constexpr (Pass::kPacked) {
      const int first = Pass::Items::row_at(args, item, item.first_row, warp * 16);
      pass.take_heads(args, item, scores, lse, first + lane / 4, lane, own_total());
      return;
    }
    const bool full = column >= full_begin && column + Policy::kChunk <= full_end;
    if (full && pass.take_all(scores, args.scale_log2, lse)) return;
    const AttentionMask& mask = Pass::Items::mask(args, item);
    const int row = Pass::Items::row_at(args, item, item.first_row, warp * 16);
    if (Pass::visible(mask, row + 15).end <= column ||
        Pass::visible(mask, row).begin >= column + Policy::kChunk)
      return;
    const int own_lane = sm80::lane_id();
    pass.take_visible(scores, args.scale_log2, lse, mask, row + own_lane / 4,
                      column + own_lane % 4 * 2);
  }

  /// What `run` does for the other warpgroups, by one without rows. Gives each tile back unread,
  /// but not before it has landed: the next use of a stage must not begin while it still loads.
  template <int kTiles>
  __device__ void pass_by() {
    for (int turn = 0; Policy::kOrdered && turn < Run<kTiles>::kTurns; ++turn) {
      begin_turn();
      end_turn();
    }
    for (int tile = 0; tile < kTiles; ++tile) {
      wait_for_tile(place);
      give_back_tile(place.stage);
      place.advance();
    }
  }

  /// Calls `function(std::integral_constant<int, kTiles>{})` for runs that make up `tiles`.
  template <class Function>
  __device__ static void for_runs(int tiles, Function function) {
    if constexpr (Policy::kRun > 1) {
#pragma unroll 1
      for (; tiles >= Policy::kRun; tiles -= Policy::kRun)
        function(std::integral_constant<int, Policy::kRun>{});
    }
#pragma unroll 1
    for (; tiles > 0; --tiles) function(std::integral_constant<int, 1>{});
  }

  /// The float of the row that this thread stores, of lanes 0 and 1 of a quad.
  __device__ float& own_total() const {
    const int row = warp * 16 + lane / 4 + lane % 2 * 8;
    return reinterpret_cast<float*>(shared_bytes + Layout::kTotals)[row];
  }

  /// All tiles of an item. The item lies in shared memory; loop bounds come through a shuffle,
  /// which tells the compiler that all lanes agree.
  __device__ void stream(Pass& pass, const Item& item, int tiles) {
    const typename Pass::Items::Arguments& args = loader.args;
    const AttentionMask& mask = Pass::Items::mask(args, item);
    const int first_row = __shfl_sync(0xffffffffu, item.first_row, 0);
    const int last = Pass::Items::rows(args, item) - 1;
    if (Pass::Items::row_at(args, item, first_row, warp / 4 * 64) > last) {
      for_runs(tiles, [&](auto count) { pass_by<count>(); });
      return;
    }
    // Columns that all of the warp's rows see.
    const int row = Pass::Items::row_at(args, item, first_row, warp * 16);
    const VisibleColumns top = Pass::visible(mask, min(row, last));
    const VisibleColumns bottom = Pass::visible(mask, min(row + 15, last));
    const auto full_begin = static_cast<int>(bottom.begin);
    const auto full_end = static_cast<int>(top.end);
    const auto stream_tiles = [&](int some) {
      int column = __shfl_sync(0xffffffffu, item.tile_begin, 0) * Policy::kStreamRows;
      for_runs(some, [&](auto count) { run<count>(pass, item, column, full_begin, full_end); });
    };
    if constexpr (Pass::kEachHead) {
      // What changes with the head only is read anew: scores need the registers.
#pragma unroll 1
      for (int head = 0; head < __shfl_sync(0xffffffffu, item.heads, 0);
           head += __shfl_sync(0xffffffffu, item.tile_heads, 0)) {
        if constexpr (Pass::kPacked) pass.head = head;
        stream_tiles(__shfl_sync(0xffffffffu, item.head_tiles, 0));
        const int first = Pass::Items::row_at(args, item, item.first_row, warp * 16);
        pass.finish_heads(args, item, head, first + lane / 4, lane, own_total());
      }
    } else {
      stream_tiles(tiles);
    }
  }
};

/// grid: any number of CTAs, which share the items evenly; block: Policy::kThreads; dynamic shared
/// memory: WgmmaLayout::kBytes. Pass says what becomes of the scores: wgmma_rows.cuh,
/// wgmma_columns.cuh.
template <class Element, class Policy, class Pass>
__global__ void __launch_bounds__(Policy::kThreads, 1)
    wgmma_pass(const __grid_constant__ typename Pass::Items::Arguments args) {
  using Layout = WgmmaLayout<Policy, Pass>;
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  auto& control = *reinterpret_cast<typename Layout::Control*>(shared_bytes + Layout::kControl);
  const Loader<Policy, Pass> loader{args, control, sm90::shared_address(shared_bytes)};
  if (threadIdx.x == 0) {
    sm90::mbarrier_init(sm90::shared_address(&control.stationary_full), 1);
    control.stationary_released = 0;
    for (int stage = 0; stage < Policy::kStages; ++stage) {
      sm90::mbarrier_init(sm90::shared_address(&control.full[stage]), 1);
      control.released[stage] = 0;
    }
    sm90::mbarrier_init_fence();
    control.cta = blockIdx.x;
    control.ctas = gridDim.x;
    control.known_rounds = 0;
    control.round = 0;
    control.lse_slot = 0;
    control.stream.tiles = 0;
    sm90::next_grid_launch();  // its CTAs get their SMs one by one as this grid's end
    loader.load_stationary();
    if (Pass::kReadsLse) sm90::previous_grid_wait();  // writes the lse; nothing before reads that
#pragma unroll 1
    for (int stage = 0; stage < Policy::kStages; ++stage) loader.load_tile(stage);
  }
  __syncthreads();  // all threads: barriers and counters of the first one are visible

  // The shuffle tells the compiler that all lanes agree.
  WgmmaWarp<Element, Policy, Pass> warp{
      loader, shared_bytes, static_cast<int>(__shfl_sync(0xffffffffu, threadIdx.x / 32, 0)),
      static_cast<int>(threadIdx.x % 32)};
  if (Pass::kReadsLse) sm90::pin_registers(warp.lse_lane);
  if (Pass::kEachHead && warp.lane % 4 < 2) warp.own_total() = 0;
  if (Policy::kOrdered && warp.warp / 4 == 3) warp.end_turn();  // the first turn is warpgroup 0's
#pragma unroll 1
  for (std::uint32_t parity = 0;; parity ^= 1) {  // of the item's number
    sm90::mbarrier_wait_warp(sm90::shared_address(&control.stationary_full), parity);
    const typename Pass::Items::Item& item = control.item[parity];
    const int tiles = __shfl_sync(0xffffffffu, item.tiles, 0);
    if (tiles < 0) break;
    warp.load_stationary(item);
    Pass pass;
    warp.stream(pass, item, tiles);
    const int row = Pass::Items::row_at(args, item, item.first_row, warp.warp * 16);
    pass.store(args, item, row + warp.lane / 4, warp.warp, warp.lane);
  }
  if (Policy::kOrdered && warp.warp / 4 == 0) warp.begin_turn();  // takes the arrival left over
}

}  // namespace attn::colreduce
