// What wgmma_sm90 decides for a problem before anything is launched: which kernels, how heads and
// tiles are shared out, and where scratch memory lies. A pure function of problem and device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "harness/core/backend.h"
#include "impls/colreduce/wgmma_choices.h"
#include "impls/colreduce/wgmma_items.h"
#include "impls/colreduce/wgmma_option_choices.h"
#include "impls/colreduce/wgmma_sequences.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

struct WgmmaPlan {
  WgmmaSequences sequences;
  std::int64_t sharing = 1;             ///< query heads a key head
  std::int64_t combined = 1;            ///< query heads an output head
  bool row_options = false;             ///< pass 1 needs the kernels that take every option
  bool column_options = false;          ///< the same of pass 2
  int row_pack = kWgmmaRows;            ///< rows of a stationary tile of queries that one head has
  int column_pack = 1;                  ///< the same of a streamed one; of no plain kernel
  std::int64_t span = 1;                ///< query heads that a CTA of pass 2 reduces in turn
  RowSplits splits;                     ///< of pass 1
  std::vector<WgmmaUnit> row_units;     ///< of a ragged problem, in order
  std::vector<WgmmaUnit> column_units;  ///< the same of pass 2
  // The workspace: lse, tables, then the parts of pass 1 and later, in their place, those of pass
  // 2.
  std::int64_t lse_bytes = 0;
  std::int64_t table_bytes = 0;
  std::int64_t part_bytes = 0;

  /// Query heads of an item of pass 1, packed into one tile.
  std::int64_t row_heads() const { return std::min<std::int64_t>(kWgmmaRows / row_pack, sharing); }
  /// Parts of an output head in pass 2.
  std::int64_t head_parts() const { return combined > span ? combined / span : 1; }
  std::int64_t bytes() const { return lse_bytes + table_bytes + part_bytes; }
};

/// Of `tile` rows, over all sequences; `batches`: sequences alike.
inline std::int64_t tiles_of(const WgmmaSequences& sequences,
                             bool keys,
                             int tile,
                             std::int64_t batches) {
  std::int64_t tiles = 0;
  for (const WgmmaSequence& sequence : sequences.list)
    tiles += ((keys ? sequence.mask.N : sequence.mask.M) + tile - 1) / tile;
  return tiles * batches;
}

/// Queries that the key in the middle of a sequence sees; all, where sequences differ or a window keeps items alike.
inline std::int64_t typical_queries(const WgmmaSequences& sequences) {
  if (sequences.list.size() != 1 || window_cuts(sequences)) return sequences.queries;
  const AttentionMask& mask = sequences.list.front().mask;
  return mask.query_end(mask.N / 2) - mask.query_begin(mask.N / 2);
}

inline WgmmaPlan wgmma_plan(const ColReduce::Problem& problem, const DeviceInfo& device) {
  WgmmaPlan plan;
  plan.sequences = sequences_of(problem);
  plan.sharing = problem.H / problem.key_heads();
  plan.combined = problem.combined_heads();
  const WgmmaSequences& sequences = plan.sequences;
  const bool ragged = problem.is_ragged();
  const std::int64_t batches = ragged ? 1 : problem.B;
  const int stream_rows = wgmma_stream_rows(problem.D);
  const TensorSpec q = ColReduce::tensor_specs(problem)[0];
  const bool packs = plan.sharing > 1 && q.strides[1] != 0;
  if (packs) plan.row_pack = choose_pack_rows(kWgmmaRows, sequences.queries, plan.sharing);
  const bool general = ragged || problem.softcap > 0 || window_cuts(sequences);
  plan.row_options = general || plan.row_pack < kWgmmaRows;
  plan.column_options = plan.row_options || plan.combined > 1;

  plan.lse_bytes = 4 * problem.B * problem.H * sequences.lse_pitch;
  if (ragged) {
    plan.row_units = longest_first(sequences, false, plan.row_pack, stream_rows);
    plan.column_units = longest_first(sequences, true, kWgmmaRows, stream_rows);
    const std::size_t table =
        sequences.list.size() * sizeof(WgmmaSequence) +
        (plan.row_units.size() + plan.column_units.size()) * sizeof(WgmmaUnit);
    plan.table_bytes = static_cast<std::int64_t>((table + 15) / 16 * 16);
  }
  const std::int64_t spare = std::max<std::int64_t>(
      4 * problem.B * problem.H * problem.M + kExtraBytes - plan.lse_bytes - plan.table_bytes, 0);
  const std::int64_t outputs = problem.B * problem.out_heads() * problem.N;
  if (problem.lse != Lse::kIn && plan.lse_bytes > 0) {
    const std::int64_t slots =
        problem.key_heads() * ((plan.sharing + plan.row_heads() - 1) / plan.row_heads());
    plan.splits = choose_row_splits(
        {.items = tiles_of(sequences, false, plan.row_pack, batches) * slots,
         .keys = sequences.keys,
         .D = problem.D,
         .lse_bytes = plan.lse_bytes,
         .out_bytes = outputs * static_cast<std::int64_t>(size_of(problem.out_dtype)),
         .spare_bytes = spare,
         .sm_count = device.sm_count});
  }
  if (plan.column_options) {
    plan.span = choose_head_span({.key_tiles = tiles_of(sequences, true, kWgmmaRows, batches),
                                  .H = problem.H,
                                  .sharing = plan.sharing,
                                  .combined = plan.combined,
                                  .queries = sequences.queries,
                                  .typical = typical_queries(sequences),
                                  .stream_rows = stream_rows,
                                  .packs = packs,
                                  .limit = std::max<std::int64_t>(spare / (4 * outputs), 1),
                                  .sm_count = device.sm_count});
    const std::int64_t heads = std::min(plan.span, plan.sharing);
    plan.column_pack =
        packs ? choose_pack_rows(stream_rows, sequences.queries, heads) : stream_rows;
  }
  const std::int64_t parts = plan.head_parts();
  if (plan.splits.parts > 1 && !plan.splits.in_output)
    plan.part_bytes = plan.splits.parts * plan.lse_bytes;
  if (parts > 1) plan.part_bytes = std::max(plan.part_bytes, parts * 4 * outputs);
  return plan;
}

