// The two passes of wgmma_sm90 bound to a problem: kernel, arguments and grid.
#pragma once

#include <cstddef>

#include "harness/core/backend.h"
#include "impls/colreduce/wgmma_plan.h"
#include "impls/colreduce/wgmma_sm90.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

struct BoundPass {
  WgmmaKernel kernel;
  WgmmaOptionArguments arguments;  // a kernel without options takes the first of its bases
  unsigned ctas = 1;
  bool overlaps = false;  ///< may start while the kernel before it ends

  void enqueue(Stream stream) const;
  KernelUse use() const {
    return {kernel.function, static_cast<std::size_t>(kernel.shared_bytes), kernel.threads};
  }
};

/// The kernel of pass 2 for a problem.
WgmmaKernel column_kernel(const ColReduce::Problem&, const WgmmaPlan&);

/// Where the tables of a ragged problem lie on the device.
struct WgmmaTables {
  const WgmmaSequence* sequences = nullptr;
  const WgmmaUnit* row_units = nullptr;
  const WgmmaUnit* column_units = nullptr;
};

/// Pass 1, queries stationary: the lse of each, in `plan.splits.parts` parts of the keys one behind
/// the other. A query without weight gets +inf, so that pass 2 gives it weight 0, or -inf where
/// there are several parts to merge.
BoundPass bind_rows(const ColReduce::Problem&,
                    const ColReduce::Tensors&,
                    const WgmmaPlan&,
                    const WgmmaTables&,
                    float* lse_log2,  // [parts, B, H, lse_pitch]
                    const DeviceInfo&);

/// Pass 2, keys stationary: the output from lse_log2, or parts of it.
BoundPass bind_columns(const ColReduce::Problem&,
                       const ColReduce::Tensors&,
                       const WgmmaPlan&,
                       const WgmmaTables&,
                       float* lse_log2,      // [B, H, lse_pitch]
                       float* part_columns,  // [head_parts, B, out_heads, N]; with several parts
                       const DeviceInfo&);

}  // namespace attn::colreduce
