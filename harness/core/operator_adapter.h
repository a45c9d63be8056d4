// Turns a type that satisfies OperatorContract into the erased operator that the harness drives.
// The only type erasure in the project: a new operator writes no harness code.
#pragma once

#include <concepts>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "harness/core/operator.h"

namespace attn {

/// A named list of problems with their input families.
template <class Problem>
struct Suite {
  struct Case {
    Problem problem;
    InputFamily family = InputFamily::kNormal;
  };
  std::string name;
  std::string summary;
  std::vector<Case> cases;
};

/// A problem that needs one feature of the contract.
template <class Problem>
struct Feature {
  std::string name;
  Problem problem;
};

template <class Op>
concept OperatorContract = requires(const typename Op::Problem& problem,
                                    const typename Op::Tensors& tensors,
                                    const typename Op::Reference& reference,
                                    std::span<void* const> data,
                                    NumericsClass numerics,
                                    std::size_t index) {
  { Op::kName } -> std::convertible_to<std::string_view>;
  { Op::validate(problem) } -> std::same_as<Support>;
  { Op::input_dtype(problem) } -> std::same_as<DType>;
  { Op::tensor_specs(problem) } -> std::same_as<std::vector<TensorSpec>>;
  { Op::bind(problem, data) } -> std::same_as<typename Op::Tensors>;
  { Op::work(problem) } -> std::same_as<Work>;
  { Op::oracle(problem, tensors) } -> std::same_as<typename Op::Reference>;
  { Op::oracle_on_device(problem, tensors) } -> std::same_as<std::optional<typename Op::Reference>>;
  { reference.value } -> std::convertible_to<std::vector<double>>;
  { Op::tolerance(problem, reference, index, numerics) } -> std::same_as<double>;
  { Op::suites() } -> std::same_as<std::vector<Suite<typename Op::Problem>>>;
  { Op::backends() } -> std::same_as<std::span<const BackendSlot<Op>>>;
};

/// An operator that has inputs of role kGiven.
template <class Op>
concept WritesGiven = requires(const typename Op::Problem& problem,
                               const typename Op::Tensors& tensors) {
  Op::write_given(problem, tensors);
  Op::write_given_on_device(problem, tensors);
};

/// An operator that bounds the norm of an output's error besides every element's.
template <class Op>
concept BoundsNorms = requires(const typename Op::Problem& problem,
                               const typename Op::Reference& reference,
                               std::size_t output,
                               NumericsClass numerics) {
  { Op::norm_tolerance(problem, reference, output, numerics) } -> std::same_as<double>;
};

/// An operator whose oracle on the GPU may leave its answer there.
template <class Op>
concept AnswersOnDevice = requires(const typename Op::Reference& reference) {
  { reference.on_device } -> std::convertible_to<std::shared_ptr<const DeviceAnswer>>;
};

template <OperatorContract Op>
class OperatorAdapter final : public AnyOperator {
 public:
  using Problem = typename Op::Problem;

  std::string_view name() const override { return Op::kName; }

  std::vector<AnyBackend> backends() const override {
    std::vector<AnyBackend> list;
    for (const BackendSlot<Op>& slot : Op::backends()) {
      list.push_back({slot.id, slot.backend ? &slot.backend->info : nullptr,
                      slot.backend ? slot.backend->trim : nullptr});
    }
    return list;
  }

  std::vector<AnySuite> suites() const override {
    std::vector<AnySuite> erased;
    for (const auto& suite : Op::suites()) {
      erased.push_back({suite.name, suite.summary, {}});
      for (const auto& one : suite.cases)
        erased.back().cases.push_back({std::make_shared<ErasedProblem>(one.problem), one.family});
    }
    return erased;
  }

  std::vector<AnyFeature> features() const override {
    std::vector<AnyFeature> erased;
    if constexpr (requires { Op::features(); }) {
      for (const auto& feature : Op::features())
        erased.push_back({feature.name, std::make_shared<ErasedProblem>(feature.problem)});
    }
    return erased;
  }

  std::unique_ptr<AnyProblem> default_problem() const override {
    return std::make_unique<ErasedProblem>(Problem{});
  }

