// The block runner around sublayers that depend on what they read: gradients of the whole network,
// recompute policies with equal bits, memory by its formula, what it refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "harness/buffer.h"
#include "harness/environment.h"
#include "harness/gpu.h"
#include "impls/attnres/block_runner.h"
#include "impls/attnres/choose_backend.h"
#include "impls/attnres/plane_ops.h"
#include "reference/attnres/read.h"
#include "reference/attnres_phase1/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"
#include "tests/known_devices.h"

namespace attn {
namespace {

using attnres::BlockRunner;
using attnres::NetworkProblem;
using attnres::Recompute;
using attnres::RunnerConfig;
using attnres::RunnerMemory;
using attnres::Schedule;

RunnerConfig config_of(std::int64_t L, std::int64_t S, DType dtype) {
  RunnerConfig config;
  config.network.L = L;
  config.network.S = S;
  config.network.B = 2;
  config.network.T = 3;
  config.network.D = 16;
  config.network.dtype = dtype;
  return config;
}

/// Memory of a type's elements where a network runs.
class Elements {
 public:
  Elements(MemorySpace space, DType dtype, std::size_t count)
      : dtype_(dtype), count_(count), buffer_(space, count * size_of(dtype) + 4) {
    buffer_.poison(0xFFFFFFFFu);  // NaN
  }
  Elements(MemorySpace space, DType dtype, const std::vector<double>& values)
      : Elements(space, dtype, values.size()) {
    std::vector<std::byte> bytes(buffer_.bytes());
    for (std::size_t i = 0; i < count_; ++i)
      store_element(bytes.data(), dtype, static_cast<std::int64_t>(i),
                    static_cast<float>(values[i]));
    if (space == MemorySpace::kDevice) {
      gpu::copy_to_device(data(), bytes.data(), bytes.size());
    } else {
      std::copy(bytes.begin(), bytes.end(), static_cast<std::byte*>(data()));
    }
  }
  void* data() const { return buffer_.data(); }
  std::vector<double> values() const {
    const std::vector<std::byte> bytes = buffer_.to_host();
    std::vector<double> list;
    for (std::size_t i = 0; i < count_; ++i)
      list.push_back(load_element(bytes.data(), dtype_, static_cast<std::int64_t>(i)));
    return list;
  }

 private:
  DType dtype_;
  std::size_t count_;
  Buffer buffer_;
};

std::vector<double> normals(std::size_t count, unsigned seed, double scale) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(count);
  for (double& x : values) x = static_cast<float>(scale * normal(engine));
  return values;
}

/// Where networks run here: on one thread of the host, and on the GPU.
std::vector<DeviceInfo> devices() {
  const Machine machine = find_machine(/*want_gpu=*/true);
  std::vector<DeviceInfo> list = {machine.cpu};
  list.front().threads = 1;
  if (machine.gpu) list.push_back(machine.gpu->info);
  return list;
}

/// A network whose sublayers double what they read: u = 2 h, dh = 2 du, by additions alone.
class Network {
 public:
  Network(const RunnerConfig& config, const DeviceInfo& device)
      : config_(config),
        device_(device),
        plane_(static_cast<std::size_t>(config.plane_elements())),
        embedding(normals(plane_, 1, 1)),
        dout(normals(plane_, 2, 1)),
        wt(normals(static_cast<std::size_t>((config.network.L + 1) * config.network.D), 3, 0.3)) {}

