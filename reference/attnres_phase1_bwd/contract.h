// The backward of phase 1: gradients of sources and queries from those of the outputs and normalisers.
// ../attnres/README.md has the maths.
#pragma once

#include "harness/core/operator_adapter.h"
#include "reference/attnres/contract.h"

namespace attn {

struct AttnResPhase1Bwd {
  static constexpr std::string_view kName = "attnres_phase1_bwd";

  struct Problem : attnres::ReadProblem {
    attnres::TypeChoice grad_dtype = attnres::TypeChoice::kAuto;
    attnres::Option dlse = attnres::Option::kOff;
    /// Sources whose gradient is added to what its plane holds.
    std::vector<std::int64_t> add_to{};
    attnres::Store dwt = attnres::Store::kWrite;

    DType grad_type() const { return attnres::resolve(grad_dtype, dtype); }
    bool adds_to(std::int64_t n) const;

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      attnres::visit_read(self, visit);
      visit.choice("grad_dtype", "of the sources' gradients; auto: dtype", self.grad_dtype,
                   attnres::kTypeChoiceNames);
      visit.choice("dlse", "a gradient of the normalisers comes in", self.dlse,
                   attnres::kOptionNames);
      visit.list("add_to", "sources whose gradient is added, such as 0:2; none", self.add_to);
      visit.choice("dwt", "the queries' gradient is written or added", self.dwt,
                   attnres::kStoreNames);
    }
  };
  struct Tensors {
    attnres::Planes v;   // N planes [B T, D]
    TensorView wt;       // [S, D]
    TensorView dout;     // [S, B, T, D]
    TensorView dlse{};   // [S, B, T], fp32; unless it is off
    attnres::Planes dv;  // N dense planes [B T, D], each written or added to; none may alias v
    TensorView dwt;      // [S, D], fp32
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
