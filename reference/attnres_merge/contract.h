// Phase 2 of attention residuals: merges the running partial sum, one more source, into what phase 1 has
// read, and the norm of the next sublayer may follow. ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/contract.h"

namespace attn {

struct AttnResMerge {
  static constexpr std::string_view kName = "attnres_merge";

  struct Problem : attnres::TokenProblem, attnres::NormFields {
    attnres::Option update = attnres::Option::kOff;
    attnres::Option lse = attnres::Option::kOff;

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_sizes(self, visit);
      attnres::visit_types(self, visit);
      visit.choice("update", "a sublayer's output is added to the partial sum first", self.update,
                   attnres::kOptionNames);
      visit.choice("lse", "the merged normaliser is an output", self.lse, attnres::kOptionNames);
      attnres::visit_norm(self, visit);
    }
  };
  /// All dense. The first of `out` and `normed` that there is may alias `read`, and `sum` may alias
  /// `partial`.
  struct Tensors {
    TensorView partial;   // [B, T, D] the running sum b
    TensorView wt;        // [1, D]
    TensorView read;      // [B, T, D] what phase 1 has read for this query, in out's type
    TensorView z;         // [B, T] its normaliser, fp32
    TensorView update{};  // [B, T, D] added to b before anything else; unless it is off
    TensorView gamma{};   // [1, D] weight of the output's norm, in the query's type; with a norm
    TensorView out{};     // [B, T, D]; has_out()
    TensorView normed{};  // [B, T, D] the norm of what `out` holds or would; with a norm
    TensorView lse{};     // [B, T], fp32; unless it is off
    TensorView
        sum{};  // [B, T, D] b + update in b's type, rounded before it is read; with an update
  };
  using Reference = attnres::Reference;

  static Support validate(const Problem&);
  static DType input_dtype(const Problem& p) { return p.dtype; }
  static std::vector<TensorSpec> tensor_specs(const Problem&);
  static Tensors bind(const Problem&, std::span<void* const> storage);
  static Work work(const Problem&);
  static Reference oracle(const Problem&, const Tensors&);
  /// Knows no norm.
  static std::optional<Reference> oracle_on_device(const Problem&, const Tensors&);
  static double tolerance(const Problem&, const Reference& r, std::size_t i, NumericsClass c) {
    return attnres::tolerance(r, i, c);
  }
  static std::vector<Suite<Problem>> suites();
  static std::span<const BackendSlot<AttnResMerge>> backends();
};

}  // namespace attn
