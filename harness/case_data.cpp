// Inputs, outputs and reference of a case.
#include "harness/case_data.h"

#include <algorithm>

#include "harness/gpu.h"
#include "harness/host_memory.h"
#include "harness/seed.h"

namespace attn {
namespace {

/// Up to here the CPU oracle answers in well under a second, and stays independent of the GPU.
constexpr double kSmallFlops = 3e8;
/// Beyond this the CPU oracle takes minutes on a few threads; of many each adds to it.
constexpr double kCpuFlops = 1e11;
constexpr double kCpuFlopsPerThread = 2.5e10;

bool has_padding(const TensorSpec& spec) { return spec.storage_elements != spec.elements(); }

OutputView view_of(const TensorSpec& spec, const Buffer& buffer) {
  return {spec.label(), buffer.data(), spec.dtype, static_cast<std::size_t>(spec.elements()),
          buffer.space()};
}

}  // namespace

std::vector<OutputView> OutputCopies::views() const {
  std::vector<OutputView> views;
  for (std::size_t i = 0; i < specs.size(); ++i) views.push_back(view_of(specs[i], buffers[i]));
  return views;
}

std::uint64_t OutputCopies::hash() const {
  std::uint64_t state = fnv1a("");
  for (const Buffer& one : buffers) state = fnv1a(hex(one.hash()), state);
  return state;
}

Fixture::Fixture(const PlanItem& item, MemorySpace space, std::uint64_t seed)
    : problem_(item.problem),
      family_(item.family),
      seed_(seed),
      case_id_(item.case_id),
      specs_(item.problem->tensor_specs()) {
  for (const TensorSpec& spec : specs_) buffers_.emplace_back(space, spec.storage_bytes());
  hashes_.resize(specs_.size());
}

void Fixture::fill_inputs(std::uint32_t padding) {
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const TensorSpec& spec = specs_[i];
    if (spec.role == TensorRole::kOutput) continue;
    buffers_[i].poison(padding);
    fill_input(i, seed_);
  }
  problem_->write_given(pointers(), buffers_.front().space());
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (!is_written(specs_[i].role)) hashes_[i] = buffers_[i].hash();
  }
}

void Fixture::fill_input(std::size_t index, std::uint64_t seed) {
  const TensorSpec& spec = specs_[index];
  const Buffer& buffer = buffers_[index];
  if (spec.role == TensorRole::kOutput || spec.role == TensorRole::kGiven) return;
  const auto fill = buffer.space() == MemorySpace::kDevice ? gpu::fill_input : host::fill_input;
  fill(spec, buffer.data(), family_, tensor_key(seed, case_id_, spec.label()));
}

void Fixture::write_other_inputs() {
  for (std::size_t i = 0; i < specs_.size(); ++i) fill_input(i, seed_ + 1);
}

void Fixture::restore_inputs() {
  for (std::size_t i = 0; i < specs_.size(); ++i) fill_input(i, seed_);
}

void Fixture::reset(std::uint32_t padding, std::uint32_t poison) {
  fill_inputs(padding);
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (specs_[i].role == TensorRole::kOutput) buffers_[i].poison(poison);
  }
}

void Fixture::poison(std::uint32_t pattern) {
  bool padded = false;
  for (const TensorSpec& spec : specs_)
    padded = padded || (!is_written(spec.role) && has_padding(spec));
  if (padded) fill_inputs(pattern);
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (is_written(specs_[i].role)) buffers_[i].poison(pattern);
    if (specs_[i].role == TensorRole::kInOut) fill_input(i, seed_);
  }
}

bool Fixture::accumulates() const {
  return std::any_of(specs_.begin(), specs_.end(),
                     [](const TensorSpec& spec) { return spec.role == TensorRole::kInOut; });
}

std::vector<void*> Fixture::pointers() const {
  std::vector<void*> pointers;
  for (const Buffer& buffer : buffers_) pointers.push_back(buffer.data());
  return pointers;
}

std::vector<OutputView> Fixture::outputs() const {
  std::vector<OutputView> views;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (is_written(specs_[i].role)) views.push_back(view_of(specs_[i], buffers_[i]));
  }
  return views;
}

OutputCopies Fixture::copy_outputs() const {
  OutputCopies copies;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (!is_written(specs_[i].role)) continue;
    copies.specs.push_back(specs_[i]);
    copies.buffers.push_back(buffers_[i].copy());
  }
  return copies;
}

std::size_t Fixture::bytes(bool outputs) const {
  std::size_t sum = 0;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (is_written(specs_[i].role) == outputs) sum += buffers_[i].bytes();
  }
  return sum;
}

std::uint64_t Fixture::inputs_hash() const {
  std::uint64_t state = fnv1a("");
  for (const std::uint64_t one : hashes_) state = fnv1a(hex(one), state);
  return state;
}

std::optional<std::string> Fixture::damage() const {
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const std::string name = specs_[i].label();
    if (!buffers_[i].guards_intact()) return "wrote outside " + name;
    if (!is_written(specs_[i].role) && buffers_[i].hash() != hashes_[i])
      return "changed its input " + name;
  }
  return std::nullopt;
}

void CaseData::select(const PlanItem& item) {
  if (item_ && item_->case_id == item.case_id && item_->family == item.family) return;
  forget();
  item_ = item;
}

void CaseData::forget() {
  item_.reset();
  for (auto& fixture : fixtures_) fixture.reset();
  reference_.reset();
  reference_tried_ = false;
}

Fixture& CaseData::fixture(MemorySpace space) {
  auto& fixture = fixtures_[space == MemorySpace::kDevice];
  if (!fixture) {
    fixture = std::make_unique<Fixture>(*item_, space, seed_);
    fixture->reset(0, 0);
  }
  return *fixture;
}

const AnyReference* CaseData::reference() {
  if (reference_tried_) return reference_.get();
  reference_tried_ = true;
  const double flops = item_->problem->work().mma_flops;
  if (machine_.gpu && flops > kSmallFlops) ask_oracle(MemorySpace::kDevice);
  if (!reference_ && flops <= std::max(kCpuFlops, machine_.cpu.threads * kCpuFlopsPerThread))
    ask_oracle(MemorySpace::kHost);
  return reference_.get();
}

/// The oracle of a memory space; not every operator has one on the GPU.
void CaseData::ask_oracle(MemorySpace space) {
  const bool borrowed = !has_fixture(space);
  if (fixture(space).accumulates()) fixture(space).restore_inputs();
  reference_ = item_->problem->reference(fixture(space).pointers(), space);
  if (borrowed)
    fixtures_[space == MemorySpace::kDevice].reset();  // no backend asked for data there
}

}  // namespace attn
