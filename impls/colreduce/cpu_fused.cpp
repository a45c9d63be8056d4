// Column sums of the attention weights on a CPU, without the M x N scores in memory.
//
// Computes   per row block (up to 64 queries) and slab of keys (as many as fit a score buffer that
//            stays in a core's L2): scores, running row maximum and sum (online softmax), then
//            weights and column sums. Only slabs before the last are computed a second time: one
//            slab holds all keys up to N = 4224, so that most problems compute each score once.
// Mapping    (batch, head) -> thread where there are heads enough; else two phases of work units,
//            (head, row block) for maxima and sums, then (head, column range) for the columns.
//            Both orders add the same numbers in the same order: the bits depend on neither the
//            schedule nor the number of threads.
// Memory     per thread 380 KB on its stack (q 64 KB, keys 51 KB, scores 264 KB); workspace 8 bytes
//            a row in the two-phase schedule, none else.
// Limit      fused multiply-adds: 2 D of them per score against one exponential of 14 instructions.
// Rounding   inputs widen to fp32 exactly; scores, weights and sums in fp32; the exponential within
//            2 ulp; the output is rounded once.
// Source     online softmax: Milakov and Gimelshein, arXiv:1805.02867.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "impls/colreduce/cpu_fused_blocks.h"
#include "impls/colreduce/cpu_fused_tiles.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;
using Tensors = ColReduce::Tensors;

// Keys of a work unit of the second phase: units enough for every thread, and packing 64 queries
// costs little beside 240 keys.
constexpr int kColumnUnit = 5 * kKeyTile;

float divided(const Job& job, float total, std::int64_t n) {
  return static_cast<float>(static_cast<double>(total) / job.problem.divisor(n));
}

/// Row [N] or [M] of a dense fp32 tensor: of the output's head, or a query head's lse.
float* fp32_row(const TensorView& tensor, std::int64_t bh) {
  return static_cast<float*>(tensor.data) +
         tensor.offset(bh / tensor.shape[1], bh % tensor.shape[1], 0);
}

/// lse = ln sum exp(score) of the block's queries, where the problem returns it.
void store_lse(const Job& job, std::int64_t bh, const RowBlock& block, const RowStats& stats) {
  if (job.problem.lse != Lse::kOut) return;
  float* lse = fp32_row(job.tensors.lse, bh) + block.m0;
  for (int row = 0; row < block.rows; ++row) {
    const auto r = static_cast<std::size_t>(row);
    const float lse_log2 = stats.row_max[r] - std::log2(stats.inverse_sum[r]);
    lse[row] = stats.inverse_sum[r] == 0 ? -kInfinity : lse_log2 * std::numbers::ln2_v<float>;
  }
}

/// One head on one thread; the output row [N] in fp32 is the accumulator.
void reduce_head(const Job& job, std::int64_t bh, Scratch& scratch) {
  const Head head = head_of(job, bh);
  const std::int64_t N = job.problem.N;
  float* out = fp32_row(job.tensors.out, bh);
  std::fill_n(out, N, 0.0f);
  for (std::int64_t index = 0; index < job.row_blocks(); ++index) {
    const RowBlock block = row_block(job, index);
    RowStats stats;
    row_stats(job, head, block, scratch, stats);
    store_lse(job, bh, block, stats);
    const int slabs = key_slabs(job, block);
    for (int i = slabs - 1; i >= 0; --i) {
      const KeyRange slab = key_slab(job, block, i);
      if (i != slabs - 1) {
        alignas(64) std::array<float, kMaxRows> known{};
        score_slab(job, head, block, slab, scratch, nullptr);
        exponentiate_slab(job, block, slab, scratch, stats.row_max.data(), known.data());
      }
      reduce_slab(job, block, slab, scratch, stats, out + slab.n0);
    }
  }
  if (job.problem.reduction == Reduction::kMean)
    for (std::int64_t n = 0; n < N; ++n) out[n] = divided(job, out[n], n);
}

/// Where the two-phase schedule keeps a block's statistics: maxima [B, H, contributing queries],
/// then inverse sums.
struct StoredStats {
  float* row_max;
  float* inverse_sum;

  static StoredStats at(const Job& job,
                        const Workspace& workspace,
                        std::int64_t bh,
                        const RowBlock& block) {
    const std::int64_t rows = job.queries.count();
    float* base = static_cast<float*>(workspace.data) + bh * rows + block.m0 - job.queries.begin;
    return {base, base + job.heads() * rows};
  }
};

