// The fp64 oracle on the GPU, for shapes that the CPU would take hours over: the definitions of
// oracle.cpp, by a plain tiled product on the FP64 units (oracle_kernels.cuh). Shares only the mask
// with backends.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "harness/core/cuda_check.h"
#include "reference/colreduce/contract.h"
#include "reference/colreduce/oracle_kernels.cuh"
#include "reference/device_memory.cuh"

namespace attn {
namespace {

using namespace oracle;

unsigned tiles_of(std::int64_t heads, std::int64_t rows, int tile = kTile) {
  return static_cast<unsigned>(heads * ((rows + tile - 1) / tile));
}

/// Device memory for the heads of a problem, in chunks whose scratch stays near 256 MiB.
class DeviceOracle {
 public:
  DeviceOracle(const ColReduce::Problem& p, const ColReduce::Tensors& tensors)
      : heads_(p.B * p.H),
        chunk_(chunk_of(p)),
        k_norms_(chunk_ * p.N),
        k_longest_(chunk_),
        value_(chunk_ * p.N),
        drift_(chunk_ * p.N),
        stored_(chunk_ * p.N),
        square_(chunk_ * p.N),
        rows_(chunk_ * p.contributing().count()),
        job_{.q = tensors.q,
             .k = tensors.k,
             .mask = p.attention_mask(),
             .contributing = p.contributing(),
             .H = p.H,
             .group = p.H / p.key_heads(),
             .first_head = 0,
             .scale = p.scale_value(),
             .softcap = p.softcap,
             .is_max = p.reduction == Reduction::kMax,
             .given_lse = {},
             .k_norms = k_norms_.get(),
             .k_longest = k_longest_.get(),
             .rows = rows_.get(),
             .out = {value_.get(), drift_.get(), stored_.get(), square_.get()}} {
    CUDA_CHECK(cudaDeviceSynchronize());  // whoever wrote the inputs may have used another stream
  }

  /// Rows have this normaliser instead of their own.
  void take_lse(const TensorView& lse) { job_.given_lse = lse; }

  /// Computes the rows of every head, and calls visit(first head, heads) after each chunk.
  template <class Visit>
  void for_chunks(Visit&& visit) {
    for (job_.first_head = 0; job_.first_head < heads_; job_.first_head += chunk_) {
      const std::int64_t heads = std::min(chunk_, heads_ - job_.first_head);
      const std::int64_t queries = job_.contributing.count();
      measure_keys<<<static_cast<unsigned>(heads), kThreads>>>(job_);
      CUDA_CHECK_LAUNCH();
      if (job_.given_lse.data) {
        take_rows<<<tiles_of(heads, queries, kThreads), kThreads>>>(job_);
      } else {
        reduce_rows<<<tiles_of(heads, queries), kThreads>>>(job_);
      }
      CUDA_CHECK_LAUNCH();
      visit(job_.first_head, heads);
    }
  }

  /// Of the chunk's heads: reduces the columns into the reference, before any division.
  void columns_to(ColReduce::Reference& reference, std::int64_t heads) const {
    reduce_columns<<<tiles_of(heads, job_.mask.N), kThreads>>>(job_);
    CUDA_CHECK_LAUNCH();
    const std::int64_t at = job_.first_head * job_.mask.N;
    value_.copy_to(reference.value.data() + at, heads * job_.mask.N);
    drift_.copy_to(reference.drift.data() + at, heads * job_.mask.N);
    stored_.copy_to(reference.stored.data() + at, heads * job_.mask.N);
    square_.copy_to(reference.square.data() + at, heads * job_.mask.N);
  }

  /// Of the chunk's heads: [heads, contributing queries].
  std::vector<RowFacts> rows(std::int64_t heads) const {
    std::vector<RowFacts> facts(static_cast<std::size_t>(heads * job_.contributing.count()));
    rows_.copy_to(facts.data(), heads * job_.contributing.count());
    return facts;
  }

