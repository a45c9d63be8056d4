// The plain mix on CUDA cores: phase 1 with one query, by phase 1's kernel.
//
// Adds:     nothing to ../attnres_phase1/fused_simt.cu: a read by one query is one of its problems.
// Mapping:  its teams of warps, a token each; a thread owns groups of eight columns.
// Memory:   its staged rows; workspace: its own, and the normaliser where that is no output.
// Limit:    memory: N + 1 rows a token; 6 N D FLOP.
// Rounding: fp32, one rounding of each output.
// Source:   reference/attnres/README.md.
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_phase1/contract.h"

namespace attn {
namespace attnres_phase1 {
extern const Backend<AttnResPhase1> fused_simt;
}  // namespace attnres_phase1

namespace attnres_mix {
namespace {

using attnres::Option;
using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;

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

Support supports(const Problem& p, const DeviceInfo& device) {
  if (p.update == Option::kOn) return Support::no("update must be off");
  if (p.weights == Option::kOn) return Support::no("weights must be off");
  if (p.has_norm()) return Support::no("norm must be off");
  return attnres_phase1::fused_simt.supports(read_of(p), device);
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  const std::int64_t normalisers = p.lse == Option::kOn ? 0 : p.tokens();
  return read_bytes(p, device) + static_cast<std::size_t>(normalisers) * sizeof(float);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  const std::size_t own = read_bytes(p, device);
  TensorView lse = t.lse;
  if (p.lse == Option::kOff)
    lse = attnres::dense("lse", TensorRole::kOutput, DType::kF32, 1, p, 1)
              .bind(static_cast<char*>(workspace.data) + own);
  return attnres_phase1::fused_simt.plan(
      read_of(p), {.v = t.v, .wt = t.wt, .out = t.out, .lse = lse}, {workspace.data, own}, device);
}

}  // namespace

extern const Backend<AttnResMix> fused_simt;
constinit const Backend<AttnResMix> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "phase 1 of one query: sources staged, the next token's on their way",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attnres_mix
}  // namespace attn
