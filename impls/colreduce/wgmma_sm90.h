// The two passes of wgmma_sm90 as host code sees them: what a kernel is given, and which kernels
// there are.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "harness/core/backend.h"
#include "impls/colreduce/mma_sm80.h"
#include "impls/colreduce/soft_cap.h"
#include "impls/colreduce/wgmma_choices.h"
#include "impls/colreduce/wgmma_items.h"
#include "impls/common/tensor_map.h"
#include "reference/attention_mask.h"

namespace attn::colreduce {

/// One of q and k as a pass reads it.
struct WgmmaOperand {
  TensorMap map;              // [B, heads, rows, D] in boxes of [tile rows, 64]
  std::uint32_t sharing = 1;  ///< query heads that read the same head of this operand
};

struct WgmmaArguments {
  WgmmaOperand stationary;  // boxes of kWgmmaRows rows
  WgmmaOperand stream;      // boxes of a streamed tile
  CUtensorMap lse_map;      // [B * H * lse_pitch] in boxes of a streamed tile; column pass only
  AttentionMask mask;
  ItemOrder order;
  int rows = 1;               ///< of the stationary operand, a head
  std::uint32_t H = 1;        ///< query heads
  std::uint32_t splits = 1;   ///< parts of the streamed axis; a unit is tile * splits + split
  std::uint32_t items = 1;    ///< order.heads * order.units
  float scale_log2 = 1;       ///< scale * log2(e), of any sign
  float* lse_log2 = nullptr;  // [splits, B, H, lse_pitch], written by a row pass
  std::uint32_t lse_pitch = 0;
  float lse_without_key = 0;  ///< what a row pass writes for a row without weight
  void* out = nullptr;        // [B, H, N], column pass only
  DType out_dtype = DType::kF32;
  Divisor divisor = Divisor::kOne;
};

/// What the kernels that take every option are given besides; `numbers` instead of order, H, splits
/// and items.
struct WgmmaOptionArguments : WgmmaArguments {
  WgmmaNumbers numbers;
  SoftCap cap;  ///< of the scores, in base 2: where there is one, scale_log2 is 1
  // Column pass only.
  std::int64_t out_pitch = 0;  ///< columns of an output head
  bool max_over_heads = false;
  float averaged = 1;  ///< heads that a mean over heads divides by, else 1
};

/// One instantiation of the streaming kernel.
struct WgmmaKernel {
  const void* function = nullptr;
  int threads = 0;
  int shared_bytes = 0;
  int stream_rows = 0;  ///< of a streamed tile
  int stages = 0;
};

/// The kernel of a pass for D components, at most 256. Dtypes are f16 and bf16.
WgmmaKernel wgmma_row_kernel(DType dtype, std::int64_t D);
WgmmaKernel wgmma_column_kernel(DType dtype, std::int64_t D, bool is_max);

/// The same with every option: kernels of WgmmaOptionArguments. `packed`: a streamed tile holds the
/// queries of several heads, all of each.
WgmmaKernel wgmma_option_row_kernel(DType dtype, std::int64_t D);
WgmmaKernel wgmma_option_column_kernel(DType dtype, std::int64_t D, bool is_max);
WgmmaKernel wgmma_packed_column_kernel(DType dtype, std::int64_t D, bool is_max);

}  // namespace attn::colreduce
