// Inner products of a token on tensor cores: every source with the queries, with their dout and with
// itself.
#pragma once

#include <cstdint>

#include "impls/attnres/depth_products.cuh"
#include "impls/attnres_phase1_bwd/bulk_sm90.h"

namespace attn::attnres_phase1_bwd {
namespace bulk {

using attnres::Left;

/// A warp's kSteps steps of 32 columns, of a CTA's `width`. The queries stay in registers as the left
/// operand; a step of the rows is read once for all products.
template <class T, int kQueries, int kSteps>
class TokenProducts {
 public:
  /// Columns from `first` on of the queries wt [S, D] are those of the CTA.
  __device__ TokenProducts(const BulkArguments& p, int first, int width, int warp, int lane)
      : steps_(min(kSteps, (width + kStep - 1) / kStep - kSteps * warp)) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 4 * kTiles; ++i) {
        const int s = i / 4 * 8 + lane / 4;
        const int at = (kSteps * warp + step) * kStep + i % 4 * 8 + lane % 4 * 2;
        const auto* row = static_cast<const T*>(p.wt) + static_cast<std::int64_t>(s) * p.D + first;
        queries_[step][i] =
            s < p.S && at < width ? *reinterpret_cast<const std::uint32_t*>(row + at) : 0;
      }
    }
  }

  /// to [2 S + 1, N rounded up to 8]: products of queries, squares, products of dout. `stage` is the
  /// address of the token's rows: N sources, then kQueries of dout, zeros behind the last.
  __device__ __forceinline__ void find(
      const BulkArguments& p, std::uint32_t stage, int warp, int lane, float* to) const {
    const int pitch = p.memory.pitch;
    const auto offset = static_cast<std::uint32_t>(warp * kSteps * kStepBytes);
    const attnres::StagedRows sources{stage, pitch, p.N};
    const attnres::StagedRows dout{stage + static_cast<std::uint32_t>(p.N * pitch), pitch,
                                   kQueries};
    const std::uint32_t left = offset + (kTiles == 1 ? attnres::lane_address(dout, 0, lane)
                                                     : attnres::lane_address_16(dout, 0, lane));
    const int product_pitch = attnres::product_pitch(p.N);
    for (int column = 0; column < p.N; column += 8) {
      Sums sums[2] = {};  // two chains of dependent products each
      const std::uint32_t right = offset + attnres::lane_address(sources, column, lane);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        if (step < steps_)
          multiply(queries_[step], left + step * kStepBytes, right + step * kStepBytes, sums);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sums[0].logits[i] += sums[1].logits[i];
        sums[0].products[i] += sums[1].products[i];
        if constexpr (kTiles == 2) sums[0].squares[i] += sums[1].squares[i];
      }
      constexpr Left kLogits = kTiles == 1 ? Left::kRowsAndSquares : Left::kRows;
      attnres::store_products<kLogits>(sums[0].logits, p.S, 0, column, product_pitch, lane, to);
      if constexpr (kTiles == 2)
        attnres::store_products<Left::kSquares>(sums[0].squares, p.S, 0, column, product_pitch,
                                                lane, to);
      attnres::store_products<Left::kRows>(sums[0].products, p.S, 0, column, product_pitch, lane,
                                           to + (p.S + 1) * product_pitch);
    }
  }

 private:
  static constexpr int kStep = attnres::kStepColumns;
  static constexpr int kStepBytes = 2 * kStep;
  static constexpr int kTiles = (kQueries + 7) / 8;  // of the left operand's rows
  static_assert(kTiles <= 2, "a left operand has sixteen rows");
  static_assert(kSteps <= attnres::kChainSteps, "a chain of products is one fp32 addend");

  struct Sums {
    float logits[4];  // and squares, of up to eight queries
    float products[4];
    float squares[4];
  };

  /// A step: two products deep.
  __device__ static __forceinline__ void multiply(const std::uint32_t (&q)[4 * kTiles],
                                                  std::uint32_t left,
                                                  std::uint32_t right,
                                                  Sums (&sums)[2]) {
    std::uint32_t b[4];
    std::uint32_t a[4];
    sm80::ldmatrix_x4(b, right);
    sm80::ldmatrix_x4(a, left);
    if constexpr (kTiles == 1) {
      sm80::mma_m16n8k16<T>(sums[0].logits, {q[0], b[0], q[1], b[1]}, b[0], b[1]);
      sm80::mma_m16n8k16<T>(sums[1].logits, {q[2], b[2], q[3], b[3]}, b[2], b[3]);
      sm80::mma_m16n8k16<T>(sums[0].products, {a[0], 0, a[1], 0}, b[0], b[1]);
      sm80::mma_m16n8k16<T>(sums[1].products, {a[2], 0, a[3], 0}, b[2], b[3]);
    } else {
      std::uint32_t upper[4];
      sm80::ldmatrix_x4(upper, left + kStepBytes / 2);
      sm80::mma_m16n8k16<T>(sums[0].logits, {q[0], q[4], q[1], q[5]}, b[0], b[1]);
      sm80::mma_m16n8k16<T>(sums[1].logits, {q[2], q[6], q[3], q[7]}, b[2], b[3]);
      sm80::mma_m16n8k16<T>(sums[0].products, a, b[0], b[1]);
      sm80::mma_m16n8k16<T>(sums[1].products, upper, b[2], b[3]);
      sm80::mma_m16n8k16<T>(sums[0].squares, {b[0], 0, b[1], 0}, b[0], b[1]);
      sm80::mma_m16n8k16<T>(sums[1].squares, {b[2], 0, b[3], 0}, b[2], b[3]);
    }
  }

  int steps_;
  std::uint32_t queries_[kSteps][4 * kTiles];
};

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
