// What the files of fused_simt share: the arguments of its kernels and where to find them.
#pragma once

#include <cstdint>

#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

constexpr int kSimtTile = 64;  ///< rows of q or k in a tile
constexpr int kSimtThreads = 128;

struct SimtParams {
  TensorView q;  // [B, H, M, D]
  TensorView k;  // [B, H_kv, N, D]
  AttentionMask mask;
  RowRange queries;  // that contribute
  std::int64_t H;
  std::int64_t group;     // query heads per key head
  std::int64_t combined;  // query heads per head of the output
  bool max_over_heads;
  int D;
  float scale_log2;  // scores are in base 2
  float cap_log2;    // soft cap of the scores, in base 2; 0: none
  float cap_scale;   // what tanh takes of a dot product
  RowRange rows;     // that pass 1 works on: the contributing queries, or all to return their lse
  float* lse_log2;   // [B, H, contributing queries]; null: given_lse
  const float* given_lse;  // [B, H, M], natural logarithm, heads lse_pitch apart
  float* lse;              // the same, written; null: not asked for
  std::int64_t lse_pitch;
  void* out;  // [B, H / combined, N], heads out_pitch apart with options, else dense
  std::int64_t out_pitch;
  DType out_dtype;
  Reduction reduction;
  MeanOver mean_over;
  float averaged;  // heads that a mean over heads divides by, else 1
};

struct SimtKernels {
  void (*row)(SimtParams);
  void (*column)(SimtParams);
};

/// The kernels without any option: what they do not need costs them nothing. `vectors`: every row
/// starts on 16 bytes and consists of whole vectors.
SimtKernels simt_plain_kernels(DType dtype, bool vectors);

/// The kernels that take every option.
SimtKernels simt_option_kernels(DType dtype, bool vectors);

}  // namespace attn::colreduce
