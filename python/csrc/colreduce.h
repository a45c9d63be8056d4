// The column reduction of attention weights for C++ programs that use LibTorch: how much attention
// each key gets. What is computed, and every option, is that of reference/colreduce/README.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#define ATTNBENCH_API __attribute__((visibility("default")))

namespace attnbench {

/// What a call may say besides its tensors. A field that is left alone asks for nothing.
struct ColReduceOptions {
  std::string_view reduction = "sum";      ///< over the queries: sum, mean, max
  std::string_view mask = "none";          ///< none, causal (right-aligned), causal_top_left
  std::string_view mean_over = "visible";  ///< divisor of a mean: visible or all queries
  std::string_view heads = "each";         ///< each, mean, sum, max, group
  std::optional<double> scale{};           ///< of the scores; empty: 1 / sqrt(D)
  double softcap = 0;                      ///< c > 0: scores become c tanh(score / c)
  std::int64_t window = -1;                ///< keys left of the diagonal that are seen; -1: all
  std::int64_t query_begin = 0;            ///< first contributing query; -32: the last 32
  std::int64_t query_end = -1;             ///< behind the last contributing query; -1: the end
  /// Lengths of padded sequences, one a batch; or prefix sums of packed ones.
  std::optional<std::vector<std::int64_t>> q_len{};
  std::optional<std::vector<std::int64_t>> kv_len{};
  std::optional<std::vector<std::int64_t>> cu_q{};
  std::optional<std::vector<std::int64_t>> cu_k{};
  std::optional<at::Tensor> lse{};  ///< [B, H, M] or [H, M], fp32, natural logarithm; saves a pass
  std::optional<at::ScalarType> out_dtype{};  ///< empty: fp32; else fp32 or the type of the query
};

/// Reduces query [B, H, M, D] and key [B, H_kv, N, D], on one CPU or GPU and of any strides with D
/// contiguous, to [B, H, N]; or [B, N] or [B, H_kv, N] by `heads`. Packed sequences are [M, H, D]
/// and [N, H_kv, D], and their result has no batch axis. On a GPU the work is enqueued on the
/// current stream. The result has no gradient. Throws c10::ValueError where an argument is not valid.
ATTNBENCH_API at::Tensor colreduce(const at::Tensor& query,
                                   const at::Tensor& key,
                                   const ColReduceOptions& options = {});

/// The same, and the normalisers ln sum exp(score) of the queries: [B, H, M] or, of packed
/// sequences, [H, M], in fp32; -inf for a query that sees no key or does not contribute. Takes no
/// lse.
ATTNBENCH_API std::tuple<at::Tensor, at::Tensor> colreduce_with_lse(
    const at::Tensor& query, const at::Tensor& key, const ColReduceOptions& options = {});

}  // namespace attnbench
