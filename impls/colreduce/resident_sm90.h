// The row-resident kernel of sm_90 as host code sees it: its arguments, its instantiations, and how
// one_pass_sm90 and split_k_sm90 bind it to a problem.
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/core/backend.h"
#include "impls/colreduce/mma_sm80.h"
#include "impls/common/tensor_map.h"
#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

struct ResidentArguments {
  TensorMap q;  // [B, H, M, D] in boxes of 64 rows
  TensorMap k;  // [B, H_kv, N, D], likewise
  int sharing;  ///< query heads that read the same key head
  int H;        ///< query heads
  int heads;    ///< B * H
  int ranks;    ///< CTAs of a team
  int teams;    ///< heads under way at a time
  int slice;    ///< heads that a team adds up, one after the other: of one output head
  int parts;    ///< slices of an output head
  AttentionMask mask;
  float scale_log2;    ///< |scale| * log2(e)
  bool negate;         ///< the scale is negative: queries change their sign
  std::uint32_t zero;  ///< 0, which compilers do not know: makes an address wait for data
  void* out;           // [parts, output heads, N]
  DType out_dtype;
  float factor;  ///< of the stored columns: takes 2^kFactorBits off, and averages heads
  Divisor divisor;
  int words;               ///< packets, results and totals, one after the other
  std::uint64_t* packets;  // [teams, ranks, kExchangeSlots, 64]: what every rank tells its team
  std::uint64_t* results;  // [teams, kExchangeSlots, 64]: combined over the team
  std::uint64_t* totals;   // [teams, kExchangeSlots, 64 kTotalSpread]: what all ranks add to
};

/// One instantiation and how it wants to be launched: one CTA an SM, all of them at once.
struct ResidentKernel {
  const void* function = nullptr;
  int threads = 0;
  int shared_bytes = 0;
  int chunks = 0;  ///< chunks of 64 keys that a CTA can own
};

/// What an instantiation is made for, besides the type and D.
struct ResidentVariant {
  bool is_max = false;
  bool masked = false;  ///< some score may be hidden: by a mask, or past the last key in its chunk
  bool wide = false;    ///< a CTA should own more chunks, if there is such a kernel
};

/// The kernel that keeps the keys of a head on chip while its queries stream past, for D
/// components, at most 128. Dtypes are f16 and bf16.
ResidentKernel one_pass_kernel(DType dtype, std::int64_t D, ResidentVariant variant);
/// The kernel for one tile of queries a head, past which the keys stream.
ResidentKernel split_k_kernel(DType dtype, std::int64_t D, ResidentVariant variant);
using ResidentKernels = ResidentKernel (*)(DType, std::int64_t, ResidentVariant);

/// What both backends take: f16 and bf16, D a multiple of 8 up to 128, views that the copy engine
/// takes, keys of a head that fit on the device; sums and means over heads; sm_90.
Support resident_supports(const ColReduce::Problem&, const DeviceInfo&, ResidentKernels);

/// Packets, results and totals, at most 2.5 MB on 132 SMs, where a CTA has a head alone; and parts of combined
/// heads.
std::size_t resident_workspace_bytes(const ColReduce::Problem&, const DeviceInfo&, ResidentKernels);

Launch plan_resident(const ColReduce::Problem&,
                     const ColReduce::Tensors&,
                     Workspace,
                     const DeviceInfo&,
                     ResidentKernels);

/// The functions of a backend that runs one family of kernels.
template <ResidentKernels kKernels>
struct ResidentBackend {
  static Support supports(const ColReduce::Problem& problem, const DeviceInfo& device) {
    return resident_supports(problem, device, kKernels);
  }
  static std::size_t workspace_bytes(const ColReduce::Problem& problem, const DeviceInfo& device) {
    return resident_workspace_bytes(problem, device, kKernels);
  }
  static Launch plan(const ColReduce::Problem& problem,
                     const ColReduce::Tensors& tensors,
                     Workspace workspace,
                     const DeviceInfo& device) {
    return plan_resident(problem, tensors, workspace, device, kKernels);
  }
};

}  // namespace attn::colreduce
