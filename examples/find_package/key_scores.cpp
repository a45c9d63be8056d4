// Which keys of a cache do the last queries look at? With the installed library and LibTorch alone.
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/topk.h>
#include <attnbench/colreduce.h>

#include <cmath>
#include <iostream>

int main() {
  constexpr std::int64_t kQueries = 32;
  constexpr std::int64_t kKept = 8;
  const at::Tensor query = at::randn({1, 8, kQueries, 64});
  at::Tensor key = at::randn({1, 2, 512, 64});
  key.select(2, 100).copy_(query.select(1, 0).select(1, kQueries - 1).unsqueeze(1) * 3);

  // All query heads together, and only the last 16 queries.
  const at::Tensor scores = attnbench::colreduce(
      query, key, {.mask = "causal", .heads = "sum", .query_begin = -16});  // [B, N]
  const auto [values, kept] = scores.topk(kKept);
  std::cout << "sum of all scores " << scores.sum().item<float>() << ", kept " << kKept << " of "
            << key.size(2) << " keys, first " << kept[0][0].item<std::int64_t>() << "\n";

  // Each of 16 queries of 8 heads gives away a weight of 1.
  const bool sums_up = std::abs(scores.sum().item<double>() - 16 * 8) <= 16 * 8 * 0x1p-20;
  bool has_lse = false;
  try {
    attnbench::colreduce(query, key, {.reduction = "median"});
  } catch (const c10::Error& error) {
    std::cout << error.what_without_backtrace() << "\n";
    has_lse = std::get<1>(attnbench::colreduce_with_lse(query, key)).isfinite().all().item<bool>();
  }
  return sums_up && has_lse && kept[0][0].item<std::int64_t>() == 100 ? 0 : 1;
}
