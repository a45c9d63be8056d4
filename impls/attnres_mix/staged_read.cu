// The plain mix by phase 1's kernel.
#include "impls/attnres_mix/staged_read.h"
#include "reference/attnres_phase1/contract.h"

namespace attn {
namespace attnres_phase1 {
extern const Backend<AttnResPhase1> fused_simt;
}  // namespace attnres_phase1

namespace attnres_mix {
namespace {

using attnres::Option;
using Problem = AttnResMix::Problem;

/// From five sources on rows in registers are as fast or faster.
constexpr std::int64_t kMostSources = 4;

AttnResPhase1::Problem read_of(const Problem& p) {
  AttnResPhase1::Problem read;
  static_cast<attnres::ReadProblem&>(read) = attnres::one_query(p);
  return read;
}

/// Where the workspace of phase 1 ends, aligned.
std::size_t read_bytes(const Problem& p, const DeviceInfo& device) {
  constexpr std::size_t kAlignment = 256;
  const std::size_t bytes = attnres_phase1::fused_simt.workspace_bytes(read_of(p), device);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

bool reads_staged(const Problem& p, const DeviceInfo& device) {
  const bool plain = p.update == Option::kOff && p.weights == Option::kOff && !p.has_norm();
  return plain && p.N <= kMostSources && attnres_phase1::fused_simt.supports(read_of(p), device);
}

std::size_t staged_workspace_bytes(const Problem& p, const DeviceInfo& device) {
  if (!reads_staged(p, device)) return 0;
  const std::int64_t normalisers = p.lse == Option::kOn ? 0 : p.tokens();
  return read_bytes(p, device) + static_cast<std::size_t>(normalisers) * sizeof(float);
}

Launch plan_staged(const Problem& p,
                   const AttnResMix::Tensors& t,
                   Workspace workspace,
                   const DeviceInfo& device) {
  const std::size_t own = read_bytes(p, device);
  TensorView lse = t.lse;
  if (p.lse == Option::kOff)
    lse = attnres::dense("lse", TensorRole::kOutput, DType::kF32, 1, p, 1)
              .bind(static_cast<char*>(workspace.data) + own);
  return attnres_phase1::fused_simt.plan(
      read_of(p), {.v = t.v, .wt = t.wt, .out = t.out, .lse = lse}, {workspace.data, own}, device);
}

}  // namespace attnres_mix
}  // namespace attn