  /// Forward and, where the config has one, backward; all memory is NaN before.
  void run() {
    const NetworkProblem& p = config_.network;
    const auto blocks = static_cast<std::size_t>(p.blocks());
    const Elements embeddings(device_.space, p.dtype, embedding);
    const Elements douts(device_.space, p.dtype, dout);
    const Elements queries(device_.space, p.query_type(), wt);
    const Elements sums = planes(blocks);
    const Elements outs = planes(1);
    const Elements dblocks = planes(1 + blocks);
    const Elements dqueries(device_.space, DType::kF32, wt.size());
    const Elements saved(device_.space, DType::kF32, BlockRunner::saved_bytes(config_) / 4);
    const Buffer work(device_.space, BlockRunner::workspace_bytes(config_, device_));
    work.poison(0xFFFFFFFFu);
    BlockRunner runner(config_, device_,
                       {.embedding = embeddings.data(),
                        .wt = queries.data(),
                        .blocks = sums.data(),
                        .out = outs.data(),
                        .dout = douts.data(),
                        .dblocks = dblocks.data(),
                        .dwt = static_cast<float*>(dqueries.data()),
                        .saved = saved.data(),
                        .workspace = {work.data(), work.bytes()}},
                       sublayers(), [this](const Launch& launch) { enqueue(launch); });
    runner.forward();
    calls.clear();
    work.poison(0xFFFFFFFFu);  // nothing stays in it
    if (config_.gradient) runner.backward();
    EXPECT_TRUE(work.guards_intact());
    out = outs.values();
    dembedding = dblocks.values();
    dembedding.resize(plane_);
    dwt = dqueries.values();
  }

 private:
  using Planes = std::map<std::int64_t, Elements>;

  Elements planes(std::size_t count) const {
    return {device_.space, config_.network.dtype, count * plane_};
  }
  void enqueue(const Launch& launch) const {
    if (device_.space == MemorySpace::kDevice) {
      gpu::run(launch);
    } else {
      launch.enqueue({});
    }
  }
  const void* twice(Planes& to, std::int64_t i, const void* from) {
    void* sum = to.try_emplace(i, planes(1)).first->second.data();
    enqueue(attnres::add_planes(sum, from, from, config_.network.dtype, config_.plane_elements(),
                                device_));
    return sum;
  }
  attnres::Sublayers sublayers() {
    return {.place = [this](std::int64_t i) -> void* {
              return h_.try_emplace(i, planes(1)).first->second.data();
            },
            .forward =
                [this](std::int64_t i, const void* h) {
                  calls.push_back(static_cast<int>(i));
                  return twice(u_, i, h);
                },
            .backward =
                [this](std::int64_t i, const void* du) {
                  calls.push_back(-1 - static_cast<int>(i));
                  const void* dh = twice(dh_, i, du);
                  dus[i] = dh_.at(i).values();
                  for (double& x : dus[i]) x /= 2;
                  return dh;
                }};
  }

  RunnerConfig config_;
  DeviceInfo device_;
  std::size_t plane_;
  Planes h_, u_, dh_;

