// Between the lse that a caller gives or asks for and the one that the passes work with: a CTA for
// each 1024 queries of a head.
#include <algorithm>
#include <cmath>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/exchange_lse.h"
#include "impls/common/fill.cuh"
#include "impls/common/online_softmax.cuh"

namespace attn::colreduce {
namespace {

constexpr int kThreads = 1024;
constexpr int kMaxGridY = 65535;

template <bool kRead>
__global__ void __launch_bounds__(kThreads) exchange_lse(const __grid_constant__ LseExchange args) {
  const PassSequence& sequence = args.sequences.of[args.sequences.find(blockIdx.x)];
  const std::uint32_t head = blockIdx.x - sequence.first_item;
  const std::int64_t b = sequence.batch + head / args.H;
  const std::int64_t h = head % args.H;
  float* natural = args.tensor + b * args.batch_stride + h * args.head_stride + sequence.q_row;
  float* log2 = args.lse_log2 + sequence.lse_offset(b, h, args.H);
  for (std::int64_t m = std::int64_t{blockIdx.y} * kThreads + threadIdx.x; m < sequence.M;
       m += std::int64_t{gridDim.y} * kThreads) {
    if (kRead) {
      log2[m] = isinf(natural[m]) ? INFINITY : natural[m] * static_cast<float>(kLog2E);
    } else {
      natural[m] = isinf(log2[m]) ? -INFINITY : log2[m] * static_cast<float>(1 / kLog2E);
    }
  }
}

void enqueue(void (*kernel)(LseExchange), const LseExchange& exchange, Stream stream) {
  int rows = 1;
  for (int i = 0; i < exchange.sequences.count; ++i)
    rows = std::max(rows, exchange.sequences.of[i].M);
  const int blocks = std::min((rows + kThreads - 1) / kThreads, kMaxGridY);
  kernel<<<dim3(exchange.sequences.items, static_cast<unsigned>(blocks)), kThreads, 0,
           static_cast<cudaStream_t>(stream.handle)>>>(exchange);
  CUDA_CHECK_LAUNCH();
}

}  // namespace

std::vector<LseExchange> lse_exchanges(const ColReduce::Problem& problem,
                                       const std::vector<PassSequence>& sequences,
                                       const TensorView& lse,
                                       float* lse_log2) {
  std::vector<LseExchange> exchanges;
  for (const SequenceList& list :
       launch_lists(sequences, [&](const PassSequence& s) { return s.repeats * problem.H; }))
    exchanges.push_back({.tensor = static_cast<float*>(lse.data),
                         .batch_stride = lse.strides[0],
                         .head_stride = lse.strides[1],
                         .lse_log2 = lse_log2,
                         .H = static_cast<std::uint32_t>(problem.H),
                         .sequences = list});
  return exchanges;
}

void enqueue_read_lse(const LseExchange& exchange, Stream stream) {
  enqueue(exchange_lse<true>, exchange, stream);
}

void enqueue_write_lse(const LseExchange& exchange, Stream stream) {
  enqueue(exchange_lse<false>, exchange, stream);
}

void enqueue_clear_lse(float* tensor, std::int64_t count, Stream stream) {
  enqueue_fill(tensor, count, -INFINITY, static_cast<cudaStream_t>(stream.handle));
}

KernelUse read_lse_use() {
  return {reinterpret_cast<const void*>(&exchange_lse<true>), 0, kThreads};
}
KernelUse write_lse_use() {
  return {reinterpret_cast<const void*>(&exchange_lse<false>), 0, kThreads};
}

}  // namespace attn::colreduce
