// What wgmma_sm90 chooses for a problem: grid, order of items, key splits. Pure functions of shape
// and device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "harness/core/host_device.h"
#include "impls/colreduce/key_splits.h"

namespace attn::colreduce {

/// Rows of a stationary tile: 64 for each of four warpgroups.
inline constexpr int kWgmmaRows = 256;

/// Rows of a streamed tile for D components, zero-padded to 64, 96, 128 or 256. At D = 256 tiles of 128
/// rows and the stationary tile leave room for one stage only.
constexpr int wgmma_stream_rows(std::int64_t D) { return D <= 128 ? 128 : 64; }

/// The items of a pass, heads x units, in the order in which they are worked through. A unit is a
/// stationary tile, or one split of it. Units of `group` neighbouring heads are taken unit by unit.
struct ItemOrder {
  std::uint32_t heads = 1;
  std::uint32_t units = 1;  ///< of a head
  std::uint32_t group = 1;  ///< heads, at least 1
  bool heads_backwards = false;
  bool units_backwards = false;
};

struct ItemPlace {
  std::uint32_t head;
  std::uint32_t unit;
};

/// The item at `index` of heads * units: each exactly once.
ATTN_HOST_DEVICE constexpr ItemPlace place_of(const ItemOrder& order, std::uint32_t index) {
  const std::uint32_t group_items = order.group * order.units;
  const std::uint32_t group = index / group_items;
  const std::uint32_t rest = index - group * group_items;
  const std::uint32_t first = group * order.group;
  const std::uint32_t left = order.heads - first;
  const std::uint32_t size = left < order.group ? left : order.group;
  const std::uint32_t unit = rest / size;
  const std::uint32_t head = first + (rest - unit * size);
  return {order.heads_backwards ? order.heads - 1 - head : head,
          order.units_backwards ? order.units - 1 - unit : unit};
}

/// The index that CTA `cta` of `ctas` takes in a round; the end has come when it is out of range.
/// Every other round runs backwards: of items that only get shorter, whoever took the longest of
/// one round takes the shortest of the next.
ATTN_HOST_DEVICE constexpr std::uint32_t index_of_round(std::uint32_t round,
                                                        std::uint32_t cta,
                                                        std::uint32_t ctas) {
  return round * ctas + (round % 2 != 0 ? ctas - 1 - cta : cta);
}

/// Heads of a group. Without a diagonal all items are equally long, and the units of one head,
/// which stream the same rows, run together. Under one, long items of many heads come before short
/// ones; a group's streamed rows should stay in half of L2, unless heads are so large that several
/// CTAs stream each at a time anyway.
constexpr std::uint32_t choose_group(bool diagonal,
                                     std::int64_t heads,
                                     std::int64_t stream_bytes,  ///< of one head
                                     std::int64_t l2_bytes) {
  if (!diagonal) return 1;
  constexpr std::int64_t kFewest = 32;  // 132 CTAs: four stream each head
  const std::int64_t most =
      std::max(kFewest, l2_bytes / 2 / std::max<std::int64_t>(stream_bytes, 1));
  const std::int64_t groups = (heads + most - 1) / most;
  return static_cast<std::uint32_t>((heads + groups - 1) / groups);  // equal groups
}

/// CTAs of a pass: one on each SM (shared memory allows no more), which take items in turn.
constexpr unsigned choose_ctas(std::int64_t items, int sm_count) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(items, 1, std::max(sm_count, 1)));
}

/// What the parts of pass 1 are chosen from.
struct RowSplitShape {
  std::int64_t items = 1;  ///< stationary tiles of queries over all heads
  std::int64_t keys = 1;   ///< of a head
  std::int64_t D = 64;
  std::int64_t lse_bytes = 4;    ///< of one part
  std::int64_t out_bytes = 1;    ///< of all of the output, which holds the parts where they fit
  std::int64_t spare_bytes = 0;  ///< of scratch memory besides the lse
  int sm_count = 1;
};

struct RowSplits {
  int parts = 1;
  bool in_output = false;  ///< where the parts' lse lie: in the output or in the workspace
};

/// Scratch memory beyond 4 B H M bytes.
inline constexpr std::int64_t kExtraBytes = std::int64_t{4} << 20;

/// Floats from one head's lse to the next: the copy engine takes boxes that start at multiples of
/// 16 bytes.
constexpr std::int64_t lse_pitch(std::int64_t M) { return (M + 3) / 4 * 4; }

constexpr RowSplits choose_row_splits(const RowSplitShape& shape) {
  const std::int64_t tile = wgmma_stream_rows(shape.D);
  // A tile of 256 x 128 takes about 2 us. A part loads its queries while the previous one computes,
  // but drains its pipeline; the merge is one more launch.
  const int parts =
      choose_key_splits({.items = shape.items,
                         .key_tiles = (shape.keys + tile - 1) / tile,
                         .slots = shape.sm_count,
                         .limit = std::max(shape.out_bytes, shape.spare_bytes) / shape.lse_bytes,
                         .part_tiles = 1,
                         .merge_tiles = 2});
  return {parts, parts > 1 && shape.lse_bytes * parts <= shape.out_bytes};
}

}  // namespace attn::colreduce