 public:
  std::vector<double> embedding, dout, wt;
  std::vector<double> out, dembedding, dwt;
  std::map<std::int64_t, std::vector<double>> dus;  // of what sublayers return
  std::vector<int> calls;                           // of the backward: i forward, -1 - i backward
};

/// The same network in fp64, each read over all its sources at once: <out, dout>, with `change` added to
/// what sublayer `changed` returns.
double loss(const NetworkProblem& p,
            const std::vector<double>& embedding,
            const std::vector<double>& wt,
            const std::vector<double>& dout,
            std::int64_t changed = -1,
            std::size_t at = 0,
            double change = 0) {
  using attnres::Row;
  const auto D = static_cast<std::size_t>(p.D);
  double total = 0;
  for (std::size_t t = 0; t < static_cast<std::size_t>(p.tokens()); ++t) {
    std::vector<Row> sources = {Row(embedding.begin() + static_cast<std::ptrdiff_t>(t * D),
                                    embedding.begin() + static_cast<std::ptrdiff_t>((t + 1) * D))};
    const auto read = [&](std::int64_t query) {
      std::vector<double> weights;
      double sum = 0;
      for (const Row& v : sources) {
        double squares = 0;
        double product = 0;
        for (std::size_t d = 0; d < D; ++d) {
          squares += v[d] * v[d];
          product += v[d] * wt[static_cast<std::size_t>(query) * D + d];
        }
        weights.push_back(std::exp(product / std::sqrt(squares / static_cast<double>(D) + p.eps)));
        sum += weights.back();
      }
      Row mixed(D);
      for (std::size_t n = 0; n < sources.size(); ++n) {
        for (std::size_t d = 0; d < D; ++d) mixed[d] += weights[n] / sum * sources[n][d];
      }
      return mixed;
    };
    for (std::int64_t n = 1; n <= p.blocks(); ++n) {
      for (std::int64_t i = 0; i < p.block_size(n); ++i) {
        Row u = read(p.query(n, i));
        for (double& x : u) x *= 2;
        if (p.query(n, i) == changed && at / D == t) u[at % D] += change;
        if (i == 0) {
          sources.push_back(u);
        } else {
          for (std::size_t d = 0; d < D; ++d) sources.back()[d] += u[d];
        }
      }
    }
    const Row out = read(p.L);
    for (std::size_t d = 0; d < D; ++d) total += out[d] * dout[t * D + d];
  }
  return total;
}

/// Every schedule on every device.
std::vector<std::pair<DeviceInfo, Schedule>> everywhere() {
  std::vector<std::pair<DeviceInfo, Schedule>> list;
  for (const DeviceInfo& device : devices()) {
    for (const Schedule one : {Schedule::kAuto, Schedule::kOneShot, Schedule::kTwoPhase})
      list.emplace_back(device, one);
  }
  return list;
}

TEST(AttnResRunner, GradientsOfAWholeNetworkMatchCentralDifferences) {
  constexpr double kStep = 0x1p-12;
  for (const auto& [device, schedule] : everywhere()) {
    for (const std::int64_t S : {1, 3, 8}) {
      SCOPED_TRACE(testing::Message() << "schedule " << static_cast<int>(schedule) << " S " << S);
      RunnerConfig config = config_of(7, S, DType::kF32);
      config.schedule = schedule;
      config.gradient = true;
      Network network(config, device);
      network.run();
      const NetworkProblem& p = config.network;
      double largest = 0;
      for (const double x : network.dembedding) largest = std::max(largest, std::abs(x));
      const auto near = [largest](double value, double expected, const std::string& what) {
        EXPECT_NEAR(value, expected, 0x1p-15 * largest) << what;
      };
      const auto slope = [&](std::vector<double>& values, std::size_t i) {
        const double centre = values[i];
        values[i] = centre + kStep;
        const double above = loss(p, network.embedding, network.wt, network.dout);
        values[i] = centre - kStep;
        const double below = loss(p, network.embedding, network.wt, network.dout);
        values[i] = centre;
        return (above - below) / (2 * kStep);
      };
      for (std::size_t i = 0; i < network.embedding.size(); i += 5)
        near(network.dembedding[i], slope(network.embedding, i), "embedding");
      for (std::size_t i = 0; i < network.wt.size(); i += 3)
        near(network.dwt[i], slope(network.wt, i), "query " + std::to_string(i / 16));
      for (std::int64_t sublayer = 0; sublayer < p.L; ++sublayer) {
        const std::size_t i = static_cast<std::size_t>(7 * sublayer);
        const double above =
            loss(p, network.embedding, network.wt, network.dout, sublayer, i, kStep);
        const double below =
            loss(p, network.embedding, network.wt, network.dout, sublayer, i, -kStep);
        near(network.dus[sublayer][i], (above - below) / (2 * kStep),
             "sublayer " + std::to_string(sublayer));
      }
    }
  }
}

TEST(AttnResRunner, RecomputePoliciesGiveEqualBits) {
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const auto& [device, schedule] : everywhere()) {
      for (const std::int64_t S : {1, 2, 4, 16}) {
        SCOPED_TRACE(testing::Message() << "schedule " << static_cast<int>(schedule) << " S " << S);
        RunnerConfig config = config_of(10, S, dtype);
        config.schedule = schedule;
        config.gradient = true;
        Network block(config, device);
        block.run();
        for (const Recompute recompute : {Recompute::kNone, Recompute::kKeepO1}) {
          config.recompute = recompute;
          Network network(config, device);
          network.run();
          EXPECT_EQ(network.out, block.out);
          EXPECT_EQ(network.dembedding, block.dembedding);
          EXPECT_EQ(network.dwt, block.dwt);
          EXPECT_EQ(network.dus, block.dus);
        }
      }
    }
  }
}

