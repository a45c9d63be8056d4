// The backward of phase 1: gradients of sources and queries from those of the outputs and normalisers.
// ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/gradients.h"

namespace attn {

struct AttnResPhase1Bwd {
  static constexpr std::string_view kName = "attnres_phase1_bwd";

  struct Problem : attnres::ReadGradients {
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_read(self, visit);
      attnres::visit_gradients(self, visit);
    }
  };
  struct Tensors : attnres::GradientTensors {
    TensorView dout;  // [S, B, T, D]
  };
  using Reference = attnres::Reference;

  static Support validate(const Problem&);
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
  static std::span<const BackendSlot<AttnResPhase1Bwd>> backends();
};

}  // namespace attn
