// The data of one case: its inputs and output where backends want them, and the right answer.
// Backends of the same case share it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/buffer.h"
#include "harness/environment.h"
#include "harness/plan.h"
#include "harness/verify.h"

namespace attn {

/// Copies of the outputs in their memory space, in the order of tensor_specs.
struct OutputCopies {
  std::vector<TensorSpec> specs;
  std::vector<Buffer> buffers;

  std::vector<OutputView> views() const;
  /// Of all their bits.
  std::uint64_t hash() const;
};

/// Inputs and outputs of a problem in one memory space, in the order of its tensor_specs.
class Fixture {
 public:
  Fixture(const PlanItem& item, MemorySpace space, std::uint64_t seed);

  /// Writes the inputs; the padding between their elements gets `padding`, the outputs `poison`.
  void reset(std::uint32_t padding, std::uint32_t poison);
  /// Writes inputs of another seed, and those of the case again; inputs that follow from others
  /// (TensorRole::kGiven) and padding stay as they are.
  void write_other_inputs();
  void restore_inputs();
  /// Poisons the outputs and, where there is any, the padding of the inputs; what is in-out holds its
  /// input values again.
  void poison(std::uint32_t pattern);
  /// Whether a run finds other in-out values than the run before it.
  bool accumulates() const;

  std::vector<void*> pointers() const;
  /// The outputs where they lie, and copies of them.
  std::vector<OutputView> outputs() const;
  OutputCopies copy_outputs() const;
  std::size_t bytes(bool outputs) const;
  /// Of all inputs that no run writes, as they were filled; padding counts.
  std::uint64_t inputs_hash() const;
  /// One sentence when an input or a guard band changed since the last reset or poison.
  std::optional<std::string> damage() const;

 private:
  void fill_inputs(std::uint32_t padding);
  void fill_input(std::size_t index, std::uint64_t seed);

  std::shared_ptr<const AnyProblem> problem_;
  InputFamily family_;
  std::uint64_t seed_;
  std::string case_id_;
  std::vector<TensorSpec> specs_;
  std::vector<Buffer> buffers_;
  std::vector<std::uint64_t> hashes_;  // of the inputs
};

/// Fixtures and reference of the case that is being worked on.
class CaseData {
 public:
  CaseData(const Machine& machine, std::uint64_t seed) : machine_(machine), seed_(seed) {}

  /// Lets go of the previous case if `item` belongs to another one.
  void select(const PlanItem& item);
  bool has_fixture(MemorySpace space) const { return slot(space) != nullptr; }
  Fixture& fixture(MemorySpace space);
  /// The answer, computed on first use; null when the case is too big for any oracle here.
  const AnyReference* reference();
  void forget();

 private:
  void ask_oracle(MemorySpace space);
  const std::unique_ptr<Fixture>& slot(MemorySpace space) const {
    return fixtures_[space == MemorySpace::kDevice];
  }

  const Machine& machine_;
  std::uint64_t seed_;
  std::optional<PlanItem> item_;
  std::array<std::unique_ptr<Fixture>, 2> fixtures_;  // host, device
  std::unique_ptr<AnyReference> reference_;
  bool reference_tried_ = false;
};

}  // namespace attn
