// Launches a kernel of persistent clusters: as many as run at once.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <functional>

#include "harness/core/backend.h"
#include "harness/core/cuda_check.h"
#include "impls/common/shared_limit.h"

namespace attn::attnres {

/// CTAs of a cluster, and what each of them has.
struct ClusterShape {
  int ranks, threads;
  std::size_t shared_bytes;
};

struct ClusterLaunch {
  std::function<void(Stream)> enqueue;
  std::int64_t clusters;
};

/// The launch of `kernel` by `most` clusters, at least one, but at most those that are resident together.
template <class Arguments>
ClusterLaunch bulk_launch(void (*kernel)(Arguments),
                          const Arguments& arguments,
                          const ClusterShape& shape,
                          std::int64_t most) {
  raise_shared_limit(reinterpret_cast<const void*>(kernel), shape.shared_bytes);
  const auto ranks = static_cast<unsigned>(shape.ranks);
  const auto launch_config = [=](std::int64_t clusters, cudaLaunchAttribute& attribute) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = ranks;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t launch{};
    launch.gridDim = dim3(static_cast<unsigned>(clusters) * ranks);
    launch.blockDim = dim3(static_cast<unsigned>(shape.threads));
    launch.dynamicSmemBytes = shape.shared_bytes;
    launch.attrs = &attribute;
    launch.numAttrs = 1;
    return launch;
  };
  cudaLaunchAttribute attribute{};
  int resident = 0;
  const cudaLaunchConfig_t one = launch_config(1, attribute);
  CUDA_CHECK(cudaOccupancyMaxActiveClusters(&resident, kernel, &one));
  const std::int64_t clusters = std::min<std::int64_t>(most, std::max(1, resident));
  return {[=](Stream stream) {
            cudaLaunchAttribute own{};
            cudaLaunchConfig_t launch = launch_config(clusters, own);
            launch.stream = static_cast<cudaStream_t>(stream.handle);
            CUDA_CHECK(cudaLaunchKernelEx(&launch, kernel, arguments));
          },
          clusters};
}

}  // namespace attn::attnres
