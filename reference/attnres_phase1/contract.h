// Phase 1 of attention residuals: S queries read N sources of every token at once. With S = 1 it is the
// one-shot mix. ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/contract.h"

namespace attn {

struct AttnResPhase1 {
  static constexpr std::string_view kName = "attnres_phase1";

  struct Problem : attnres::ReadProblem {
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_read(self, visit);
    }
  };
  struct Tensors {
    attnres::Planes v;  // N planes [B T, D]
    TensorView wt;      // [S, D]
    TensorView out;     // [S, B, T, D], rounded once; each row a convex combination of sources
    TensorView lse;     // [S, B, T], fp32, natural log
  };
  using Reference = attnres::Reference;

  static Support validate(const Problem& p) { return attnres::validate_read(p); }
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
  static std::span<const BackendSlot<AttnResPhase1>> backends();
};

}  // namespace attn