TEST(AttnResRunner, SublayersAreAskedForInOrder) {
  RunnerConfig config = config_of(3, 2, DType::kF32);
  config.gradient = true;
  for (const Recompute recompute : {Recompute::kNone, Recompute::kKeepO1, Recompute::kBlock}) {
    config.recompute = recompute;
    Network network(config, devices().front());
    network.run();
    EXPECT_EQ(network.calls, recompute == Recompute::kNone
                                 ? std::vector<int>({-3, -2, -1})
                                 : std::vector<int>({2, -3, 0, 1, -2, -1}));
  }
}

TEST(AttnResRunner, UpdatesMayBeAddedBeforeReads) {
  const DeviceInfo device = devices().front();  // where both go through the same arithmetic
  for (const Schedule schedule : {Schedule::kAuto, Schedule::kOneShot, Schedule::kTwoPhase}) {
    RunnerConfig config = config_of(9, 4, DType::kBF16);
    config.schedule = schedule;
    Network fused(config, device);
    fused.run();
    config.fused_updates = false;
    Network apart(config, device);
    apart.run();
    EXPECT_EQ(fused.out, apart.out);
  }
}

TEST(AttnResRunner, NoSublayersLeaveTheEmbedding) {
  RunnerConfig config = config_of(0, 4, DType::kBF16);
  config.gradient = true;
  Network network(config, devices().front());
  network.run();
  const auto rounded = [](std::vector<double> values) {
    for (double& x : values) x = bf16_to_float(float_to_bf16(static_cast<float>(x)));
    return values;
  };
  EXPECT_EQ(network.out, rounded(network.embedding));
  EXPECT_EQ(network.dembedding, rounded(network.dout));
  for (const double x : network.dwt) EXPECT_EQ(x, 0);
}

/// The formulas at the headline, whose areas are whole multiples of the alignment.
void expect_formulas(const DeviceInfo& device) {
  RunnerConfig config;
  config.network.B = 4;
  config.network.T = 16 * 1024;
  const std::size_t P = config.plane_bytes();
  const std::size_t Z = config.scalar_bytes();
  ASSERT_EQ(P % 256 + Z % 256, 0U);
  const auto expect = [&](std::size_t workspace, std::size_t saved) {
    const std::size_t scratch = attnres::ReadCalls::scratch_bytes(config, device);
    EXPECT_EQ(BlockRunner::workspace_bytes(config, device), workspace + scratch);
    EXPECT_EQ(BlockRunner::saved_bytes(config), saved);
    EXPECT_LT(scratch, P / 2);
    // No [S, B, T, D] of fp32, which is 2 S planes of 16 bits.
    EXPECT_LT(workspace + scratch, 16 * P);
  };
  expect(8 * (P + Z), 0);
  config.few_sources = 4;
  expect(attnres::ReadCalls::mix_adds(config, device, 3) ? 0 : 8 * (P + Z), 0);
  config.few_sources = 0;
  expect(8 * (P + Z), 0);
  config.few_sources = 2;
  config.gradient = true;
  expect(8 * (P + Z) + 8 * Z + 6 * P, 0);
  config.recompute = Recompute::kKeepO1;
  expect(8 * Z + 6 * P, 3 * 8 * (P + Z));
  config.recompute = Recompute::kNone;
  expect(8 * Z, 3 * 8 * (P + Z) + 4 * 7 * P);
  config.schedule = Schedule::kOneShot;
  expect(0, 4 * 7 * P);
  config.recompute = Recompute::kBlock;
  expect(6 * P, 0);
}

TEST(AttnResRunner, MemoryIsThatOfTheReadme) {
  expect_formulas(find_machine(/*want_gpu=*/false).cpu);
  if (BlockRunner::supports({}, kH200)) expect_formulas(kH200);  // else a build without CUDA
}

