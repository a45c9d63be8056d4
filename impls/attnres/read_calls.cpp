// Problems and tensors of a network's calls.
#include "impls/attnres/read_calls.h"

#include <algorithm>

#include "impls/attnres/choose_backend.h"
#include "impls/attnres/plane_ops.h"
#include "reference/attnres_merge/contract.h"
#include "reference/attnres_merge_bwd/contract.h"
#include "reference/attnres_phase1/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres {
namespace {

constexpr std::size_t kAlignment = 256;

template <class Problem>
Problem problem_of(const RunnerConfig& config) {
  Problem p;
  static_cast<TokenProblem&>(p) = config.network;
  return p;
}

AttnResPhase1::Problem read_problem(const RunnerConfig& config, std::int64_t N, std::int64_t S) {
  auto p = problem_of<AttnResPhase1::Problem>(config);
  p.N = N;
  p.S = S;
  return p;
}

AttnResPhase1Bwd::Problem gradient_problem(
    const RunnerConfig& config, std::int64_t N, std::int64_t S, bool dz, Store store) {
  auto p = problem_of<AttnResPhase1Bwd::Problem>(config);
  p.N = N;
  p.S = S;
  p.dlse = dz ? Option::kOn : Option::kOff;
  p.dwt = Store::kAdd;
  for (std::int64_t n = 0; store == Store::kAdd && n < N; ++n) p.add_to.push_back(n);
  return p;
}

AttnResMerge::Problem merge_problem(const RunnerConfig& config, bool update) {
  auto p = problem_of<AttnResMerge::Problem>(config);
  p.update = update ? Option::kOn : Option::kOff;
  return p;
}

AttnResMergeBwd::Problem merge_gradient_problem(const RunnerConfig& config) {
  auto p = problem_of<AttnResMergeBwd::Problem>(config);
  p.dpartial = Store::kAdd;
  p.dwt = Store::kAdd;
  return p;
}

template <class Op>
std::size_t workspace_of(const typename Op::Problem& p,
                         const RunnerConfig& config,
                         const DeviceInfo& device) {
  const auto bytes = choose_backend<Op>(p, device, config.backend).workspace_bytes;
  return bytes ? bytes(p, device) : 0;
}

std::size_t lse_bytes(const RunnerConfig& config) {
  const auto bytes = static_cast<std::size_t>(config.network.tokens()) * sizeof(float);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

Planes planes_of(const RunnerConfig& config, const void* const* data, std::size_t count) {
  Planes planes{.stride = config.network.D, .dtype = config.network.dtype};
  for (std::size_t n = 0; n < count; ++n) planes.data[n] = const_cast<void*>(data[n]);
  return planes;
}

}  // namespace

ReadCalls::ReadCalls(const RunnerConfig& config,
                     const DeviceInfo& device,
                     const void* wt,
                     Workspace scratch,
                     Emit emit)
    : config_(config),
      device_(device),
      wt_(wt),
      lse_(static_cast<float*>(scratch.data)),
      scratch_{static_cast<char*>(scratch.data) + lse_bytes(config),
               scratch.bytes - lse_bytes(config)},
      emit_(std::move(emit)) {}

std::size_t ReadCalls::scratch_bytes(const RunnerConfig& config, const DeviceInfo& device) {
  const NetworkProblem& network = config.network;
  std::size_t most = 0;
  const auto read = [&](std::int64_t N, std::int64_t S) {
    most = std::max(most, workspace_of<AttnResPhase1>(read_problem(config, N, S), config, device));
    if (!config.gradient) return;
    for (const bool dz : {false, true})
      most = std::max(most, workspace_of<AttnResPhase1Bwd>(
                                gradient_problem(config, N, S, dz, Store::kAdd), config, device));
  };
  for (std::int64_t N = 1; N <= network.blocks() + 1; ++N) read(N, 1);
  for (std::int64_t n = 1; n <= network.blocks(); ++n) read(n, network.block_size(n));
  for (const bool update : {false, true})
    most = std::max(most, workspace_of<AttnResMerge>(merge_problem(config, update), config, device));
  if (config.gradient)
    most = std::max(most,
                    workspace_of<AttnResMergeBwd>(merge_gradient_problem(config), config, device));
  return lse_bytes(config) + most;
}

TensorView ReadCalls::planes(const void* data, std::int64_t count) const {
  const NetworkProblem& p = config_.network;
  return dense("", TensorRole::kKey, p.dtype, count, p, p.D).bind(const_cast<void*>(data));
}

TensorView ReadCalls::scalars(const float* data, std::int64_t count) const {
  return dense("", TensorRole::kKey, DType::kF32, count, config_.network, 1)
      .bind(const_cast<float*>(data));
}

TensorView ReadCalls::queries(std::int64_t query, std::int64_t count) const {
  const NetworkProblem& p = config_.network;
  const std::size_t offset = static_cast<std::size_t>(query * p.D) * size_of(p.query_type());
  return attnres::queries(p, count)
      .bind(const_cast<char*>(static_cast<const char*>(wt_) + offset));
}

TensorView ReadCalls::gradients(float* dwt, std::int64_t query, std::int64_t count) const {
  const NetworkProblem& p = config_.network;
  return query_gradient(p, count, Store::kAdd).bind(dwt + query * p.D);
}

template <class Op>
void ReadCalls::call(const typename Op::Problem& p, const typename Op::Tensors& t) {
  const Backend<Op>& backend = choose_backend<Op>(p, device_, config_.backend);
  chosen_[Op::kName] = backend.info.id;
  emit_(backend.plan(p, t, scratch_, device_));
}

void ReadCalls::phase1(
    const SourceList& sources, std::int64_t query, std::int64_t S, void* reads, float* z) {
  const auto N = static_cast<std::int64_t>(sources.size());
  call<AttnResPhase1>(read_problem(config_, N, S),
                      {.v = planes_of(config_, sources.data(), sources.size()),
                       .wt = queries(query, S),
                       .out = planes(reads, S),
                       .lse = scalars(z, S)});
}

void ReadCalls::merge(
    const PartialSum& sum, std::int64_t query, const void* read, const float* z, void* out) {
  AttnResMerge::Tensors t{.partial = planes(sum.partial, 1),
                          .wt = queries(query, 1),
                          .read = planes(read, 1),
                          .z = scalars(z, 1),
                          .out = planes(out, 1)};
  if (sum.update) {
    t.update = planes(sum.update, 1);
    t.sum = planes(sum.sum, 1);
  }
  call<AttnResMerge>(merge_problem(config_, sum.update != nullptr), t);
}

void ReadCalls::mix(const SourceList& sources,
                    const PartialSum* sum,
                    std::int64_t query,
                    void* out) {
  SourceList all = sources;
  if (sum) {
    if (sum->update) add(sum->sum, sum->partial, sum->update);
    all.push_back(sum->result());
  }
  phase1(all, query, 1, out, lse_);
}

void ReadCalls::phase1_backward(const SourceList& sources,
                                std::int64_t query,
                                std::int64_t S,
                                const void* dreads,
                                const float* dz,
                                const std::vector<void*>& dsources,
                                float* dwt) {
  const auto N = static_cast<std::int64_t>(sources.size());
  AttnResPhase1Bwd::Tensors t{.v = planes_of(config_, sources.data(), sources.size()),
                              .wt = queries(query, S),
                              .dout = planes(dreads, S),
                              .dv = planes_of(config_, dsources.data(), dsources.size()),
                              .dwt = gradients(dwt, query, S)};
  if (dz) t.dlse = scalars(dz, S);
  call<AttnResPhase1Bwd>(gradient_problem(config_, N, S, dz != nullptr, Store::kAdd), t);
}

void ReadCalls::merge_backward(const void* partial,
                               std::int64_t query,
                               const void* read,
                               const float* z,
                               const void* dout,
                               void* dpartial,
                               void* dread,
                               float* dz,
                               float* dwt) {
  call<AttnResMergeBwd>(merge_gradient_problem(config_), {.partial = planes(partial, 1),
                                                          .wt = queries(query, 1),
                                                          .read = planes(read, 1),
                                                          .z = scalars(z, 1),
                                                          .dout = planes(dout, 1),
                                                          .dpartial = planes(dpartial, 1),
                                                          .dread = planes(dread, 1),
                                                          .dz = scalars(dz, 1),
                                                          .dwt = gradients(dwt, query, 1)});
}

void ReadCalls::mix_backward(const SourceList& sources,
                             std::int64_t query,
                             const void* dout,
                             const std::vector<void*>& dsources,
                             Store store,
                             float* dwt) {
  const auto N = static_cast<std::int64_t>(sources.size());
  call<AttnResPhase1Bwd>(gradient_problem(config_, N, 1, /*dz=*/false, store),
                         {.v = planes_of(config_, sources.data(), sources.size()),
                          .wt = queries(query, 1),
                          .dout = planes(dout, 1),
                          .dv = planes_of(config_, dsources.data(), dsources.size()),
                          .dwt = gradients(dwt, query, 1)});
}

void ReadCalls::add(void* sum, const void* a, const void* b) {
  emit_(add_planes(sum, a, b, config_.network.dtype, config_.plane_elements(), device_));
}

void ReadCalls::copy_plane(void* to, const void* from) {
  emit_(copy_bytes(to, from, config_.plane_bytes(), device_));
}

void ReadCalls::clear(void* to, std::size_t bytes) { emit_(clear_bytes(to, bytes, device_)); }

std::string ReadCalls::note() const {
  std::string text;
  for (const auto& [op, backend] : chosen_)
    text.append(text.empty() ? "" : ", ").append(op).append(": ").append(backend);
  return text;
}

}  // namespace attn::attnres
