// Merges two reads over disjoint sources, each with its normaliser, into the read over their union.
// ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/contract.h"

namespace attn {

struct AttnResMergePair {
  static constexpr std::string_view kName = "attnres_merge_pair";

  struct Problem : attnres::PlaneProblem {
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_sizes(self, visit);
      visit.choice("dtype", "type of the reads", self.dtype, kDTypeNames);
    }
  };
  /// All dense. `out` may alias either read; `lse` may alias nothing.
  struct Tensors {
    TensorView read_a;  // [B, T, D]
    TensorView z_a;     // [B, T] its normaliser, fp32
    TensorView read_b;  // [B, T, D]
    TensorView z_b;     // [B, T], fp32
    TensorView out;     // [B, T, D] in the reads' type
    TensorView lse;     // [B, T] the normaliser of both, fp32
  };
  using Reference = attnres::Reference;

  static Support validate(const Problem& p) { return attnres::validate_planes(p); }
  static DType input_dtype(const Problem& p) { return p.dtype; }
  static std::vector<TensorSpec> tensor_specs(const Problem&);
  static Tensors bind(const Problem&, std::span<void* const> storage);
  static Work work(const Problem&);
  static Reference oracle(const Problem&, const Tensors&);
  static std::optional<Reference> oracle_on_device(const Problem&, const Tensors&);
  static double tolerance(const Problem&, const Reference& r, std::size_t i, NumericsClass c) {
    return attnres::tolerance(r, i, c);
  }
  static std::vector<Suite<Problem>> suites();
  static std::span<const BackendSlot<AttnResMergePair>> backends();
};

}  // namespace attn
