// CTAs that wait for packets of others: one_pass_sm90 and split_k_sm90 come to an end and keep
// their bits beside each other, beside other work, in a replayed graph and with any workspace.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "harness/buffer.h"
#include "harness/core/cuda_check.h"
#include "harness/environment.h"
#include "harness/gpu.h"
#include "harness/seed.h"
#include "reference/colreduce/contract.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;

constexpr int kLaunches = 20;
constexpr std::uint32_t kPoison = 0xFFFFFFFFu;  // NaN in every type

struct Case {
  std::string backend;
  Problem problem;
  InputFamily family = InputFamily::kNormal;
};

/// Occupies its SM for a number of cycles, as its shared memory leaves no room for others.
__global__ void occupy(long long cycles) {
  const long long start = clock64();
  while (clock64() - start < cycles) {
  }
}

constexpr int kOccupiedBytes = 200 * 1024;
constexpr unsigned kOccupiedSms = 100;
constexpr long long kOccupiedCycles = 35'000'000;  // about 20 ms

void start_occupation(cudaStream_t stream, long long cycles) {
  CUDA_CHECK(
      cudaFuncSetAttribute(occupy, cudaFuncAttributeMaxDynamicSharedMemorySize, kOccupiedBytes));
  occupy<<<kOccupiedSms, 1, kOccupiedBytes, stream>>>(cycles);
  CUDA_CHECK_LAUNCH();
}

