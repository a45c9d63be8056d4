// The RMS norm of an output, row by row in fp32 on a CPU.
#pragma once

#include <cstdint>

#include "harness/core/tensor_view.h"

namespace attn::attnres {

/// x[d] as a tensor of `dtype` holds it.
void round_row(float* x, DType dtype, std::int64_t D);
/// h, rounded before, becomes h rho gamma.
void normalise_row(float* h, const float* gamma, double eps, std::int64_t D);
/// dnormed becomes the gradient of h, rounded before; the token's share is added to dgamma [D].
void normalise_row_backward(
    const float* h, const float* gamma, double eps, std::int64_t D, float* dnormed, float* dgamma);

}  // namespace attn::attnres
