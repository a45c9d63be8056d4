// The toy operator on a GPU: a right kernel, and kernels and launches that go wrong on purpose.
#include <cstdlib>
#include <memory>

#include "harness/core/cuda_check.h"
#include "tests/toy_operator.h"

namespace attn {
namespace {

enum class Trouble {
  kNone,
  kStale,
  kBeyondOutput,
  kFarWrite,
  kTrap,
  kHang,
  kAbort,
  kLeak,
  kHoard,
};

/// One row a thread. q [1, 1, M, D] and out [1, 1, M], both dense.
__global__ void row_sum_kernel(
    const float* q, float* out, std::int64_t M, std::int64_t D, Trouble trouble) {
  constexpr std::uint64_t kHangNs = 60'000'000'000;  // ends by itself, should nobody end it
  if (threadIdx.x == 0 && trouble == Trouble::kTrap) __trap();
  if (threadIdx.x == 0 && trouble == Trouble::kBeyondOutput) out[M] = 1;
  if (threadIdx.x == 0 && trouble == Trouble::kFarWrite) out[std::int64_t{1} << 40] = 1;
  if (trouble == Trouble::kHang) {
    std::uint64_t start = 0;
    std::uint64_t now = 0;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));  // PTX ISA, special registers
    do {
      asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - start < kHangNs);
  }
  const std::int64_t rows =
      trouble == Trouble::kStale ? M - 1 : M;  // the last keeps what was there
  for (std::int64_t m = threadIdx.x; m < rows; m += blockDim.x) {
    double sum = 0;
    for (std::int64_t d = 0; d < D; ++d) sum += q[m * D + d];
    out[m] = static_cast<float>(sum);
  }
}

void* take_memory(std::size_t bytes) {
  void* data = nullptr;
  CUDA_CHECK(cudaMalloc(&data, bytes));
  return data;
}

template <Trouble kTrouble>
Launch plan(const RowSum::Problem& p, const RowSum::Tensors& t, Workspace, const DeviceInfo&) {
  return {.enqueue = [=](Stream stream) {
    if (kTrouble == Trouble::kAbort) std::abort();
    if (kTrouble == Trouble::kLeak) take_memory(std::size_t{64} << 20);
    while (kTrouble == Trouble::kHoard) take_memory(std::size_t{1} << 30);
    row_sum_kernel<<<1, 64, 0, static_cast<cudaStream_t>(stream.handle)>>>(
        static_cast<const float*>(t.q.data), static_cast<float*>(t.out.data), p.M, p.D, kTrouble);
    CUDA_CHECK_LAUNCH();
  }};
}

template <Trouble kTrouble>
constexpr Backend<RowSum> make(std::string_view id) {
  return {.info = {.id = id, .summary = "test", .math = "fp64"},
          .supports = [](const RowSum::Problem&, const DeviceInfo&) { return Support::yes(); },
          .plan = plan<kTrouble>};
}

void launch_right(const RowSum::Problem& p, const RowSum::Tensors& t, cudaStream_t stream) {
  row_sum_kernel<<<1, 64, 0, stream>>>(static_cast<const float*>(t.q.data),
                                       static_cast<float*>(t.out.data), p.M, p.D, Trouble::kNone);
  CUDA_CHECK_LAUNCH();
}

/// Works on a stream of its own, which no event and no graph of the harness's sees.
Launch plan_elsewhere(const RowSum::Problem& p,
                      const RowSum::Tensors& t,
                      Workspace,
                      const DeviceInfo&) {
  cudaStream_t own = nullptr;
  CUDA_CHECK(cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking));
  return {.enqueue = [=](Stream stream) {
    launch_right(p, t, own);
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    CUDA_CHECK(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream.handle), &capture));
    if (capture == cudaStreamCaptureStatusNone) CUDA_CHECK(cudaStreamSynchronize(own));
  }};
}

Launch plan_synchronises(const RowSum::Problem& p,
                         const RowSum::Tensors& t,
                         Workspace,
                         const DeviceInfo&) {
  return {.enqueue = [=](Stream stream) {
    launch_right(p, t, static_cast<cudaStream_t>(stream.handle));
    CUDA_CHECK(cudaStreamSynchronize(static_cast<cudaStream_t>(stream.handle)));
  }};
}

/// Empties the output of a call whose number is not above the last one's.
__global__ void expect_next_call(int call, int* last_call, float* out, std::int64_t M) {
  if (call <= *last_call) {
    for (std::int64_t m = 0; m < M; ++m) out[m] = 0;
  }
  *last_call = call;
}

/// Tells calls apart by a number that the host counts: a graph repeats the one it was captured with.
Launch plan_counts_calls(const RowSum::Problem& p,
                         const RowSum::Tensors& t,
                         Workspace,
                         const DeviceInfo&) {
  auto* last_call = static_cast<int*>(take_memory(sizeof(int)));
  CUDA_CHECK(cudaMemset(last_call, 0, sizeof(int)));
  return {.enqueue = [=, calls = std::make_shared<int>(0)](Stream stream) {
    const auto queue = static_cast<cudaStream_t>(stream.handle);
    launch_right(p, t, queue);
    expect_next_call<<<1, 1, 0, queue>>>(++*calls, last_call, static_cast<float*>(t.out.data), p.M);
    CUDA_CHECK_LAUNCH();
  }};
}

constexpr Backend<RowSum> with_plan(std::string_view id, decltype(&plan_elsewhere) plan) {
  Backend<RowSum> backend = make<Trouble::kNone>(id);
  backend.plan = plan;
  return backend;
}

const Backend<RowSum> kElsewhere = with_plan("cuda_elsewhere", plan_elsewhere);
const Backend<RowSum> kSynchronises = with_plan("cuda_synchronises", plan_synchronises);
const Backend<RowSum> kCountsCalls = with_plan("cuda_counts_calls", plan_counts_calls);
const Backend<RowSum> kRight = make<Trouble::kNone>("cuda_right");
const Backend<RowSum> kStale = make<Trouble::kStale>("cuda_stale");
const Backend<RowSum> kBeyond = make<Trouble::kBeyondOutput>("cuda_beyond");
const Backend<RowSum> kFarWrite = make<Trouble::kFarWrite>("cuda_far_write");
const Backend<RowSum> kTrap = make<Trouble::kTrap>("cuda_trap");
const Backend<RowSum> kHang = make<Trouble::kHang>("cuda_hangs");
const Backend<RowSum> kAbort = make<Trouble::kAbort>("cuda_aborts");
const Backend<RowSum> kLeak = make<Trouble::kLeak>("cuda_leaks");
const Backend<RowSum> kHoard = make<Trouble::kHoard>("cuda_hoards");

const BackendSlot<RowSum> kSlots[] = {{"cuda_right", &kRight},
                                      {"cuda_stale", &kStale},
                                      {"cuda_beyond", &kBeyond},
                                      {"cuda_trap", &kTrap},
                                      {"cuda_far_write", &kFarWrite},
                                      {"cuda_hangs", &kHang},
                                      {"cuda_elsewhere", &kElsewhere},
                                      {"cuda_synchronises", &kSynchronises},
                                      {"cuda_counts_calls", &kCountsCalls},
                                      {"cuda_aborts", &kAbort},
                                      {"cuda_leaks", &kLeak},
                                      {"cuda_hoards", &kHoard}};

}  // namespace

std::span<const BackendSlot<RowSum>> broken_kernels() { return kSlots; }

}  // namespace attn
