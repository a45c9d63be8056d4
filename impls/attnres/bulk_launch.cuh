// Launches a kernel of persistent clusters: as many as run at once.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "harness/core/backend.h"
#include "harness/core/cuda_check.h"
#include "impls/attnres/bulk_config.h"

namespace attn::attnres {

/// The launch of `kernel` for `groups` groups of tokens, at least one: one cluster of config.ranks CTAs,
/// of all teams and the copying warp, for each group, and at most those that are resident together.
template <class Arguments>
std::function<void(Stream)> bulk_launch(void (*kernel)(Arguments),
                                        const Arguments& arguments,
                                        const BulkConfig& config,
                                        std::int64_t groups) {
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(config.shared_bytes)));
  const auto ranks = static_cast<unsigned>(config.ranks);
  const auto launch_config = [=](unsigned clusters, cudaLaunchAttribute& attribute) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = ranks;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t launch{};
    launch.gridDim = dim3(clusters * ranks);
    launch.blockDim = dim3(32 * (kBulkWarps + 1));
    launch.dynamicSmemBytes = config.shared_bytes;
    launch.attrs = &attribute;
    launch.numAttrs = 1;
    return launch;
  };
  cudaLaunchAttribute attribute{};
  int resident = 0;
  const cudaLaunchConfig_t one = launch_config(1, attribute);
  CUDA_CHECK(cudaOccupancyMaxActiveClusters(&resident, kernel, &one));
  const auto clusters =
      static_cast<unsigned>(std::min<std::int64_t>(groups, std::max(1, resident)));
  return [=](Stream stream) {
    cudaLaunchAttribute own{};
    cudaLaunchConfig_t launch = launch_config(clusters, own);
    launch.stream = static_cast<cudaStream_t>(stream.handle);
    CUDA_CHECK(cudaLaunchKernelEx(&launch, kernel, arguments));
  };
}

}  // namespace attn::attnres