 private:
  static std::int64_t chunk_of(const ColReduce::Problem& p) {
    constexpr std::int64_t kScratchBytes = std::int64_t{256} << 20;
    const auto row_bytes = static_cast<std::int64_t>(sizeof(RowFacts));
    const std::int64_t head_bytes = p.contributing().count() * row_bytes + p.N * (2 * 8 + 3 * 4);
    return std::clamp<std::int64_t>(kScratchBytes / head_bytes, 1, p.B * p.H);
  }

  std::int64_t heads_;
  std::int64_t chunk_;
  DeviceArray<double> k_norms_, k_longest_, value_;
  DeviceArray<float> drift_, stored_, square_;
  DeviceArray<RowFacts> rows_;
  Job job_;
};

/// Of a row that was not given: -inf without weight.
double lse_of(const RowFacts& row) {
  return std::isinf(row.sum) ? -std::numeric_limits<double>::infinity()
                             : row.origin + std::log(row.sum);
}

/// Calls visit(head, query, row) for every row of a problem that is not ragged; heads of all batches
/// count on.
template <class Visit>
void for_rows(const DeviceOracle& oracle,
              const ColReduce::Problem& p,
              std::int64_t first_head,
              std::int64_t heads,
              Visit&& visit) {
  const RowRange queries = p.contributing();
  const std::vector<RowFacts> rows = oracle.rows(heads);
  for (std::int64_t i = 0; i < heads * queries.count(); ++i)
    visit(first_head + i / queries.count(), queries.begin + i % queries.count(),
          rows[static_cast<std::size_t>(i)]);
}

using Reference = ColReduce::Reference;

/// The answer of a problem that is not ragged.
Reference answer(const ColReduce::Problem& p, const ColReduce::Tensors& tensors) {
  Reference reference = Reference::of_columns(p);
  DeviceOracle oracle(p, tensors);
  if (p.lse == Lse::kIn) oracle.take_lse(tensors.lse);
  oracle.for_chunks([&](std::int64_t first_head, std::int64_t heads) {
    oracle.columns_to(reference, heads);
    if (p.lse != Lse::kOut) return;
    for_rows(
        oracle, p, first_head, heads, [&](std::int64_t head, std::int64_t m, const RowFacts& row) {
          const std::int64_t at = p.B * p.H * p.N + head * p.M + m;
          reference.set_lse(static_cast<std::size_t>(at), lse_of(row), row.drift, row.mean_score);
        });
  });
  return Reference::of_heads(p, std::move(reference));
}

}  // namespace

std::optional<Reference> ColReduce::oracle_on_device(const Problem& p, const Tensors& tensors) {
  if (!p.is_ragged()) return answer(p, tensors);
  Reference reference(p);
  for (const Part& part : parts(p))
    reference.insert(p, part, answer(part.problem, part.slice(tensors)));
  return reference;
}

void ColReduce::write_given_on_device(const Problem& p, const Tensors& tensors) {
  if (p.lse != Lse::kIn) return;
  std::vector<float> lse(static_cast<std::size_t>(p.B * p.H * p.M),
                         -std::numeric_limits<float>::infinity());
  for (const Part& part : parts(p)) {
    DeviceOracle oracle(part.problem, part.slice(tensors));
    float* own = lse.data() + part.batch * p.H * p.M + part.q_first;
    oracle.for_chunks([&](std::int64_t first_head, std::int64_t heads) {
      for_rows(oracle, part.problem, first_head, heads,
               [&](std::int64_t head, std::int64_t m, const RowFacts& row) {
                 own[head * p.M + m] = static_cast<float>(lse_of(row));
               });
    });
  }
  CUDA_CHECK(
      cudaMemcpy(tensors.lse.data, lse.data(), lse.size() * sizeof(float), cudaMemcpyHostToDevice));
}

}  // namespace attn
