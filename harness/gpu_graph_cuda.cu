// Launches as CUDA graphs: captured from the harness's stream, replayed as one call.
#include <memory>
#include <utility>
#include <vector>

#include "harness/core/cuda_check.h"
#include "harness/gpu.h"
#include "harness/gpu_stream.cuh"

namespace attn::gpu {
namespace {

using GraphPtr = std::unique_ptr<CUgraph_st, decltype(&cudaGraphDestroy)>;

/// What is enqueued while it lives is captured and does not run.
class Capture {
 public:
  Capture() { CUDA_CHECK(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal)); }
  /// Leaves the stream usable after a launch that cannot be captured.
  ~Capture() {
    if (!open_) return;
    cudaGraph_t unfinished = nullptr;
    cudaStreamEndCapture(stream(), &unfinished);
    if (unfinished) cudaGraphDestroy(unfinished);
    cudaGetLastError();  // not sticky: clear it
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  GraphPtr end() {
    cudaGraph_t graph = nullptr;
    open_ = false;
    CUDA_CHECK(cudaStreamEndCapture(stream(), &graph));
    return {graph, cudaGraphDestroy};
  }

 private:
  bool open_ = true;
};

std::size_t count_kernels(cudaGraph_t graph) {
  std::size_t count = 0;
  CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &count));
  std::vector<cudaGraphNode_t> nodes(count);
  CUDA_CHECK(cudaGraphGetNodes(graph, nodes.data(), &count));
  std::size_t kernels = 0;
  for (const cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type{};
    CUDA_CHECK(cudaGraphNodeGetType(node, &type));
    kernels += type == cudaGraphNodeTypeKernel;
  }
  return kernels;
}

}  // namespace

Graph capture(const Launch& launch) {
  Capture capture;
  launch.enqueue({stream()});
  const GraphPtr graph = capture.end();
  cudaGraphExec_t executable = nullptr;
  CUDA_CHECK(cudaGraphInstantiate(&executable, graph.get(), 0));
  const std::shared_ptr<CUgraphExec_st> shared(executable, cudaGraphExecDestroy);
  return {.replay = {[shared](Stream) { CUDA_CHECK(cudaGraphLaunch(shared.get(), stream())); }},
          .kernels = count_kernels(graph.get())};
}

}  // namespace attn::gpu
