// An operator and its problems with their types erased: all that the harness knows of either.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/backend.h"
#include "harness/core/fields.h"
#include "harness/core/input_family.h"
#include "harness/core/work.h"

namespace attn {

/// An answer that lies on the GPU. Element i of an output is right within the rounding to the output's
/// type and, unless its backend computes in fp64, error[i] besides.
struct DeviceAnswer {
  const double* value = nullptr;  // [elements]
  const float* error = nullptr;   // [elements]
  std::size_t elements = 0;
};

/// The right answer of one problem on one set of inputs, in fp64, and how far from it a correct
/// backend may be. Elements are numbered as in the dense outputs, one output after the other in the
/// order of tensor_specs.
class AnyReference {
 public:
  virtual ~AnyReference() = default;
  virtual std::size_t size() const = 0;
  virtual double value(std::size_t index) const = 0;
  virtual double tolerance(std::size_t index, NumericsClass numerics) const = 0;
  /// How large the norm of an output's error may be, over all its elements; infinity where only the
  /// elements' tolerances count. `output` counts the written tensors of tensor_specs.
  virtual double norm_tolerance(std::size_t /*output*/, NumericsClass) const {
    return std::numeric_limits<double>::infinity();
  }
  /// Where an answer that stays on the GPU lies, else null pointers: of one there is no value() and no
  /// tolerance().
  virtual DeviceAnswer on_device() const { return {}; }
  virtual std::string_view computed_by() const = 0;  ///< "cpu_f64" or "gpu_f64"
};

class AnyProblem {
 public:
  virtual ~AnyProblem() = default;
  virtual std::vector<FieldValue> fields() const = 0;
  /// Sets one field from text; returns one sentence when that is impossible, else an empty string.
  virtual std::string set(std::string_view field, std::string_view text) = 0;
  virtual std::unique_ptr<AnyProblem> clone() const = 0;
  virtual Support validate() const = 0;

  /// Everything below needs a problem that validates.
  virtual DType input_dtype() const = 0;
  virtual std::vector<TensorSpec> tensor_specs() const = 0;
  virtual Work work() const = 0;
  /// Writes the inputs of role kGiven, from the others; the tensors lie in `space`.
  virtual void write_given(std::span<void* const> tensors, MemorySpace space) const = 0;
  /// Reads the tensors (in the order of tensor_specs) where they lie; null when the oracle cannot
  /// run there (no GPU in this build).
  virtual std::unique_ptr<AnyReference> reference(std::span<void* const> tensors,
                                                  MemorySpace space) const = 0;
  virtual Support supports(std::size_t backend, const DeviceInfo&) const = 0;
  virtual std::size_t workspace_bytes(std::size_t backend, const DeviceInfo&) const = 0;
  virtual Launch plan(std::size_t backend,
                      std::span<void* const> tensors,
                      Workspace,
                      const DeviceInfo&) const = 0;
};

/// One problem of a suite with the family that its inputs are drawn from.
struct SuiteCase {
  std::shared_ptr<const AnyProblem> problem;
  InputFamily family = InputFamily::kNormal;
};

struct AnySuite {
  std::string name;
  std::string summary;
  std::vector<SuiteCase> cases;
};

/// A small problem that needs one feature of the contract, for the matrix of who takes what.
struct AnyFeature {
  std::string name;
  std::shared_ptr<const AnyProblem> problem;
};

/// The shared object, or the source of a callable, that a backend from outside the program came from.
struct PluginFile {
  std::string path;  ///< or "module:function"
  std::string name;  ///< without its folders
  std::string hash;  ///< of the contents
};

/// A backend as the harness sees it; `info` is null where this build leaves the backend out.
struct AnyBackend {
  std::string_view id;
  const BackendInfo* info = nullptr;
  std::function<void()> trim{};        ///< empty: nothing to give back
  const PluginFile* plugin = nullptr;  ///< null: the program's own
};

class AnyOperator {
 public:
  virtual ~AnyOperator() = default;
  virtual std::string_view name() const = 0;
  virtual std::vector<AnyBackend> backends() const = 0;
  virtual std::vector<AnySuite> suites() const = 0;
  /// Empty where the operator lists none.
  virtual std::vector<AnyFeature> features() const = 0;
  virtual std::unique_ptr<AnyProblem> default_problem() const = 0;
};

/// The case id of a problem: sizes always, other fields where they differ from the default.
/// For example B1_H2_M131_N1027_D64_f16_sum_causal.
inline std::string case_id(const AnyProblem& problem) {
  std::string id;
  for (const FieldValue& field : problem.fields()) {
    const bool resolved =
        field.kind == FieldKind::kSize && field.text == "0";  // stands for another
    const bool always = (field.kind == FieldKind::kSize && !resolved) || field.name == "dtype" ||
                        field.name == "reduction" || field.name == "mask";
    if (field.is_default && !always) continue;
    if (!id.empty()) id += '_';
    if (field.kind == FieldKind::kSize) {
      id += field.name + field.text;
    } else {
      id += always ? field.text : field.name + "-" + field.text;
    }
  }
  return id;
}

}  // namespace attn