void store_row_stats(const Job& job,
                     std::int64_t unit,
                     const Workspace& workspace,
                     Scratch& scratch) {
  const std::int64_t bh = unit / job.row_blocks();
  const RowBlock block = row_block(job, unit % job.row_blocks());
  RowStats stats;
  row_stats(job, head_of(job, bh), block, scratch, stats);
  store_lse(job, bh, block, stats);
  const StoredStats to = StoredStats::at(job, workspace, bh, block);
  std::copy_n(stats.row_max.data(), block.rows, to.row_max);
  std::copy_n(stats.inverse_sum.data(), block.rows, to.inverse_sum);
}

/// The block's statistics: those of the first phase, or what a given lse makes of them.
RowStats known_stats(const Job& job,
                     std::int64_t bh,
                     const RowBlock& block,
                     const Workspace& workspace) {
  RowStats stats{};
  if (job.problem.lse == Lse::kIn) {
    const float* lse = fp32_row(job.tensors.lse, bh);
    for (int row = 0; row < block.rows; ++row) {
      const auto r = static_cast<std::size_t>(row);
      const float given = lse[block.m0 + row];
      const bool weightless = std::isinf(given);
      stats.row_max[r] = weightless ? kInfinity : given * std::numbers::log2e_v<float>;
      stats.inverse_sum[r] = weightless ? 0.0f : 1.0f;
    }
    return stats;
  }
  const StoredStats from = StoredStats::at(job, workspace, bh, block);
  std::copy_n(from.row_max, block.rows, stats.row_max.data());
  std::copy_n(from.inverse_sum, block.rows, stats.inverse_sum.data());
  return stats;
}

using ColumnUnit = std::array<float, kColumnUnit>;

/// The columns [n0, n0 + count) of one head, before any division.
ColumnUnit head_columns(const Job& job,
                        std::int64_t bh,
                        std::int64_t n0,
                        int count,
                        const Workspace& workspace,
                        Scratch& scratch) {
  const Head head = head_of(job, bh);
  ColumnUnit totals{};
  const std::int64_t unseeing = job.mask.query_begin(n0) - job.queries.begin;
  const std::int64_t end = job.mask.query_end(n0 + count - 1);
  for (std::int64_t index = std::max<std::int64_t>(unseeing, 0) / job.block_rows;
       index < job.row_blocks() && job.queries.begin + index * job.block_rows < end; ++index) {
    const RowBlock block = row_block(job, index);
    const RowStats stats = known_stats(job, bh, block, workspace);
    const int begin = block.keys_begin(0, n0, count) / kKeyTile * kKeyTile;
    const int seen = block.keys_end(block.rows - 1, n0, count) - begin;
    const KeyRange slab{n0 + begin, std::max(seen, 0)};
    alignas(64) std::array<float, kMaxRows> known{};
    score_slab(job, head, block, slab, scratch, nullptr);
    exponentiate_slab(job, block, slab, scratch, stats.row_max.data(), known.data());
    reduce_slab(job, block, slab, scratch, stats, totals.data() + begin);
  }
  return totals;
}

/// A range of columns of one head of the output: its query heads one after the other.
void reduce_columns(const Job& job,
                    std::int64_t unit,
                    std::int64_t units_per_head,
                    const Workspace& workspace,
                    Scratch& scratch) {
  const std::int64_t out_head = unit / units_per_head;
  const std::int64_t n0 = unit % units_per_head * kColumnUnit;
  const int count = static_cast<int>(std::min<std::int64_t>(job.problem.N - n0, kColumnUnit));
  const std::int64_t combined = job.problem.combined_heads();
  ColumnUnit totals{};
  for (std::int64_t bh = out_head * combined; bh < (out_head + 1) * combined; ++bh) {
    const ColumnUnit columns = head_columns(job, bh, n0, count, workspace, scratch);
    for (std::size_t n = 0; n < totals.size(); ++n)
      totals[n] = merge(totals[n], columns[n], job.problem.heads == Heads::kMax);
  }
  const TensorView& out = job.tensors.out;
  const std::int64_t at = out.offset(out_head / out.shape[1], out_head % out.shape[1], n0);
  for (int n = 0; n < count; ++n)
    store_element(out.data, out.dtype, at + n,
                  divided(job, totals[static_cast<std::size_t>(n)], n0 + n));
}

void run_by_heads(const Job& job) {
#pragma omp parallel num_threads(job.threads)
  {
    Scratch scratch;
#pragma omp for schedule(dynamic)
    for (std::int64_t bh = 0; bh < job.heads(); ++bh) reduce_head(job, bh, scratch);
  }
}

