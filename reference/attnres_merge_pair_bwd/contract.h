// The backward of the merge of two reads: gradients of both reads and of both normalisers.
// ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/contract.h"

namespace attn {

struct AttnResMergePairBwd {
  static constexpr std::string_view kName = "attnres_merge_pair_bwd";

  struct Problem : attnres::PlaneProblem {
    attnres::Option dlse = attnres::Option::kOff;

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_sizes(self, visit);
      visit.choice("dtype", "type of the reads and their gradients", self.dtype, kDTypeNames);
      visit.choice("dlse", "a gradient of the merged normaliser comes in", self.dlse,
                   attnres::kOptionNames);
    }
  };
  /// All dense. One of `dread_a` and `dread_b` may alias `dout` or the read of its own side.
  struct Tensors {
    TensorView read_a;   // [B, T, D]
    TensorView z_a;      // [B, T] its normaliser, fp32
    TensorView read_b;   // [B, T, D]
    TensorView z_b;      // [B, T], fp32
    TensorView dout;     // [B, T, D] in the reads' type
    TensorView dlse{};   // [B, T], fp32; unless it is off
    TensorView dread_a;  // [B, T, D] in the reads' type
    TensorView dread_b;  // [B, T, D]
    TensorView dz_a;     // [B, T], fp32
    TensorView dz_b;     // [B, T], fp32
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
  static double norm_tolerance(const Problem&, const Reference& r, std::size_t o, NumericsClass) {
    return attnres::norm_tolerance(r, o);
  }
  static std::vector<Suite<Problem>> suites();
  static std::span<const BackendSlot<AttnResMergePairBwd>> backends();
};

}  // namespace attn
