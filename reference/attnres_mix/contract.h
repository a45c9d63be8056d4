// The one-shot read of attention residuals: one query mixes N sources, the last of them after an update,
// and the norm of the next sublayer may follow. ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/contract.h"

namespace attn {

struct AttnResMix {
  static constexpr std::string_view kName = "attnres_mix";

  struct Problem : attnres::SourceProblem, attnres::NormFields {
    attnres::Option update = attnres::Option::kOff;
    attnres::Option lse = attnres::Option::kOff;
    attnres::Option weights = attnres::Option::kOff;

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_read(self, visit);
      visit.choice("update", "a sublayer's output is added to the last source first", self.update,
                   attnres::kOptionNames);
      visit.choice("lse", "the normaliser is an output", self.lse, attnres::kOptionNames);
      visit.choice("weights", "the softmax's weights are an output", self.weights,
                   attnres::kOptionNames);
      attnres::visit_norm(self, visit);
    }
  };
  /// Dense but for the sources. `sum` may alias the last source, where its tokens are D apart.
  struct Tensors {
    attnres::Planes v;     // N planes [B T, D]
    TensorView wt;         // [1, D]
    TensorView update{};   // [B, T, D] added to the last source; unless it is off
    TensorView gamma{};    // [1, D] weight of the output's norm, in the query's type; with a norm
    TensorView out{};      // [B, T, D] rounded once; a convex combination of sources; has_out()
    TensorView normed{};   // [B, T, D] the norm of what `out` holds or would; with a norm
    TensorView lse{};      // [B, T], fp32, natural log; unless it is off
    TensorView weights{};  // [B, T, N], fp32; unless they are off
    TensorView sum{};      // [B, T, D] last source + update in the sources' type, rounded before it
                           // is read; with an update
  };
  using Reference = attnres::Reference;

  static Support validate(const Problem&);
  static DType input_dtype(const Problem& p) { return p.dtype; }
  static std::vector<TensorSpec> tensor_specs(const Problem&);
  static Tensors bind(const Problem&, std::span<void* const> storage);
  static Work work(const Problem&);
  static Reference oracle(const Problem&, const Tensors&);
  static std::optional<Reference> oracle_on_device(const Problem&, const Tensors&) {
    return std::nullopt;
  }
  static double tolerance(const Problem&, const Reference& r, std::size_t i, NumericsClass c) {
    return attnres::tolerance(r, i, c);
  }
  static std::vector<Suite<Problem>> suites();
  static std::span<const BackendSlot<AttnResMix>> backends();
};

}  // namespace attn