void run_in_two_phases(const Job& job, const Workspace& workspace) {
  const std::int64_t row_units = job.problem.lse == Lse::kIn ? 0 : job.heads() * job.row_blocks();
  const std::int64_t units_per_head = (job.problem.N + kColumnUnit - 1) / kColumnUnit;
#pragma omp parallel num_threads(job.threads)
  {
    Scratch scratch;
#pragma omp for schedule(dynamic)
    for (std::int64_t unit = 0; unit < row_units; ++unit)
      store_row_stats(job, unit, workspace, scratch);
#pragma omp for schedule(dynamic)
    for (std::int64_t unit = 0; unit < job.out_heads() * units_per_head; ++unit)
      reduce_columns(job, unit, units_per_head, workspace, scratch);
  }
}

/// The most queries with which one slab holds all N keys; 64 where none does, and never more than
/// the contributing ones need. Whole panels of the micro-kernel.
int choose_block_rows(const Problem& p, int panel_rows) {
  const int least = std::max(16, panel_rows);
  int needed = least;
  while (needed < std::min<std::int64_t>(p.contributing().count(), kMaxRows)) needed *= 2;
  for (int rows = needed; rows >= least; rows /= 2)
    if (p.N <= kScores / rows) return rows;
  return needed;
}

Job make_job(const Problem& p, const Tensors& tensors, const DeviceInfo& device) {
  const TileKernels kernels = available_kernels().front();
  const double to_log2 = p.softcap > 0 ? 1 / p.softcap : std::numbers::log2e;
  return {.problem = p,
          .tensors = tensors,
          .kernels = kernels,
          .mask = p.attention_mask(),
          .queries = p.contributing(),
          .factor = static_cast<float>(p.scale_value() * to_log2),
          .cap = static_cast<float>(p.softcap * std::numbers::log2e),
          .block_rows = choose_block_rows(p, kernels.panel_rows),
          .threads = std::max(1, device.threads)};
}

/// Whole heads compute (2 slabs - 1) / slabs products per score and leave threads idle in the last
/// round; two phases compute 2 and leave none idle. A 16-bit output is no fp32 accumulator; a given
/// lse leaves only the second phase; heads are combined there.
bool by_heads(const Job& job) {
  const Problem& p = job.problem;
  if (p.out_dtype != DType::kF32 || p.lse == Lse::kIn || p.combined_heads() > 1) return false;
  const double slabs = std::ceil(static_cast<double>(job.problem.N) / job.slab_keys());
  const std::int64_t rounds = (job.heads() + job.threads - 1) / job.threads;
  return static_cast<double>(rounds * job.threads) * (2 - 1 / slabs) <=
         2 * static_cast<double>(job.heads());
}

std::size_t workspace_bytes(const Job& job) {
  if (by_heads(job) || job.problem.lse == Lse::kIn) return 0;
  return static_cast<std::size_t>(job.heads() * job.queries.count()) * 2 * sizeof(float);
}

/// Parts follow each other: the largest one's.
std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  std::size_t bytes = 0;
  for (const ColReduce::Part& part : ColReduce::parts(p))
    bytes = std::max(bytes, workspace_bytes(make_job(part.problem, {}, device)));
  return bytes;
}

std::string note_of(const Job& job) {
  return std::string(job.kernels.instructions) + ", " + std::to_string(job.block_rows) +
         " queries x " + std::to_string(job.slab_keys()) + " keys, " +
         (by_heads(job) ? "one head a thread" : "two phases");
}

/// What no work unit writes: rows of an lse that do not contribute, columns beyond a length.
void clear_outputs(const Problem& p, const Tensors& tensors) {
  if (p.lse == Lse::kOut)
    std::fill_n(static_cast<float*>(tensors.lse.data), p.B * p.H * p.M, -kInfinity);
  if (p.is_ragged())
    std::memset(tensors.out.data, 0,
                static_cast<std::size_t>(p.B * p.out_heads() * p.N) * size_of(p.out_dtype));
}

Launch plan(const Problem& p,
            const Tensors& tensors,
            Workspace workspace,
            const DeviceInfo& device) {
  std::vector<Job> jobs;
  for (const ColReduce::Part& part : ColReduce::parts(p))
    jobs.push_back(make_job(part.problem, part.slice(tensors), device));
  Launch launch;
  launch.note =
      p.is_ragged() ? std::to_string(jobs.size()) + " sequences in turn" : note_of(jobs.front());
  launch.enqueue = [p, tensors, jobs, workspace](Stream) {
    clear_outputs(p, tensors);
    for (const Job& job : jobs) {
      if (by_heads(job)) {
        run_by_heads(job);
      } else {
        run_in_two_phases(job, workspace);
      }
    }
  };
  return launch;
}

}  // namespace

extern const Backend<ColReduce> cpu_fused;
constinit const Backend<ColReduce> cpu_fused = {
    .info = {.id = "cpu_fused",
             .summary = "fused in the caches of each core: threads, SIMD, no M x N in memory",
             .memory = MemorySpace::kHost,
             .math = "fp32 FMA, fp32 accumulate, polynomial exp2",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
