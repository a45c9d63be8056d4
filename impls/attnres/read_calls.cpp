// Problems and tensors of a network's calls.
#include "impls/attnres/read_calls.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "impls/attnres/choose_backend.h"
#include "impls/attnres/plane_ops.h"
#include "reference/attnres_merge/contract.h"
#include "reference/attnres_merge_bwd/contract.h"
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_mix_bwd/contract.h"
#include "reference/attnres_phase1/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres {
namespace {

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

AttnResMix::Problem mix_problem(const RunnerConfig& config, std::int64_t N, bool update) {
  auto p = problem_of<AttnResMix::Problem>(config);
  p.N = N;
  p.update = update ? Option::kOn : Option::kOff;
  return p;
}

AttnResMerge::Problem merge_problem(const RunnerConfig& config, bool update) {
  auto p = problem_of<AttnResMerge::Problem>(config);
  p.update = update ? Option::kOn : Option::kOff;
  return p;
}

/// Gradients of N sources, which are written or added to; the queries' are added.
template <class Problem>
Problem source_gradients(const RunnerConfig& config, std::int64_t N, Store store) {
  auto p = problem_of<Problem>(config);
  p.N = N;
  p.dwt = Store::kAdd;
  for (std::int64_t n = 0; store == Store::kAdd && n < N; ++n) p.add_to.push_back(n);
  return p;
}

AttnResPhase1Bwd::Problem gradient_problem(const RunnerConfig& config,
                                           std::int64_t N,
                                           std::int64_t S) {
  auto p = source_gradients<AttnResPhase1Bwd::Problem>(config, N, Store::kAdd);
  p.S = S;
  p.dlse = Option::kOn;
  return p;
}

AttnResMixBwd::Problem mix_gradient_problem(const RunnerConfig& config,
                                            std::int64_t N,
                                            Store store) {
  return source_gradients<AttnResMixBwd::Problem>(config, N, store);
}

AttnResMergeBwd::Problem merge_gradient_problem(const RunnerConfig& config) {
  auto p = problem_of<AttnResMergeBwd::Problem>(config);
  p.dpartial = Store::kAdd;
  p.dwt = Store::kAdd;
  return p;
}

/// Visits the problem of every call that may be made, by its operator.
template <class Visit>
void for_each_problem(const RunnerConfig& config, Visit&& visit) {
  const NetworkProblem& network = config.network;
  const std::int64_t blocks = network.blocks();
  for (std::int64_t N = 1; N <= blocks + 1; ++N) {
    visit.template operator()<AttnResMix>(mix_problem(config, N, /*update=*/false));
    if (config.gradient) {
      for (const Store store : {Store::kWrite, Store::kAdd})
        visit.template operator()<AttnResMixBwd>(mix_gradient_problem(config, N, store));
    }
  }
  for (std::int64_t n = 1; n <= blocks; ++n) {
    if (config.one_shot(n)) continue;
    const std::int64_t S = network.block_size(n);
    visit.template operator()<AttnResPhase1>(read_problem(config, n, S));
    for (const bool update : {false, true})
      visit.template operator()<AttnResMerge>(merge_problem(config, update));
    if (!config.gradient) continue;
    visit.template operator()<AttnResPhase1Bwd>(gradient_problem(config, n, S));
    visit.template operator()<AttnResMergeBwd>(merge_gradient_problem(config));
  }
}

template <class Op>
std::size_t workspace_of(const Backend<Op>* backend,
                         const typename Op::Problem& p,
                         const DeviceInfo& device) {
  return backend && backend->workspace_bytes ? backend->workspace_bytes(p, device) : 0;
}

Planes planes_of(const RunnerConfig& config, const SourceList& list) {
  Planes planes{.stride = config.network.D, .dtype = config.network.dtype};
  for (std::size_t n = 0; n < list.size(); ++n) planes.data[n] = const_cast<void*>(list[n]);
  return planes;
}

}  // namespace

ReadCalls::ReadCalls(const RunnerConfig& config,
                     const DeviceInfo& device,
                     const void* wt,
                     Workspace scratch,
                     Emit emit)
    : config_(config), device_(device), wt_(wt), scratch_(scratch), emit_(std::move(emit)) {}

bool ReadCalls::mix_adds(const RunnerConfig& config, const DeviceInfo& device, std::int64_t N) {
  return config.fused_updates &&
         choose_backend<AttnResMix>(mix_problem(config, N, /*update=*/true), device) != nullptr;
}

Support ReadCalls::supports(const RunnerConfig& config, const DeviceInfo& device) {
  Support support = Support::yes();
  for_each_problem(config, [&]<class Op>(const typename Op::Problem& p) {
    if (support && !choose_backend<Op>(p, device))
      support = Support::no("no backend of this build takes " + std::string(Op::kName) + " here");
  });
  return support;
}

