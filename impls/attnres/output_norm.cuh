// The RMS norm of an output on the device: rounding to the output's type, the reciprocal RMS of what has
// been rounded, the normalised columns, and the gradient. Sums over a token's threads are the caller's.
#pragma once

#include "impls/attnres/columns.cuh"

namespace attn::attnres {

/// rho = (squares / D + eps)^(-1/2)
__device__ inline float reciprocal_rms(float squares, int D, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(D) + eps);
}

/// x as a tensor of `dtype` holds it: of type T, or for single rows of any type.
template <class T, Rows kRows>
__device__ inline void round_columns(DType dtype, float (&x)[kColumns]) {
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    if constexpr (kRows == Rows::kSingle) {
      x[c] = as_type(dtype,
                     [&]<class E>(std::type_identity<E>) { return to_float(from_float<E>(x[c])); });
    } else {
      x[c] = to_float(from_float<T>(x[c]));
    }
  }
}

/// x becomes x rho gamma.
__device__ inline void normalise_columns(float rho,
                                         const float (&gamma)[kColumns],
                                         float (&x)[kColumns]) {
#pragma unroll
  for (int c = 0; c < kColumns; ++c) x[c] = x[c] * rho * gamma[c];
}

/// The gradient dh = rho g - c h of a token, g = gamma dnormed.
struct NormBackward {
  float rho, c;

  /// From the sums of squares of h and of <g, h>.
  __device__ static NormBackward of(float squares, float product, int D, float eps) {
    const float rho = reciprocal_rms(squares, D, eps);
    return {rho, rho * rho * rho * product / static_cast<float>(D)};
  }
  __device__ float dh(float g, float h) const { return rho * g - c * h; }
  /// <dh, x> from <g, x> and <h, x>.
  __device__ float product(float gx, float hx) const { return rho * gx - c * hx; }
};

}  // namespace attn::attnres
