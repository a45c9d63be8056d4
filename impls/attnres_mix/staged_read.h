// A plain mix of few sources by phase 1's kernel with one query: its teams have more tokens under way than
// CTAs whose rows are in registers.
#pragma once

#include "reference/attnres_mix/contract.h"

namespace attn::attnres_mix {

/// Whether fused_simt reads the problem so. Pure.
bool reads_staged(const AttnResMix::Problem& p, const DeviceInfo& device);

/// Phase 1's workspace, and the normaliser where that is no output; 0 where the problem is not read so.
std::size_t staged_workspace_bytes(const AttnResMix::Problem& p, const DeviceInfo& device);

Launch plan_staged(const AttnResMix::Problem& p,
                   const AttnResMix::Tensors& t,
                   Workspace workspace,
                   const DeviceInfo& device);

}  // namespace attn::attnres_mix