std::size_t ReadCalls::scratch_bytes(const RunnerConfig& config, const DeviceInfo& device) {
  std::size_t most = 0;
  const auto keep_most = [&]<class Op>(const typename Op::Problem& p) {
    most = std::max(most, workspace_of<Op>(choose_backend<Op>(p, device), p, device));
  };
  for_each_problem(config, keep_most);
  for (std::int64_t N = 1; N <= config.network.blocks() + 1; ++N) {
    if (mix_adds(config, device, N))
      keep_most.template operator()<AttnResMix>(mix_problem(config, N, /*update=*/true));
  }
  return most;
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
  return attnres::queries(p, count).bind(const_cast<char*>(static_cast<const char*>(wt_) + offset));
}

TensorView ReadCalls::query_gradients(float* dwt, std::int64_t query, std::int64_t count) const {
  const NetworkProblem& p = config_.network;
  return query_gradient(p, count, Store::kAdd).bind(dwt + query * p.D);
}

template <class Op>
void ReadCalls::call(const typename Op::Problem& p, const typename Op::Tensors& t) {
  const Backend<Op>* backend = choose_backend<Op>(p, device_);
  if (!backend || workspace_of<Op>(backend, p, device_) > scratch_.bytes)
    throw std::logic_error("a call of " + std::string(Op::kName) + " that was not foreseen");
  chosen_[Op::kName] = backend->info.id;
  emit_(backend->plan(p, t, scratch_, device_));
}

void ReadCalls::phase1(
    const SourceList& sources, std::int64_t query, std::int64_t S, void* reads, float* z) {
  call<AttnResPhase1>(read_problem(config_, static_cast<std::int64_t>(sources.size()), S),
                      {.v = planes_of(config_, sources),
                       .wt = queries(query, S),
                       .out = planes(reads, S),
                       .lse = scalars(z, S)});
}

void ReadCalls::merge(
    const PartialSum& sum, std::int64_t query, const void* read, const float* z, void* out) {
  const bool fused = sum.update && config_.fused_updates;
  if (sum.update && !fused) add(sum.sum, sum.partial, sum.update);
  AttnResMerge::Tensors t{.partial = planes(fused ? sum.partial : sum.result(), 1),
                          .wt = queries(query, 1),
                          .read = planes(read, 1),
                          .z = scalars(z, 1),
                          .out = planes(out, 1)};
  if (fused) {
    t.update = planes(sum.update, 1);
    t.sum = planes(sum.sum, 1);
  }
  call<AttnResMerge>(merge_problem(config_, fused), t);
}

void ReadCalls::mix(SourceList older, const PartialSum& last, std::int64_t query, void* out) {
  const auto N = static_cast<std::int64_t>(older.size()) + 1;
  const bool fused = last.update && mix_adds(config_, device_, N);
  if (last.update && !fused) add(last.sum, last.partial, last.update);
  older.push_back(fused ? last.partial : last.result());
  AttnResMix::Tensors t{.v = planes_of(config_, older), .wt = queries(query, 1)};
  t.out = planes(out, 1);
  if (fused) {
    t.update = planes(last.update, 1);
    t.sum = planes(last.sum, 1);
  }
  call<AttnResMix>(mix_problem(config_, N, fused), t);
}

template <class Op>
typename Op::Tensors ReadCalls::gradients(const SourceList& sources,
                                          std::int64_t query,
                                          std::int64_t S,
                                          const void* dreads,
                                          const SourceList& dsources,
                                          float* dwt) const {
  typename Op::Tensors t;
  t.v = planes_of(config_, sources);
  t.wt = queries(query, S);
  t.dout = planes(dreads, S);
  t.dv = planes_of(config_, dsources);
  t.dwt = query_gradients(dwt, query, S);
  return t;
}

void ReadCalls::phase1_backward(const SourceList& sources,
                                std::int64_t query,
                                std::int64_t S,
                                const void* dreads,
                                const float* dz,
                                const SourceList& dsources,
                                float* dwt) {
  auto t = gradients<AttnResPhase1Bwd>(sources, query, S, dreads, dsources, dwt);
  t.dlse = scalars(dz, S);
  call<AttnResPhase1Bwd>(gradient_problem(config_, static_cast<std::int64_t>(sources.size()), S),
                         t);
}

void ReadCalls::mix_backward(const SourceList& sources,
                             std::int64_t query,
                             const void* dread,
                             const SourceList& dsources,
                             Store store,
                             float* dwt) {
  call<AttnResMixBwd>(
      mix_gradient_problem(config_, static_cast<std::int64_t>(sources.size()), store),
      gradients<AttnResMixBwd>(sources, query, 1, dread, dsources, dwt));
}

void ReadCalls::merge_backward(const void* partial,
                               std::int64_t query,
                               void* read,
                               const float* z,
                               const void* dout,
                               void* dpartial,
                               float* dz,
                               float* dwt) {
  call<AttnResMergeBwd>(merge_gradient_problem(config_), {.partial = planes(partial, 1),
                                                          .wt = queries(query, 1),
                                                          .read = planes(read, 1),
                                                          .z = scalars(z, 1),
                                                          .dout = planes(dout, 1),
                                                          .dpartial = planes(dpartial, 1),
                                                          .dread = planes(read, 1),
                                                          .dz = scalars(dz, 1),
                                                          .dwt = query_gradients(dwt, query, 1)});
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
