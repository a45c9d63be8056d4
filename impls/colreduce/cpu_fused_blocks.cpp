// The steps of cpu_fused over one row block and one slab of keys.
#include "impls/colreduce/cpu_fused_blocks.h"

#include <algorithm>
#include <cmath>

namespace attn::colreduce {
namespace {

HeadRows head_rows(const TensorView& tensor, std::int64_t b, std::int64_t h) {
  const std::int64_t bytes =
      tensor.offset(b, h, 0) * static_cast<std::int64_t>(size_of(tensor.dtype));
  return {static_cast<const char*>(tensor.data) + bytes, tensor.dtype, tensor.strides[2]};
}

/// Calls visit(tile, scores of the tile) for the key tiles of a slab.
template <class Visit>
void for_tiles(const RowBlock& block, KeyRange slab, float* s, Visit&& visit) {
  for (int n = 0; n < slab.count; n += kKeyTile) {
    const KeyRange tile{slab.n0 + n, std::min(slab.count - n, kKeyTile)};
    visit(tile, s + n * block.stride);
  }
}

}  // namespace

Head head_of(const Job& job, std::int64_t bh) {
  const std::int64_t b = bh / job.problem.H;
  const std::int64_t h = bh % job.problem.H;
  return {head_rows(job.tensors.q, b, h), head_rows(job.tensors.k, b, job.problem.key_head(h))};
}

RowBlock row_block(const Job& job, std::int64_t index) {
  const std::int64_t m0 = job.queries.begin + index * job.block_rows;
  const std::int64_t rows = std::min<std::int64_t>(job.queries.end - m0, job.block_rows);
  return {job.mask, m0, static_cast<int>(rows), job.block_rows};
}

void score_slab(const Job& job,
                const Head& head,
                const RowBlock& block,
                KeyRange slab,
                Scratch& scratch,
                float* row_max) {
  const std::int64_t D = job.problem.D;
  for (std::int64_t d0 = 0; d0 < D; d0 += kMaxDepth) {
    const int depth = static_cast<int>(std::min<std::int64_t>(D - d0, kMaxDepth));
    const bool last = d0 + depth == D;
    job.kernels.pack_queries(block, head.q, d0, depth, scratch.q.data());
    for_tiles(block, slab, scratch.s.data(), [&](KeyRange tile, float* s) {
      job.kernels.pack_keys(tile, head.k, d0, depth, scratch.k.data());
      job.kernels.score(block, tile, scratch.q.data(), scratch.k.data(), depth, d0 > 0,
                        last ? job.factor : 1.0f, s);
      if (last && job.cap > 0) job.kernels.soft_cap(block, tile, job.cap, s);
      if (last && row_max) job.kernels.find_max(block, tile, s, row_max);
    });
  }
}

void exponentiate_slab(const Job& job,
                       const RowBlock& block,
                       KeyRange slab,
                       Scratch& scratch,
                       const float* row_max,
                       float* row_sum) {
  for_tiles(block, slab, scratch.s.data(), [&](KeyRange tile, float* s) {
    job.kernels.exponentiate(block, tile, row_max, s, row_sum);
  });
}

KeyRange key_slab(const Job& job, const RowBlock& block, int index) {
  const std::int64_t first = block.mask.key_begin(block.m0);
  const std::int64_t n0 = first + static_cast<std::int64_t>(index) * job.slab_keys();
  const std::int64_t left = block.mask.key_end(block.m0 + block.rows - 1) - n0;
  return {n0, static_cast<int>(std::clamp<std::int64_t>(left, 0, job.slab_keys()))};
}

int key_slabs(const Job& job, const RowBlock& block) {
  const std::int64_t keys =
      block.mask.key_end(block.m0 + block.rows - 1) - block.mask.key_begin(block.m0);
  return static_cast<int>((std::max<std::int64_t>(keys, 0) + job.slab_keys() - 1) /
                          job.slab_keys());
}

void row_stats(
    const Job& job, const Head& head, const RowBlock& block, Scratch& scratch, RowStats& stats) {
  alignas(64) std::array<float, kMaxRows> row_sum{};
  stats.row_max.fill(-kInfinity);
  const int slabs = key_slabs(job, block);
  for (int i = 0; i < slabs; ++i) {
    const KeyRange slab = key_slab(job, block, i);
    const std::array<float, kMaxRows> before = stats.row_max;
    score_slab(job, head, block, slab, scratch, stats.row_max.data());
    for (int row = 0; row < block.rows; ++row) {
      // Equal maxima keep the sum; among them -inf, whose difference would be NaN.
      const auto r = static_cast<std::size_t>(row);
      if (before[r] != stats.row_max[r]) row_sum[r] *= std::exp2(before[r] - stats.row_max[r]);
    }
    exponentiate_slab(job, block, slab, scratch, stats.row_max.data(), row_sum.data());
  }
  for (std::size_t row = 0; row < kMaxRows; ++row)
    stats.inverse_sum[row] = row_sum[row] == 0 ? 0 : 1 / row_sum[row];
}

float merge(float total, float value, bool is_max) {
  if (!is_max) return total + value;
  return value > total || std::isnan(value) ? value : total;
}

void reduce_slab(const Job& job,
                 const RowBlock& block,
                 KeyRange slab,
                 Scratch& scratch,
                 const RowStats& stats,
                 float* totals) {
  for_tiles(block, slab, scratch.s.data(), [&](KeyRange tile, float* s) {
    std::array<float, kKeyTile> column;
    job.kernels.reduce(block, tile, s, stats.inverse_sum.data(), job.is_max(), column.data());
    float* to = totals + (tile.n0 - slab.n0);
    for (int n = 0; n < tile.count; ++n)
      to[n] = merge(to[n], column[static_cast<std::size_t>(n)], job.is_max());
  });
}

}  // namespace attn::colreduce
