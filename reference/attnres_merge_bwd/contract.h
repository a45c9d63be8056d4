// The backward of the merge: gradients of the partial sum, of what phase 1 has read and of its
// normaliser, of the query and of the norm's weight. ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/contract.h"

namespace attn {

struct AttnResMergeBwd {
  static constexpr std::string_view kName = "attnres_merge_bwd";

  struct Problem : attnres::TokenProblem, attnres::NormFields {
    attnres::TypeChoice grad_dtype = attnres::TypeChoice::kAuto;
    attnres::Option dlse = attnres::Option::kOff;
    attnres::Store dpartial = attnres::Store::kWrite;
    attnres::Store dwt = attnres::Store::kWrite;
    attnres::Store dgamma = attnres::Store::kWrite;

    DType grad_type() const { return attnres::resolve(grad_dtype, dtype); }

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_sizes(self, visit);
      attnres::visit_types(self, visit);
      visit.choice("grad_dtype", "of the partial sum's gradient; auto: dtype", self.grad_dtype,
                   attnres::kTypeChoiceNames);
      visit.choice("dlse", "a gradient of the merged normaliser comes in", self.dlse,
                   attnres::kOptionNames);
      visit.choice("dpartial", "the partial sum's gradient is written or added", self.dpartial,
                   attnres::kStoreNames);
      visit.choice("dwt", "the query's gradient is written or added", self.dwt,
                   attnres::kStoreNames);
      attnres::visit_norm(self, visit);
      attnres::visit_norm_gradient(self, visit);
    }
  };
  /// All dense. `dread` may alias `dout` or `read`, and `dnormed` where there is no `dout`.
  struct Tensors {
    TensorView partial;    // [B, T, D] the running sum b that the merge has read
    TensorView wt;         // [1, D]
    TensorView read;       // [B, T, D] what phase 1 has read
    TensorView z;          // [B, T] its normaliser, fp32
    TensorView gamma{};    // [1, D] weight of the norm, in the query's type; with a norm
    TensorView dout{};     // [B, T, D] in read's type; has_out()
    TensorView dnormed{};  // [B, T, D] in read's type; with a norm
    TensorView dlse{};     // [B, T], fp32; unless it is off
    TensorView dpartial;   // [B, T, D] written or added to
    TensorView dread;      // [B, T, D] in read's type
    TensorView dz;         // [B, T], fp32
    TensorView dwt;        // [1, D], fp32
    TensorView dgamma{};   // [1, D], fp32; with a norm
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
  static double norm_tolerance(const Problem&, const Reference& r, std::size_t o, NumericsClass) {
    return attnres::norm_tolerance(r, o);
  }
  static std::vector<Suite<Problem>> suites();
  static std::span<const BackendSlot<AttnResMergeBwd>> backends();
};

}  // namespace attn