/// The id of the backend that a call with this width and type goes to.
template <class Op>
std::string_view chosen(std::int64_t D, DType dtype, const DeviceInfo& device) {
  typename Op::Problem p;
  p.D = D;
  p.dtype = dtype;
  const auto* backend = attnres::choose_backend<Op>(p, device);
  return backend ? backend->info.id : std::string_view("none");
}

TEST(AttnResRunner, ReadsGoToTheFirstBackendThatTakesThem) {
  const auto choice = [](std::int64_t D, DType dtype, const DeviceInfo& device) {
    return chosen<AttnResPhase1>(D, dtype, device);
  };
  const DeviceInfo cpu = find_machine(/*want_gpu=*/false).cpu;
  EXPECT_EQ(choice(2048, DType::kBF16, cpu), "cpu_fused");
#if ATTN_WITH_SM90
  EXPECT_EQ(choice(1024, DType::kBF16, kH200), "fused_simt") << "the faster one";
  EXPECT_EQ(choice(2048, DType::kBF16, kH200), "bulk_sm90");
  AttnResPhase1::Problem last;
  last.D = 2048;
  last.S = 1;
  EXPECT_EQ(attnres::choose_backend<AttnResPhase1>(last, kH200)->info.id, "fused_simt");
  EXPECT_EQ(choice(2304, DType::kBF16, kH200), "bulk_sm90");
  EXPECT_EQ(choice(2304, DType::kF32, kH200), "fused_simt") << "bulk_sm90 takes 16 bits alone";
  EXPECT_EQ(chosen<AttnResPhase1Bwd>(2048, DType::kBF16, kH200), "bulk_sm90");
  EXPECT_EQ(choice(33, DType::kBF16, kH200), "fused_simt");
  EXPECT_EQ(chosen<AttnResMix>(2048, DType::kBF16, kH200), "fused_simt");
  EXPECT_EQ(chosen<AttnResMix>(7168, DType::kBF16, kH200), "cluster_sm90") << "too wide for a CTA";
  EXPECT_EQ(chosen<AttnResMix>(7161, DType::kBF16, kH200), "fused_simt");
#endif
  DeviceInfo no_memory_of_ours = cpu;
  no_memory_of_ours.space = MemorySpace::kAny;
  EXPECT_EQ(choice(2048, DType::kBF16, no_memory_of_ours), "none");
  EXPECT_EQ(BlockRunner::supports({}, no_memory_of_ours).reason,
            "no backend of this build takes attnres_mix here");
}

TEST(AttnResRunner, MixesOfADeviceAddTheUpdateThemselves) {
  if (!BlockRunner::supports({}, kH200)) GTEST_SKIP() << "no CUDA in this build";
  for (const std::int64_t N : {2, 3, 9, 64})
    EXPECT_TRUE(attnres::ReadCalls::mix_adds({}, kH200, N));
}

/// The sentence with which a runner refuses.
std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(AttnResRunner, RefusalsNameTheCondition) {
  const DeviceInfo device = find_machine(/*want_gpu=*/false).cpu;
  RunnerConfig config = config_of(4, 2, DType::kF32);
  std::vector<std::byte> work(BlockRunner::workspace_bytes(config, device) +
                              (std::size_t{1} << 20));
  RunnerMemory memory{.workspace = {work.data(), work.size()}};
  const auto make = [&] { return BlockRunner(config, device, memory, {}, [](const Launch&) {}); };
  EXPECT_EQ(refusal([&] { make(); }), "");
  EXPECT_EQ(refusal([&] { make().backward(); }), "a backward needs a config with gradient = true");
  memory.workspace.bytes = 16;
  EXPECT_EQ(refusal([&] { make(); }), "the workspace is smaller than workspace_bytes");
  memory.workspace.bytes = work.size();
  config.gradient = true;
  config.recompute = Recompute::kNone;
  EXPECT_EQ(refusal([&] { make(); }), "what is kept for the backward needs saved_bytes of memory");
  config.network.S = 0;
  EXPECT_EQ(refusal([&] { make(); }), "S must be between 1 and 64");
}

}  // namespace
}  // namespace attn