 private:
  class ErasedReference final : public AnyReference {
   public:
    ErasedReference(Problem problem, typename Op::Reference reference, std::string_view source)
        : problem_(std::move(problem)), reference_(std::move(reference)), source_(source) {}
    std::size_t size() const override {
      const DeviceAnswer answer = on_device();
      return answer.value ? answer.elements : reference_.value.size();
    }
    double value(std::size_t index) const override { return reference_.value[index]; }
    double tolerance(std::size_t index, NumericsClass numerics) const override {
      return Op::tolerance(problem_, reference_, index, numerics);
    }
    double norm_tolerance(std::size_t output, NumericsClass numerics) const override {
      if constexpr (BoundsNorms<Op>)
        return Op::norm_tolerance(problem_, reference_, output, numerics);
      return AnyReference::norm_tolerance(output, numerics);
    }
    DeviceAnswer on_device() const override {
      if constexpr (AnswersOnDevice<Op>) {
        if (reference_.on_device) return *reference_.on_device;
      }
      return {};
    }
    std::string_view computed_by() const override { return source_; }

   private:
    Problem problem_;
    typename Op::Reference reference_;
    std::string_view source_;
  };

  class ErasedProblem final : public AnyProblem {
   public:
    explicit ErasedProblem(Problem problem) : problem_(std::move(problem)) {}

    std::vector<FieldValue> fields() const override {
      FieldLister lister;
      fields_of(problem_, lister);
      FieldLister defaults;
      fields_of(Problem{}, defaults);
      for (std::size_t i = 0; i < lister.values.size(); ++i)
        lister.values[i].is_default = lister.values[i].text == defaults.values[i].text;
      return lister.values;
    }
    std::string set(std::string_view field, std::string_view text) override {
      FieldSetter setter(field, text);
      Op::Problem::fields(problem_, setter);
      if (!setter.found)
        return std::string(Op::kName) + " has no field '" + std::string(field) + "'";
      return setter.error;
    }
    std::unique_ptr<AnyProblem> clone() const override {
      return std::make_unique<ErasedProblem>(problem_);
    }
    Support validate() const override { return Op::validate(problem_); }
    DType input_dtype() const override { return Op::input_dtype(problem_); }
    std::vector<TensorSpec> tensor_specs() const override { return Op::tensor_specs(problem_); }
    Work work() const override { return Op::work(problem_); }
    void write_given(std::span<void* const> tensors, MemorySpace space) const override {
      if constexpr (WritesGiven<Op>) {
        const typename Op::Tensors bound = Op::bind(problem_, tensors);
        if (space == MemorySpace::kHost) {
          Op::write_given(problem_, bound);
        } else {
          Op::write_given_on_device(problem_, bound);
        }
      }
    }

    std::unique_ptr<AnyReference> reference(std::span<void* const> tensors,
                                            MemorySpace space) const override {
      const typename Op::Tensors bound = Op::bind(problem_, tensors);
      if (space == MemorySpace::kHost)
        return std::make_unique<ErasedReference>(problem_, Op::oracle(problem_, bound), "cpu_f64");
      auto reference = Op::oracle_on_device(problem_, bound);
      if (!reference) return nullptr;
      return std::make_unique<ErasedReference>(problem_, std::move(*reference), "gpu_f64");
    }
    Support supports(std::size_t backend, const DeviceInfo& device) const override {
      return get(backend).supports(problem_, device);
    }
    std::size_t workspace_bytes(std::size_t backend, const DeviceInfo& device) const override {
      const auto bytes = get(backend).workspace_bytes;
      return bytes ? bytes(problem_, device) : 0;
    }
    Launch plan(std::size_t backend,
                std::span<void* const> tensors,
                Workspace workspace,
                const DeviceInfo& device) const override {
      return get(backend).plan(problem_, Op::bind(problem_, tensors), workspace, device);
    }

   private:
    static void fields_of(const Problem& problem, FieldLister& lister) {
      Problem::fields(problem, lister);
    }
    static const Backend<Op>& get(std::size_t index) {
      const Backend<Op>* backend = Op::backends()[index].backend;
      if (!backend) throw std::logic_error("backend is not in this build");
      return *backend;
    }
    Problem problem_;
  };
};

}  // namespace attn
