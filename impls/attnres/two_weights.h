// The softmax over two sides, from their normalisers: the same on a CPU and on a GPU.
#pragma once

#include <cmath>

#include "harness/core/host_device.h"

namespace attn::attnres {

/// a = sigmoid(l - z) and other = 1 - a, of sides with the normalisers l and z.
struct TwoWeights {
  float a, other;
};

ATTN_HOST_DEVICE inline TwoWeights two_weights(float z, float l) {
  return {1.0f / (1.0f + std::exp(z - l)), 1.0f / (1.0f + std::exp(l - z))};
}

/// log(e^z + e^l)
ATTN_HOST_DEVICE inline float two_lse(float z, float l) {
  return std::fmax(z, l) + std::log1p(std::exp(-std::fabs(z - l)));
}

}  // namespace attn::attnres
