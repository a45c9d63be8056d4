// The backward of the mix: gradients of sources, of the query and of the norm's weight, from those of
// what the mix has written. ../attnres/README.md has the maths.
//
// A mix with an update has read its rounded sum: that sum is the last source here, and the gradient of
// it is that of both the source and the update.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/gradients.h"

namespace attn {

struct AttnResMixBwd {
  static constexpr std::string_view kName = "attnres_mix_bwd";

  struct Problem : attnres::SourceGradients, attnres::NormFields {
    attnres::Store dgamma = attnres::Store::kWrite;

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_read(self, visit);
      attnres::visit_gradients(self, visit);
      attnres::visit_norm(self, visit);
      attnres::visit_norm_gradient(self, visit);
    }
  };
  struct Tensors : attnres::GradientTensors {
    TensorView gamma{};    // [1, D] weight of the norm, in the query's type; with a norm
    TensorView dout{};     // [B, T, D] in out's type; has_out()
    TensorView dnormed{};  // [B, T, D] in out's type; with a norm
    TensorView dgamma{};   // [1, D], fp32; with a norm
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
  static double norm_tolerance(const Problem&, const Reference& r, std::size_t o, NumericsClass) {
    return attnres::norm_tolerance(r, o);
  }
  static std::vector<Suite<Problem>> suites();
  static std::span<const BackendSlot<AttnResMixBwd>> backends();
};

}  // namespace attn
