// What cpu_fused does with one row block and one slab of keys: scores, their rows' maxima and sums,
// weights, column sums. Its schedules put these together.
#pragma once

#include <array>
#include <cstdint>
#include <limits>

#include "impls/colreduce/cpu_fused_tiles.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

constexpr int kScores = 64 * 1056;  // 264 KB: fits L2 beside the packed tiles from 512 KB on
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Everything that does not change between work units.
struct Job {
  ColReduce::Problem problem;
  ColReduce::Tensors tensors;
  TileKernels kernels;
  AttentionMask mask;
  RowRange queries;    // that contribute
  float factor = 1;    // of the dot products: scores in units of log2, or what tanh takes
  float cap = 0;       // of soft-capped scores, in units of log2; 0: none
  int block_rows = 0;  // queries of a row block: 16, 32 or 64
  int threads = 1;

  bool is_max() const { return problem.reduction == Reduction::kMax; }
  std::int64_t heads() const { return problem.B * problem.H; }
  std::int64_t out_heads() const { return problem.B * problem.out_heads(); }
  std::int64_t row_blocks() const { return (queries.count() + block_rows - 1) / block_rows; }
  int slab_keys() const { return kScores / block_rows; }
};

struct Head {
  HeadRows q;
  HeadRows k;
};

/// A row's maximum (log2 units) and the inverse of its sum of 2^(score - maximum).
struct RowStats {
  alignas(64) std::array<float, kMaxRows> row_max;
  alignas(64) std::array<float, kMaxRows> inverse_sum;
};

/// What one thread keeps in its caches.
struct Scratch {
  alignas(64) std::array<float, kMaxRows * kMaxDepth> q;
  alignas(64) std::array<float, kKeyTile * kKeyStride> k;
  alignas(64) std::array<float, kScores> s;
};

/// Rows of query head `bh`, batch and head together, and of its key head.
Head head_of(const Job& job, std::int64_t bh);

/// Block `index` of a head's contributing queries.
RowBlock row_block(const Job& job, std::int64_t index);

/// scratch.s [slab.count, block.stride] = scores. With `row_max`, raises it to the visible ones.
void score_slab(const Job& job,
                const Head& head,
                const RowBlock& block,
                KeyRange slab,
                Scratch& scratch,
                float* row_max);

/// scratch.s = 2^(s - row_max); adds the rows' sums to `row_sum`.
void exponentiate_slab(const Job& job,
                       const RowBlock& block,
                       KeyRange slab,
                       Scratch& scratch,
                       const float* row_max,
                       float* row_sum);

/// The slab of keys that `index` names, of those from the first that the block's first query sees to
/// the last that its last query sees.
KeyRange key_slab(const Job& job, const RowBlock& block, int index);
int key_slabs(const Job& job, const RowBlock& block);

/// Maximum and inverse sum of the block's rows; leaves the last slab's 2^(s - row_max) in scratch.
void row_stats(
    const Job& job, const Head& head, const RowBlock& block, Scratch& scratch, RowStats& stats);

/// total + value, or the larger of both; NaN enters and stays.
float merge(float total, float value, bool is_max);

/// Merges the weights in scratch.s into `totals`, one per key of the slab.
void reduce_slab(const Job& job,
                 const RowBlock& block,
                 KeyRange slab,
                 Scratch& scratch,
                 const RowStats& stats,
                 float* totals);

}  // namespace attn::colreduce