/// What the numbers of both passes have in common.
inline WgmmaNumbers common_numbers(const ColReduce::Problem& problem, const WgmmaPlan& plan) {
  WgmmaNumbers numbers;
  numbers.whole = plan.sequences.list.front();
  numbers.whole.q_first =
      0;  // a problem that is not ragged is given its contributing queries alone
  numbers.sharing = static_cast<std::uint32_t>(plan.sharing);
  numbers.H = static_cast<std::uint32_t>(problem.H);
  numbers.total_heads = static_cast<std::uint32_t>(problem.B * problem.H);
  return numbers;
}

/// Completes them: `tiles` stationary tiles of a sequence, or `units` of all, each of which streams
/// `stream_bytes`.
inline void count_chains(const ColReduce::Problem& problem,
                         std::int64_t tiles,
                         std::int64_t units,
                         std::int64_t stream_bytes,
                         const DeviceInfo& device,
                         WgmmaNumbers& numbers) {
  const std::int64_t heads = problem.B * static_cast<std::int64_t>(numbers.slots);
  numbers.order.heads = static_cast<std::uint32_t>(heads);
  numbers.order.units = static_cast<std::uint32_t>(tiles * numbers.splits);
  numbers.order.group = choose_group(problem.mask != Mask::kNone, heads, stream_bytes,
                                     static_cast<std::int64_t>(device.l2_bytes));
  const std::int64_t chains = problem.is_ragged() ? units * numbers.slots : heads * tiles;
  numbers.chains = static_cast<std::uint32_t>(chains * numbers.splits);
}

/// How the items of pass 1 are numbered, but for the tables of a ragged problem. There is a
/// sequence.
inline WgmmaNumbers row_numbers(const ColReduce::Problem& problem,
                                const WgmmaPlan& plan,
                                const DeviceInfo& device) {
  WgmmaNumbers numbers = common_numbers(problem, plan);
  const std::int64_t group_slots = (plan.sharing + plan.row_heads() - 1) / plan.row_heads();
  numbers.splits = static_cast<std::uint32_t>(plan.splits.parts);
  numbers.pack_rows = plan.row_pack;
  numbers.heads = static_cast<std::uint32_t>(plan.row_heads());
  numbers.slots = static_cast<std::uint32_t>(problem.key_heads() * group_slots);
  // Late queries see most keys. Pass 2 starts where this one ends, at the first head, whose keys
  // are then still in L2.
  numbers.order.heads_backwards = true;
  numbers.order.units_backwards = true;
  const std::int64_t tiles = (numbers.whole.mask.M + plan.row_pack - 1) / plan.row_pack;
  count_chains(problem, tiles, static_cast<std::int64_t>(plan.row_units.size()),
               problem.N * problem.D * 2 / group_slots, device, numbers);
  return numbers;
}

/// The same of pass 2.
inline WgmmaNumbers column_numbers(const ColReduce::Problem& problem,
                                   const WgmmaPlan& plan,
                                   const DeviceInfo& device) {
  WgmmaNumbers numbers = common_numbers(problem, plan);
  numbers.pack_rows = plan.column_pack;
  numbers.slots = static_cast<std::uint32_t>(problem.H / plan.span);
  numbers.heads = static_cast<std::uint32_t>(std::min(plan.span, plan.sharing));
  numbers.links = static_cast<std::uint32_t>(plan.span) / numbers.heads;
  numbers.combined = static_cast<std::uint32_t>(plan.combined);
  numbers.part_rows = static_cast<std::uint32_t>(problem.B * problem.out_heads());
  const std::int64_t tiles = (numbers.whole.mask.N + kWgmmaRows - 1) / kWgmmaRows;
  count_chains(problem, tiles, static_cast<std::int64_t>(plan.column_units.size()),
               plan.span * plan.sequences.queries * problem.D * 2, device, numbers);
  return numbers;
}

}  // namespace attn::colreduce
