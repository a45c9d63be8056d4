// A column reduction with its tensors on the host: what tests of oracles and laws start from.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "harness/core/backend.h"
#include "harness/host_memory.h"
#include "harness/seed.h"
#include "reference/colreduce/contract.h"

namespace attn {

/// Owns q, k and out of a problem, filled from a family.
class HostCase {
 public:
  explicit HostCase(const ColReduce::Problem& p,
                    InputFamily family = InputFamily::kNormal,
                    std::uint64_t seed = 1)
      : problem(p), specs_(ColReduce::tensor_specs(p)) {
    for (const TensorSpec& spec : specs_) {
      storage_.emplace_back(spec.storage_bytes() + 4);
      if (spec.role == TensorRole::kQuery || spec.role == TensorRole::kKey)
        host::fill_input(spec, storage_.back().data(), family, tensor_key(seed, "", spec.name));
    }
    refresh();
  }

  /// Writes the given inputs anew, after others have changed.
  void refresh() { ColReduce::write_given(problem, tensors()); }

  ColReduce::Tensors tensors() {
    std::vector<void*> pointers;
    for (auto& bytes : storage_) pointers.push_back(bytes.data());
    return ColReduce::bind(problem, pointers);
  }
  ColReduce::Reference oracle() { return ColReduce::oracle(problem, tensors()); }
  /// Elements of `out`.
  std::size_t outputs() const { return static_cast<std::size_t>(specs_[2].elements()); }

  /// The bytes behind tensor `index` (0: q, 1: k, 2: out, then those that options ask for).
  std::vector<std::byte>& storage(std::size_t index) { return storage_[index]; }

  float get(const TensorView& t, std::int64_t b, std::int64_t h, std::int64_t r, std::int64_t d) {
    return load_element(t.data, t.dtype, t.offset(b, h, r, d));
  }
  void set(const TensorView& t,
           std::int64_t b,
           std::int64_t h,
           std::int64_t r,
           std::int64_t d,
           float value) {
    store_element(t.data, t.dtype, t.offset(b, h, r, d), value);
  }

  const std::vector<TensorSpec>& specs() const { return specs_; }

  ColReduce::Problem problem;

 private:
  std::vector<TensorSpec> specs_;
  std::vector<std::vector<std::byte>> storage_;
};

}  // namespace attn
