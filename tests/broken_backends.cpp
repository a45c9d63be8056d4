// The toy operator's backends: a right one, and every way of going wrong.
#include "tests/broken_backends.h"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <new>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tests/toy_operator.h"

namespace attn {
namespace {

using Problem = RowSum::Problem;
using Tensors = RowSum::Tensors;

Support supports_all(const Problem&, const DeviceInfo&) { return Support::yes(); }

void write_row_sums(const Problem& p, const Tensors& t) {
  for (std::int64_t m = 0; m < p.M; ++m)
    store_element(t.out.data, t.out.dtype, m, static_cast<float>(RowSum::row_sum(p, t, m)));
}

float* out(const Tensors& t) { return static_cast<float*>(t.out.data); }

/// A backend that writes the row sums and then does `Mischief`.
template <void (*Mischief)(const Problem&, const Tensors&, Workspace)>
Launch plan_with(const Problem& p, const Tensors& t, Workspace w, const DeviceInfo&) {
  return {.enqueue = [=](Stream) {
    write_row_sums(p, t);
    Mischief(p, t, w);
  }};
}

void sleep_for(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

/// Right, but slow to plan and slow the first time.
Launch plan_slow_start(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  sleep_for(kSlowPlanSeconds);
  const auto called = std::make_shared<bool>(false);
  return {.enqueue = [=](Stream) {
    if (!std::exchange(*called, true)) sleep_for(kSlowFirstCallSeconds);
    write_row_sums(p, t);
  }};
}

void nothing(const Problem&, const Tensors&, Workspace) {}
void one_element(const Problem& p, const Tensors& t, Workspace) { out(t)[p.M / 2] *= 1.5f; }
void one_nan(const Problem&, const Tensors& t, Workspace) { out(t)[3] = NAN; }
void beyond_output(const Problem& p, const Tensors& t, Workspace) { out(t)[p.M] = 1; }
void before_output(const Problem&, const Tensors& t, Workspace) { out(t)[-1] = 1; }
void its_input(const Problem&, const Tensors& t, Workspace) {
  static_cast<float*>(t.q.data)[0] += 1;
}
void beyond_workspace(const Problem&, const Tensors&, Workspace w) {
  static_cast<char*>(w.data)[w.bytes] = 1;
}
void throws(const Problem&, const Tensors&, Workspace) { throw std::runtime_error("bang"); }
void runs_out(const Problem&, const Tensors&, Workspace) { throw std::bad_alloc(); }
void reads_workspace(const Problem&, const Tensors& t, Workspace w) {
  std::uint32_t word = 0;
  std::memcpy(&word, w.data, sizeof word);
  out(t)[0] = std::nextafter(out(t)[0], word == 0xFFFFFFFFu ? 10.0f : -10.0f);  // within tolerance
}

void prints(const Problem&, const Tensors&, Workspace) { std::cout << "{\"row\": 1}" << std::endl; }
void hangs(const Problem&, const Tensors&, Workspace) {
  for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
}
void aborts(const Problem&, const Tensors&, Workspace) { std::abort(); }
void segfaults(const Problem&, const Tensors&, Workspace) {
  volatile std::uintptr_t nowhere = 64;  // what no compiler sees through
  *reinterpret_cast<int*>(nowhere) = 1;
}
void exits(const Problem&, const Tensors&, Workspace) { std::exit(0); }

void* volatile kept_memory;  // no compiler may leave out an allocation that is kept
void leaks(const Problem&, const Tensors&, Workspace) {
  constexpr std::size_t kBytes = std::size_t{32} << 20;
  kept_memory = std::memset(std::malloc(kBytes), 1, kBytes);
}
/// Never touched: the address space runs out, not the machine's memory.
void hoards(const Problem&, const Tensors&, Workspace) {
  for (;;) kept_memory = new char[std::size_t{1} << 30];
}

Launch plan_stale(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  return {.enqueue = [=](Stream) {
    for (std::int64_t m = 0; m + 1 < p.M; ++m)  // the last row keeps what was there
      out(t)[m] = static_cast<float>(RowSum::row_sum(p, t, m));
  }};
}

/// Runs of a launch until its answer is compared: one over other inputs, two over the case's.
constexpr int kVerifyRuns = 3;

/// Right in the runs that are compared, wrong in a later one.
Launch plan_tiring(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  return {.enqueue = [=, runs = std::make_shared<int>(0)](Stream) {
    write_row_sums(p, t);
    if (++*runs > kVerifyRuns) out(t)[0] = 1e6f;
  }};
}

/// Right in all runs before the answer is compared; later it leaves the output alone.
Launch plan_lazy(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  return {.enqueue = [=, runs = std::make_shared<int>(0)](Stream) {
    if (++*runs <= kVerifyRuns) write_row_sums(p, t);
  }};
}

/// Adds 1 to a sum, which the class kStored allows, and claims `Class` for the problem.
template <NumericsClass Class>
Launch plan_in_class(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  return {.enqueue =
              [=](Stream) {
                write_row_sums(p, t);
                out(t)[0] += 1;
              },
          .numerics = Class};
}

std::size_t workspace_64(const Problem&, const DeviceInfo&) { return 64; }
std::size_t workspace_huge(const Problem&, const DeviceInfo&) { return std::size_t{1} << 60; }

using RowSumPlan = Launch (*)(const Problem&, const Tensors&, Workspace, const DeviceInfo&);

constexpr Backend<RowSum> make(std::string_view id,
                               RowSumPlan plan,
                               MemorySpace memory = MemorySpace::kHost) {
  return {.info = {.id = id, .summary = "test", .memory = memory, .math = "fp32"},
          .supports = supports_all,
          .workspace_bytes = workspace_64,
          .plan = plan};
}

const Backend<RowSum> kRight = make("right", plan_with<nothing>);
const Backend<RowSum> kWrong = make("wrong", plan_with<one_element>);
const Backend<RowSum> kNan = make("nan", plan_with<one_nan>);
const Backend<RowSum> kBeyond = make("beyond", plan_with<beyond_output>);
const Backend<RowSum> kBefore = make("before", plan_with<before_output>);
const Backend<RowSum> kInput = make("input", plan_with<its_input>);
const Backend<RowSum> kScratch = make("scratch", plan_with<beyond_workspace>);
const Backend<RowSum> kThrows = make("throws", plan_with<throws>);
const Backend<RowSum> kRunsOut = make("runs_out", plan_with<runs_out>);
const Backend<RowSum> kReads = make("reads", plan_with<reads_workspace>);
const Backend<RowSum> kStale = make("stale", plan_stale);
const Backend<RowSum> kTiring = make("tiring", plan_tiring);
const Backend<RowSum> kLazy = make("lazy", plan_lazy);
const Backend<RowSum> kDevice = make("device", plan_with<nothing>, MemorySpace::kDevice);
const Backend<RowSum> kPrints = make("prints", plan_with<prints>);
const Backend<RowSum> kHangs = make("hangs", plan_with<hangs>);
const Backend<RowSum> kAborts = make("aborts", plan_with<aborts>);
const Backend<RowSum> kSegfaults = make("segfaults", plan_with<segfaults>);
const Backend<RowSum> kExits = make("exits", plan_with<exits>);
const Backend<RowSum> kLeaks = make("leaks", plan_with<leaks>);
const Backend<RowSum> kHoards = make("hoards", plan_with<hoards>);
const Backend<RowSum> kGreedy = {.info = kRight.info,
                                 .supports = supports_all,
                                 .workspace_bytes = workspace_huge,
                                 .plan = plan_with<nothing>};
const Backend<RowSum> kRefuses = {.info = kRight.info,
                                  .supports =
                                      [](const Problem& p, const DeviceInfo&) {
                                        return p.D == 8 ? Support::no("D must not be 8")
                                                        : Support::yes();
                                      },
                                  .plan = plan_with<nothing>};
const Backend<RowSum> kSlowStart = make("slow_start", plan_slow_start);

constexpr BackendInfo kStoredInfo = {.id = "stored",
                                     .summary = "test",
                                     .memory = MemorySpace::kHost,
                                     .math = "fp32",
                                     .numerics = NumericsClass::kStored};
const Backend<RowSum> kLoose = {
    .info = kStoredInfo, .supports = supports_all, .plan = plan_in_class<NumericsClass::kStored>};
const Backend<RowSum> kStrict = {
    .info = kStoredInfo, .supports = supports_all, .plan = plan_in_class<NumericsClass::kFp64>};

const BackendSlot<RowSum> kSlots[] = {
    {"right", &kRight},     {"wrong", &kWrong},   {"nan", &kNan},
    {"beyond", &kBeyond},   {"before", &kBefore}, {"input", &kInput},
    {"scratch", &kScratch}, {"throws", &kThrows}, {"runs_out", &kRunsOut},
    {"reads", &kReads},     {"stale", &kStale},   {"tiring", &kTiring},
    {"device", &kDevice},   {"greedy", &kGreedy}, {"refuses", &kRefuses},
    {"absent", nullptr},    {"lazy", &kLazy},     {"prints", &kPrints},
    {"hangs", &kHangs},     {"aborts", &kAborts}, {"exits", &kExits},
    {"leaks", &kLeaks},     {"hoards", &kHoards}, {"segfaults", &kSegfaults},
    {"loose", &kLoose},     {"strict", &kStrict}, {"slow_start", &kSlowStart}};

}  // namespace

#if ATTN_WITH_CUDA
std::span<const BackendSlot<RowSum>> broken_kernels();  // broken_kernels.cu
#else
static std::span<const BackendSlot<RowSum>> broken_kernels() { return {}; }
#endif

std::span<const BackendSlot<RowSum>> RowSum::backends() {
  static const std::vector<BackendSlot<RowSum>> kAll = [] {
    std::vector<BackendSlot<RowSum>> all(std::begin(kSlots), std::end(kSlots));
    const std::span<const BackendSlot<RowSum>> kernels = broken_kernels();
    all.insert(all.end(), kernels.begin(), kernels.end());
    return all;
  }();
  return kAll;
}

PlanItem toy_item(std::string_view id) {
  std::vector<PlanItem> plan = toy_plan();
  for (PlanItem& item : plan) {
    if (item.backend_id() == id) return item;
  }
  throw std::logic_error("the toy operator has no backend " + std::string(id));
}

std::vector<PlanItem> toy_plan() {
  const auto op = std::make_shared<const OperatorAdapter<RowSum>>();
  const std::shared_ptr<const AnyProblem> problem = op->default_problem();
  std::vector<PlanItem> plan;
  for (std::size_t i = 0; i < op->backends().size(); ++i)
    plan.push_back({op, problem, case_id(*problem), "", InputFamily::kNormal, i});
  return plan;
}

}  // namespace attn
