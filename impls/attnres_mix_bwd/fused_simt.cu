// The backward of the plain mix on CUDA cores: that of phase 1 with one query, by its kernel.
//
// Adds:     nothing to ../attnres_phase1_bwd/fused_simt.cu: a read by one query is one of its problems.
// Mapping:  its CTAs, a token each; a thread owns groups of eight columns and their query gradient.
// Memory:   its staged rows and workspace.
// Limit:    memory: 2 N + 1 rows a token, one more for each gradient that is added to; 16 N D FLOP.
// Rounding: fp32, one rounding of each output; repeats are bitwise equal.
// Source:   reference/attnres/README.md.
#include "reference/attnres_mix_bwd/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {
namespace attnres_phase1_bwd {
extern const Backend<AttnResPhase1Bwd> fused_simt;
}  // namespace attnres_phase1_bwd

namespace attnres_mix_bwd {
namespace {

using Problem = AttnResMixBwd::Problem;
using Tensors = AttnResMixBwd::Tensors;

AttnResPhase1Bwd::Problem read_of(const Problem& p) {
  AttnResPhase1Bwd::Problem read;
  static_cast<attnres::ReadGradients&>(read) = attnres::one_query(p);
  return read;
}

Support supports(const Problem& p, const DeviceInfo& device) {
  if (p.has_norm()) return Support::no("norm must be off");
  return attnres_phase1_bwd::fused_simt.supports(read_of(p), device);
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return attnres_phase1_bwd::fused_simt.workspace_bytes(read_of(p), device);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  AttnResPhase1Bwd::Tensors tensors;
  static_cast<attnres::GradientTensors&>(tensors) = t;
  tensors.dout = t.dout;
  return attnres_phase1_bwd::fused_simt.plan(read_of(p), tensors, workspace, device);
}

}  // namespace

extern const Backend<AttnResMixBwd> fused_simt;
constinit const Backend<AttnResMixBwd> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "phase 1's of one query: rows staged once, weights computed again",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attnres_mix_bwd
}  // namespace attn