/// Waits for 20 s at most. A kernel that hangs ends with its process alone: any call that frees or
/// copies memory would wait for it too.
void wait_for(cudaStream_t stream) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  cudaError_t state = cudaStreamQuery(stream);
  for (; state == cudaErrorNotReady; state = cudaStreamQuery(stream)) {
    if (std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "the stream made no progress for 20 s: CTAs wait for each other";
      std::fflush(nullptr);
      std::_Exit(EXIT_FAILURE);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  CUDA_CHECK(state);
}

class OwnedStream {
 public:
  OwnedStream() { CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~OwnedStream() { cudaStreamDestroy(stream_); }
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// A stream whose launches share a workspace and an output, and keep what each launch wrote.
class Lane {
 public:
  Lane(const Backend<ColReduce>& backend,
       const DeviceInfo& device,
       const Problem& problem,
       const Buffer& q,
       const Buffer& k)
      : output_(MemorySpace::kDevice, ColReduce::tensor_specs(problem)[2].storage_bytes()),
        kept_(MemorySpace::kDevice, kLaunches * output_.bytes()),
        workspace_(MemorySpace::kDevice, backend.workspace_bytes(problem, device)) {
    const std::vector<void*> tensors = {q.data(), k.data(), output_.data()};
    launch_ = backend.plan(problem, ColReduce::bind(problem, tensors),
                           {workspace_.data(), workspace_.bytes()}, device);
    workspace_.poison(kPoison);
    kept_.poison(kPoison);
    CUDA_CHECK(cudaDeviceSynchronize());  // the fills, which another stream did
  }

  cudaStream_t stream() const { return stream_.get(); }
  const Buffer& workspace() const { return workspace_; }
  void enqueue() const { launch_.enqueue({stream()}); }

  /// Poisons the output, does the work and keeps its result as number `index`.
  template <class Work>
  void keep(int index, Work work) const {
    CUDA_CHECK(cudaMemsetAsync(output_.data(), 0xFF, output_.bytes(), stream()));
    work();
    CUDA_CHECK(cudaMemcpyAsync(
        static_cast<char*>(kept_.data()) + static_cast<std::size_t>(index) * output_.bytes(),
        output_.data(), output_.bytes(), cudaMemcpyDeviceToDevice, stream()));
  }
  void keep(int index) const {
    keep(index, [this] { enqueue(); });
  }

  /// The bytes of the kept results, one after another; waits for the stream.
  std::vector<std::byte> results() const {
    wait_for(stream());
    return kept_.to_host();
  }

 private:
  OwnedStream stream_;
  Buffer output_;
  Buffer kept_;
  Buffer workspace_;
  Launch launch_;
};

const Backend<ColReduce>* find_backend(const std::string& id) {
  for (const auto& slot : ColReduce::backends()) {
    if (slot.id == id) return slot.backend;
  }
  return nullptr;
}

class ResidentProgress : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Machine machine = find_machine(true);
    if (!machine.gpu) GTEST_SKIP() << "no GPU: " << machine.why_no_gpu;
    device_ = machine.gpu->info;
    if (device_.sm != 90) GTEST_SKIP() << "the GPU is not of compute capability 9.0";
    backend_ = find_backend(GetParam().backend);
    if (!backend_) GTEST_SKIP() << GetParam().backend << " is not in this build";
    const Problem& problem = GetParam().problem;
    const Support support = backend_->supports(problem, device_);
    ASSERT_TRUE(support) << support.reason;
    const std::vector<TensorSpec> specs = ColReduce::tensor_specs(problem);
    for (std::size_t i = 0; i < 2; ++i) {  // q and k
      inputs_.emplace_back(MemorySpace::kDevice, specs[i].storage_bytes());
      gpu::fill_input(specs[i], inputs_.back().data(), GetParam().family,
                      tensor_key(1, "", specs[i].name));
    }
    run_first();
  }

  Lane make_lane() const {
    return {*backend_, device_, GetParam().problem, inputs_[0], inputs_[1]};
  }

  void expect_first(const Lane& lane) const {
    const std::vector<std::byte> results = lane.results();
    ASSERT_EQ(results.size(), kLaunches * first_.size());
    for (int i = 0; i < kLaunches; ++i) {
      const std::byte* result = results.data() + static_cast<std::size_t>(i) * first_.size();
      EXPECT_EQ(std::memcmp(result, first_.data(), first_.size()), 0)
          << "launch " << i << " gave other bits than the first one";
    }
  }

 private:
  /// The result of a plain launch, alone on the device; and loads all that later launches need.
  void run_first() {
    const Lane lane = make_lane();
    start_occupation(lane.stream(), 0);
    lane.keep(0);
    first_ = lane.results();
    first_.resize(first_.size() / kLaunches);
    for (std::size_t i = 0; i < first_.size() / sizeof(float); ++i) {
      float value = 0;
      std::memcpy(&value, first_.data() + i * sizeof(float), sizeof(float));
      ASSERT_TRUE(std::isfinite(value)) << "element " << i;
    }
  }

  DeviceInfo device_;
  const Backend<ColReduce>* backend_ = nullptr;
  std::vector<Buffer> inputs_;
  std::vector<std::byte> first_;
};

TEST_P(ResidentProgress, TwoStreamsAtOnce) {
  const Lane a = make_lane();
  const Lane b = make_lane();
  for (int i = 0; i < kLaunches; ++i) {
    a.keep(i);
    b.keep(i);
  }
  expect_first(a);
  expect_first(b);
}

TEST_P(ResidentProgress, BesideAKernelThatOccupiesMostSms) {
  const Lane lane = make_lane();
  const OwnedStream other;
  constexpr int kRounds = 4;
  for (int i = 0; i < kLaunches; ++i) {
    if (i % (kLaunches / kRounds) == 0) {
      wait_for(lane.stream());
      start_occupation(other.get(), kOccupiedCycles);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // until its CTAs run
      EXPECT_EQ(cudaStreamQuery(other.get()), cudaErrorNotReady) << "nothing is in the way";
    }
    lane.keep(i);
  }
  expect_first(lane);
  wait_for(other.get());
}

TEST_P(ResidentProgress, ReplaysOfAGraph) {
  const Lane lane = make_lane();
  cudaGraph_t graph = nullptr;
  CUDA_CHECK(cudaStreamBeginCapture(lane.stream(), cudaStreamCaptureModeThreadLocal));
  lane.enqueue();
  CUDA_CHECK(cudaStreamEndCapture(lane.stream(), &graph));
  cudaGraphExec_t replay = nullptr;
  CUDA_CHECK(cudaGraphInstantiate(&replay, graph, 0));
  for (int i = 0; i < kLaunches; ++i)
    lane.keep(i, [&] { CUDA_CHECK(cudaGraphLaunch(replay, lane.stream())); });
  expect_first(lane);
  CUDA_CHECK(cudaGraphExecDestroy(replay));
  CUDA_CHECK(cudaGraphDestroy(graph));
}

TEST_P(ResidentProgress, WhateverTheWorkspaceHolds) {
  const Lane lane = make_lane();
  const std::size_t words = lane.workspace().bytes() / sizeof(std::uint64_t);
  // The second half looks like packets: small tile numbers in the high words.
  std::vector<std::uint64_t> bits(2 * (words + kLaunches));
  std::mt19937_64 generator(1);
  for (std::uint64_t& word : bits) word = generator();
  for (std::size_t i = words + kLaunches; i < bits.size(); ++i) bits[i] &= 0x0000000FFFFFFFFFull;
  const Buffer random(MemorySpace::kDevice, bits.size() * sizeof(std::uint64_t));
  CUDA_CHECK(cudaMemcpy(random.data(), bits.data(), random.bytes(), cudaMemcpyHostToDevice));
  for (int i = 0; i < kLaunches; ++i) {
    const std::size_t offset = static_cast<std::size_t>(i) + (i % 2) * (words + kLaunches);
    CUDA_CHECK(cudaMemcpyAsync(lane.workspace().data(),
                               static_cast<const std::uint64_t*>(random.data()) + offset,
                               lane.workspace().bytes(), cudaMemcpyDeviceToDevice, lane.stream()));
    lane.keep(i);
  }
  expect_first(lane);
}

/// On 132 SMs: several CTAs a head; many; heads in several rounds, in some of whose tiles not all CTAs see a
/// key. Peaked rows differ so much that CTAs tell each other packets instead of adding sums up.
std::vector<Case> cases() {
  return {
      {"one_pass_sm90", {.B = 2, .H = 8, .M = 200, .N = 1000, .D = 128, .mask = Mask::kCausal}},
      {"one_pass_sm90", {.H = 4, .M = 64, .N = 4160, .D = 64}},
      {"one_pass_sm90", {.B = 8, .H = 16, .M = 700, .N = 1000, .mask = Mask::kCausalTopLeft}},
      {"one_pass_sm90", {.H = 4, .M = 700, .N = 4160}, InputFamily::kPeaked},
      {"split_k_sm90", {.B = 2, .H = 8, .M = 40, .N = 1000, .D = 128, .mask = Mask::kCausal}},
      {"split_k_sm90", {.H = 4, .M = 64, .N = 4160, .D = 64}},
      {"split_k_sm90", {.B = 8, .H = 16, .M = 64, .N = 1000, .mask = Mask::kCausalTopLeft}},
      {"split_k_sm90", {.B = 8, .H = 16, .M = 64, .N = 2000}, InputFamily::kPeaked},
  };
}

std::string name_of_case(const testing::TestParamInfo<Case>& info) {
  const Problem& p = info.param.problem;
  return info.param.backend + "_B" + std::to_string(p.B) + "_H" + std::to_string(p.H) + "_M" +
         std::to_string(p.M) + "_N" + std::to_string(p.N) + "_D" + std::to_string(p.D) + "_" +
         std::string(kMaskNames[static_cast<int>(p.mask)]);
}

INSTANTIATE_TEST_SUITE_P(Backends, ResidentProgress, testing::ValuesIn(cases()), name_of_case);

}  // namespace
}  // namespace attn
