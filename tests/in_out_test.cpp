// What a family with gradients asks of the harness: tensors that a run adds to, lists of tensors under
// one name, and inputs of a chosen size.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/core/operator_adapter.h"
#include "harness/runner.h"

namespace attn {
namespace {

/// sum[i] += x[0][i] + x[1][i], over a list of two planes.
struct AddTwo {
  static constexpr std::string_view kName = "addtwo";

  struct Problem {
    std::int64_t T = 64;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      visit.size("T", "elements", self.T);
    }
  };
  struct Tensors {
    TensorView x[2];  // [T] each
    TensorView sum;   // [T]
  };
  struct Reference {
    std::vector<double> value;
  };

  static Support validate(const Problem&) { return Support::yes(); }
  static DType input_dtype(const Problem&) { return DType::kF32; }
  static std::vector<TensorSpec> tensor_specs(const Problem& p) {
    std::vector<TensorSpec> specs;
    TensorSpec dense;
    dense.shape = {1, 1, p.T, 1};
    dense.strides = {p.T, p.T, 1, 1};
    dense.storage_elements = p.T;
    for (std::int64_t plane = 0; plane < 2; ++plane) {
      specs.push_back(dense);
      specs.back().name = "x";
      specs.back().plane = plane;
      specs.back().role = TensorRole::kKey;
      specs.back().scale = 0x1p-20f;  // small beside what sum holds
    }
    specs.push_back(dense);
    specs.back().name = "sum";
    specs.back().role = TensorRole::kInOut;
    return specs;
  }
  static Tensors bind(const Problem& p, std::span<void* const> data) {
    const auto specs = tensor_specs(p);
    return {{specs[0].bind(data[0]), specs[1].bind(data[1])}, specs[2].bind(data[2])};
  }
  static Work work(const Problem& p) { return {.bytes = static_cast<double>(p.T) * 16}; }
  static float at(const TensorView& view, std::int64_t i) {
    return load_element(view.data, view.dtype, i);
  }
  static Reference oracle(const Problem& p, const Tensors& t) {
    Reference reference;
    for (std::int64_t i = 0; i < p.T; ++i)
      reference.value.push_back(double{at(t.sum, i)} + at(t.x[0], i) + at(t.x[1], i));
    return reference;
  }
  static std::optional<Reference> oracle_on_device(const Problem&, const Tensors&) {
    return std::nullopt;
  }
  static double tolerance(const Problem&, const Reference&, std::size_t, NumericsClass) {
    return 16 * unit_roundoff(DType::kF32);
  }
  static std::vector<Suite<Problem>> suites() { return {}; }
  static std::span<const BackendSlot<AddTwo>> backends();
};

Support supports(const AddTwo::Problem&, const DeviceInfo&) { return Support::yes(); }

/// `keep`: what becomes of the values that `sum` held.
template <int kKeep>
Launch plan(const AddTwo::Problem& p, const AddTwo::Tensors& t, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, t](Stream) {
    for (std::int64_t i = 0; i < p.T; ++i)
      store_element(t.sum.data, DType::kF32, i,
                    kKeep * AddTwo::at(t.sum, i) + AddTwo::at(t.x[0], i) + AddTwo::at(t.x[1], i));
  };
  return launch;
}

template <int kKeep>
constinit const Backend<AddTwo> kBackend = {.info = {.id = kKeep == 1 ? "adds" : "overwrites",
                                                     .summary = "a loop",
                                                     .memory = MemorySpace::kHost,
                                                     .math = "fp32"},
                                            .supports = supports,
                                            .plan = plan<kKeep>};
const BackendSlot<AddTwo> kSlots[] = {{"adds", &kBackend<1>}, {"overwrites", &kBackend<0>}};

CellRow run(std::size_t backend, bool timed) {
  const auto op = std::make_shared<const OperatorAdapter<AddTwo>>();
  PlanItem item;
  item.op = op;
  item.problem = op->default_problem();
  item.backend = backend;
  item.case_id = case_id(*item.problem);
  static const Machine machine = find_machine(/*want_gpu=*/false);
  return Runner(machine, {.timed = timed, .sample_seconds = 0.01}, std::nullopt).run(item);
}

TEST(InOut, AnAccumulatingBackendIsRightBeforeAndAfterItsSamples) {
  for (const bool timed : {false, true}) {
    const CellRow row = run(0, timed);
    EXPECT_EQ(row.status, Status::kOk) << row.reason.value_or("");
    ASSERT_TRUE(row.check);
    EXPECT_TRUE(row.check->bit_stable);
    EXPECT_EQ(row.check->after.has_value(), timed);
    EXPECT_EQ(row.memory->outputs, 64 * sizeof(float));
  }
}

TEST(InOut, OneThatOverwritesIsIncorrect) {
  const CellRow row = run(1, false);
  EXPECT_EQ(row.status, Status::kIncorrect);
}

TEST(InOut, PlanesOfAListAreToldApartAndScaled) {
  const auto specs = AddTwo::tensor_specs({});
  std::set<std::string> labels;
  for (const TensorSpec& spec : specs) labels.insert(spec.label());
  EXPECT_EQ(labels, (std::set<std::string>{"x[0]", "x[1]", "sum"}));

  PlanItem item;
  item.problem = OperatorAdapter<AddTwo>().default_problem();
  Fixture fixture(item, MemorySpace::kHost, 1);
  fixture.reset(0, 0);
  const AddTwo::Tensors t = AddTwo::bind({}, fixture.pointers());
  EXPECT_NE(AddTwo::at(t.x[0], 5), AddTwo::at(t.x[1], 5));
  EXPECT_LT(std::abs(AddTwo::at(t.x[0], 5)), 8 * 0x1p-20f);
  EXPECT_GT(std::abs(AddTwo::at(t.sum, 5)), 8 * 0x1p-20f);
}

}  // namespace

std::span<const BackendSlot<AddTwo>> AddTwo::backends() { return kSlots; }

}  // namespace attn
