// Attention residuals for C++ programs that use LibTorch: single reads over depth, and whole networks
// around sublayers of the caller's. All of it is differentiable, once. What is computed is that of
// reference/attnres/README.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#define ATTNBENCH_API __attribute__((visibility("default")))

namespace attnbench {

/// What a read may say besides its sources and its query.
struct ReadOptions {
  double eps = 1e-6;                   ///< added to the mean square of a source
  std::optional<at::Tensor> update{};  ///< [..., D] added to the last source, which is read rounded
  std::optional<at::Tensor> gamma{};   ///< [D] in the query's type: `out` is then its RMS norm
  double norm_eps = 1e-6;              ///< added to the mean square of the output
};

struct Read {
  at::Tensor out;  ///< [..., D] in the sources' type
  at::Tensor lse;  ///< [...] normalisers in fp32, natural logarithm
  at::Tensor sum;  ///< [..., D] the last source with the update; without one empty, [0]
};

/// One query wt [D] reads all sources [..., D]: out = sum_n p_n v_n, with the weights p of a softmax over
/// the sources of <wt, v_n> / rms(v_n). Tensors are on one CPU or GPU, whose current stream gets the work;
/// sources that are not dense are copied. Throws c10::ValueError where an argument is not valid.
ATTNBENCH_API Read attnres_mix(at::TensorList sources,
                               const at::Tensor& wt,
                               const ReadOptions& options = {});

/// S queries wt [S, D] read all sources: reads [S, ..., D] and their normalisers [S, ...].
ATTNBENCH_API std::tuple<at::Tensor, at::Tensor> attnres_phase1(at::TensorList sources,
                                                                const at::Tensor& wt,
                                                                double eps = 1e-6);

/// What the mix of `partial` and of those sources would be that wt has read already, `read` [..., D] with
/// normalisers z [...]. An update is added to `partial`.
ATTNBENCH_API Read attnres_merge(const at::Tensor& partial,
                                 const at::Tensor& wt,
                                 const at::Tensor& read,
                                 const at::Tensor& z,
                                 const ReadOptions& options = {});

/// A sublayer: u = forward(h), of the shape and type of h, which it must not write. `parameters` are all
/// tensors with a gradient that it uses besides h.
struct Sublayer {
  std::function<at::Tensor(const at::Tensor&)> forward;
  std::vector<at::Tensor> parameters{};
};

struct NetworkOptions {
  std::int64_t block_size = 8;           ///< sublayers of a block; the last may be short
  std::string_view schedule = "auto";    ///< auto, one_shot, two_phase
  std::string_view recompute = "block";  ///< in the backward: none, keep_o1, block
  double eps = 1e-6;                     ///< added to the mean square of a source
};

/// A network with block attention residuals around L sublayers, of embedding [..., D] and the queries wt
/// [L + 1, D], to [..., D]. Sublayers run in order, once; a backward runs them again unless nothing is
/// recomputed, with the generators' states and the autocast of before. Policies give the same bits where
/// sublayers do. Gradients flow to the embedding, the queries and the parameters. Throws c10::ValueError
/// where an argument or what a sublayer returns is not valid.
ATTNBENCH_API at::Tensor attnres_network(const at::Tensor& embedding,
                                         const at::Tensor& wt,
                                         std::vector<Sublayer> sublayers,
                                         const NetworkOptions& options = {});

}  // namespace attnbench
