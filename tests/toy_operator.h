// A second operator, small enough to read at a glance: out[m] = sum over d of q[m,d]. It shows what an
// operator costs, and carries the broken backends that the runner must catch.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "harness/core/operator_adapter.h"

namespace attn {

struct RowSum {
  static constexpr std::string_view kName = "rowsum";

  struct Problem {
    std::int64_t M = 64;
    std::int64_t D = 8;

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      visit.size("M", "rows", self.M);
      visit.size("D", "elements a row", self.D);
    }
  };
  struct Tensors {
    TensorView q;    // [1, 1, M, D]
    TensorView out;  // [1, 1, M]
  };
  struct Reference {
    std::vector<double> value;
  };

  static Support validate(const Problem& p) {
    return p.M > 0 && p.D > 0 ? Support::yes() : Support::no("M and D must be at least 1");
  }
  static DType input_dtype(const Problem&) { return DType::kF32; }
  static std::vector<TensorSpec> tensor_specs(const Problem& p) {
    return {{.name = "q",
             .role = TensorRole::kQuery,
             .shape = {1, 1, p.M, p.D},
             .strides = {p.M * p.D, p.M * p.D, p.D, 1},
             .storage_elements = p.M * p.D},
            {.name = "out",
             .shape = {1, 1, p.M, 1},
             .strides = {p.M, p.M, 1, 1},
             .storage_elements = p.M}};
  }
  static Tensors bind(const Problem& p, std::span<void* const> data) {
    const auto specs = tensor_specs(p);
    return {specs[0].bind(data[0]), specs[1].bind(data[1])};
  }
  static Work work(const Problem& p) { return {.bytes = static_cast<double>(p.M * p.D) * 4}; }
  static double row_sum(const Problem& p, const Tensors& t, std::int64_t m) {
    double sum = 0;
    for (std::int64_t d = 0; d < p.D; ++d)
      sum += load_element(t.q.data, t.q.dtype, t.q.offset(0, 0, m, d));
    return sum;
  }
  static Reference oracle(const Problem& p, const Tensors& t) {
    Reference reference;
    for (std::int64_t m = 0; m < p.M; ++m) reference.value.push_back(row_sum(p, t, m));
    return reference;
  }
  static std::optional<Reference> oracle_on_device(const Problem&, const Tensors&) {
    return std::nullopt;
  }
  /// |q| < 8 in every family used here.
  static double tolerance(const Problem& p, const Reference&, std::size_t, NumericsClass numerics) {
    return static_cast<double>(p.D) * 8 * (numerics == NumericsClass::kStored ? 1 : 0x1p-24);
  }
  static std::vector<Suite<Problem>> suites() { return {}; }
  static std::span<const BackendSlot<RowSum>> backends();
};

}  // namespace attn
