// The backward of a network with block attention residuals, from its blocks' sums: reads and partial sums
// inside the blocks are computed again. ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/network.h"

namespace attn {

struct AttnResNetworkBwd {
  static constexpr std::string_view kName = "attnres_network_bwd";

  struct Problem : attnres::NetworkProblem {
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_network(self, visit);
    }
  };
  /// All dense. What sublayers make of the gradients of their outputs is given, as are the sums of the
  /// blocks, which need not be those of the updates.
  struct Tensors {
    TensorView blocks;   // [1 + blocks, B, T, D] the embedding and the sums of the blocks
    TensorView updates;  // [plane_count, B, T, D] what sublayers return
    TensorView wt;       // [L + 1, D]
    TensorView dout;     // [B, T, D] gradient of the output
    TensorView dreads;   // [plane_count, B, T, D] of what sublayers read
    TensorView
        dblocks;     // [1 + blocks, B, T, D] of the embedding, and of what the first sublayer of
                     // each block returns: all of the block's gradients have been added to it
    TensorView dwt;  // [L + 1, D], fp32
  };
  using Reference = attnres::Reference;

  static Support validate(const Problem& p) { return attnres::validate_network(p); }
  static DType input_dtype(const Problem& p) { return p.dtype; }
  static std::vector<TensorSpec> tensor_specs(const Problem&);
  static Tensors bind(const Problem&, std::span<void* const> storage);
  static Work work(const Problem& p) { return attnres::network_work(p, /*gradient=*/true); }
  static Reference oracle(const Problem&, const Tensors&);
  static std::optional<Reference> oracle_on_device(const Problem&, const Tensors&) {
    return std::nullopt;
  }
  static double tolerance(const Problem&, const Reference& r, std::size_t i, NumericsClass c) {
    return attnres::tolerance(r, i, c);
  }
  static double norm_tolerance(const Problem&, const Reference& r, std::size_t o, NumericsClass) {
    return attnres::norm_tolerance(r, o);
  }
  static std::vector<Suite<Problem>> suites() { return attnres::network_suites_of<Problem>(); }
  static std::span<const BackendSlot<AttnResNetworkBwd>> backends();
};

}  // namespace attn
