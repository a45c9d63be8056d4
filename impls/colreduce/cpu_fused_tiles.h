// The inner loops of cpu_fused, on tiles in a core's cache: packing, scores, exponentials, column
// sums. One table of functions per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "harness/core/dtype.h"
#include "reference/attention_mask.h"

namespace attn::colreduce {

constexpr int kMaxRows = 64;                ///< most queries of a row block
constexpr int kKeyTile = 48;                ///< keys packed at a time; a multiple of 6 and of 12
constexpr int kMaxDepth = 256;              ///< components of D packed at a time
constexpr int kKeyStride = kMaxDepth + 16;  ///< 17 cache lines: rows spread over all sets of L1

/// Rows of one head's q or k in memory; `stride` counts elements.
struct HeadRows {
  const char* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t stride = 0;
  const void* at(std::int64_t row, std::int64_t component) const {
    return data + (row * stride + component) * static_cast<std::int64_t>(size_of(dtype));
  }
};

/// Queries [m0, m0 + rows) of a head. Buffers over them have `stride` entries, a multiple of the
/// panel's rows; entries past `rows` belong to no query.
struct RowBlock {
  AttentionMask mask;
  std::int64_t m0 = 0;
  int rows = 0;
  int stride = 0;

  /// Of the keys [n0, n0 + count), counted from n0: the first that the block's query `row` sees, and
  /// behind the last. The end may lie before the begin.
  int keys_begin(int row, std::int64_t n0, int count) const {
    return static_cast<int>(std::clamp<std::int64_t>(mask.key_begin(query(row)) - n0, 0, count));
  }
  int keys_end(int row, std::int64_t n0, int count) const {
    return static_cast<int>(std::clamp<std::int64_t>(mask.key_end(query(row)) - n0, 0, count));
  }

  std::int64_t query(int row) const { return m0 + std::min(row, rows - 1); }
};

/// Keys [n0, n0 + count) of a head; tiles of scores over them are [count, block.stride].
struct KeyRange {
  std::int64_t n0 = 0;
  int count = 0;
};

/// The loops for one instruction set.
struct TileKernels {
  std::string_view instructions;  ///< "avx512", "avx2" or "baseline"
  int panel_rows = 0;             ///< queries of a micro-tile
  /// q [stride / panel_rows, depth, panel_rows] = components [d0, d0 + depth), zeros past `rows`.
  void (*pack_queries)(RowBlock, HeadRows, std::int64_t d0, int depth, float* q);
  /// k [<= kKeyTile, kKeyStride] = components [d0, d0 + depth).
  void (*pack_keys)(KeyRange, HeadRows, std::int64_t d0, int depth, float* k);
  /// s = factor * (q k^T, plus s where `accumulate`), for the micro-tiles that somebody sees.
  void (*score)(RowBlock,
                KeyRange,
                const float* q,
                const float* k,
                int depth,
                bool accumulate,
                float factor,
                float* s);
  /// s = cap * tanh(s), where seen by part of a vector.
  void (*soft_cap)(RowBlock, KeyRange, float cap, float* s);
  /// row_max = max(row_max, visible scores); NaN is passed over.
  void (*find_max)(RowBlock, KeyRange, const float* s, float* row_max);
  /// s = 2^(s - row_max), 0 where unseen by part of a vector; row_sum += the visible ones.
  void (*exponentiate)(RowBlock, KeyRange, const float* row_max, float* s, float* row_sum);
  /// column[n] = sum, or maximum, over the queries that see key n of s * inverse_sum.
  void (*reduce)(
      RowBlock, KeyRange, const float* s, const float* inverse_sum, bool is_max, float* column);
};

/// What this machine can run, best first; the last is what every machine runs.
std::vector<TileKernels> available_kernels();

}  // namespace attn::colreduce
