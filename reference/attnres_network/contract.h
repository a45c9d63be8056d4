// A whole network with block attention residuals, forward: what each of its L sublayers reads, and its
// output, L + 1 reads over depth. ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/network.h"

namespace attn {

struct AttnResNetwork {
  static constexpr std::string_view kName = "attnres_network";

  struct Problem : attnres::NetworkProblem {
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_network(self, visit);
    }
  };
  /// All dense. What sublayers return is given, so that the time is that of the reads alone.
  struct Tensors {
    TensorView embedding;  // [B, T, D]
    TensorView updates;    // [plane_count, B, T, D] what sublayers return
    TensorView wt;         // [L + 1, D]
    TensorView reads;      // [plane_count, B, T, D] what sublayers read; of several, the last
    TensorView blocks;     // [blocks, B, T, D] the sums of the blocks' sublayers
    TensorView out;        // [B, T, D] the read of the embedding and all blocks
  };
  using Reference = attnres::Reference;

  static Support validate(const Problem& p) { return attnres::validate_network(p); }
  static DType input_dtype(const Problem& p) { return p.dtype; }
  static std::vector<TensorSpec> tensor_specs(const Problem&);
  static Tensors bind(const Problem&, std::span<void* const> storage);
  static Work work(const Problem& p) { return attnres::network_work(p, /*gradient=*/false); }
  static Reference oracle(const Problem&, const Tensors&);
  static std::optional<Reference> oracle_on_device(const Problem&, const Tensors&) {
    return std::nullopt;
  }
  static double tolerance(const Problem&, const Reference& r, std::size_t i, NumericsClass c) {
    return attnres::tolerance(r, i, c);
  }
  static std::vector<Suite<Problem>> suites() { return attnres::network_suites_of<Problem>(); }
  static std::span<const BackendSlot<AttnResNetwork>> backends();
};

}  // namespace attn
