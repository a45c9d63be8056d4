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
#include <vector>

#include "harness/environment.h"
#include "impls/attnres/block_runner.h"
#include "impls/attnres/plane_ops.h"
#include "reference/attnres/read.h"

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

/// Values of a type, as a buffer's bytes.
std::vector<std::byte> stored(const std::vector<double>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype) + 4);
  for (std::size_t i = 0; i < values.size(); ++i)
    store_element(bytes.data(), dtype, static_cast<std::int64_t>(i), static_cast<float>(values[i]));
  return bytes;
}

std::vector<double> normals(std::size_t count, unsigned seed, double scale) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(count);
  for (double& x : values) x = static_cast<float>(scale * normal(engine));
  return values;
}

/// A network on the host whose sublayers double what they read: u = 2 h, dh = 2 du, by additions alone.
class HostNetwork {
 public:
  explicit HostNetwork(const RunnerConfig& config)
      : config_(config),
        plane_(static_cast<std::size_t>(config.plane_elements())),
        embedding(normals(plane_, 1, 1)),
        dout(normals(plane_, 2, 1)),
        wt(normals(queries() * static_cast<std::size_t>(config.network.D), 3, 0.3)) {}

  /// Runs forward and backward; memory is filled with NaN before.
  void run() {
    const NetworkProblem& p = config_.network;
    const auto blocks = static_cast<std::size_t>(p.blocks());
    const auto bytes = [this](std::size_t count) { return count * config_.plane_bytes() + 4; };
    const auto nans = [](std::size_t size) {
      return std::vector<std::byte>(size, std::byte{0xFF});
    };
    auto embedding_bytes = stored(embedding, p.dtype);
    auto dout_bytes = stored(dout, p.dtype);
    auto wt_bytes = stored(wt, p.query_type());
    auto block_bytes = nans(bytes(blocks));
    auto out_bytes = nans(bytes(1));
    auto gradient_bytes = nans(bytes(1 + blocks));
    std::vector<float> dwt(queries() * static_cast<std::size_t>(p.D), NAN);
    auto saved = nans(BlockRunner::saved_bytes(config_) + 4);
    auto work = nans(BlockRunner::workspace_bytes(config_, device_));
    RunnerMemory memory{.embedding = embedding_bytes.data(),
                        .wt = wt_bytes.data(),
                        .blocks = block_bytes.data(),
                        .out = out_bytes.data(),
                        .dout = dout_bytes.data(),
                        .dblocks = gradient_bytes.data(),
                        .dwt = dwt.data(),
                        .saved = saved.data(),
                        .workspace = {work.data(), work.size()}};
    BlockRunner runner(config_, device_, memory, sublayers(),
                       [](const Launch& launch) { launch.enqueue({}); });
    runner.forward();
    calls.clear();
    std::fill(work.begin(), work.end(), std::byte{0xFF});  // nothing stays in it
    if (config_.gradient) runner.backward();
    out = values(out_bytes, p.dtype, plane_);
    gradients = values(gradient_bytes, p.dtype, plane_);
    this->dwt.assign(dwt.begin(), dwt.end());
  }

  std::size_t queries() const { return static_cast<std::size_t>(config_.network.L + 1); }

 private:
  attnres::Sublayers sublayers() {
    const auto twice = [this](std::vector<std::byte>& to, const void* from) -> const void* {
      to.resize(config_.plane_bytes() + 4);
      attnres::add_planes(to.data(), from, from, config_.network.dtype, config_.plane_elements(),
                          device_)
          .enqueue({});
      return to.data();
    };
    return {.place = [this](std::int64_t i) -> void* {
              h_[i].assign(config_.plane_bytes() + 4, std::byte{0xFF});
              return h_[i].data();
            },
            .forward =
                [this, twice](std::int64_t i, const void* h) {
                  calls.push_back(static_cast<int>(i));
                  return twice(u_[i], h);
                },
            .backward =
                [this, twice](std::int64_t i, const void* du) {
                  calls.push_back(-1 - static_cast<int>(i));
                  dus[i].resize(plane_);
                  for (std::size_t d = 0; d < plane_; ++d)
                    dus[i][d] =
                        load_element(du, config_.network.dtype, static_cast<std::int64_t>(d));
                  return twice(dh_[i], du);
                }};
  }
  static std::vector<double> values(const std::vector<std::byte>& bytes,
                                    DType dtype,
                                    std::size_t n) {
    std::vector<double> list;
    for (std::size_t i = 0; i < n; ++i)
      list.push_back(load_element(bytes.data(), dtype, static_cast<std::int64_t>(i)));
    return list;
  }

  RunnerConfig config_;
  DeviceInfo device_ = find_machine(/*want_gpu=*/false).cpu;
  std::size_t plane_;
  std::map<std::int64_t, std::vector<std::byte>> h_, u_, dh_;

 public:
  std::vector<double> embedding, dout, wt;
  std::vector<double> out, gradients, dwt;          // gradients: of the embedding
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

constexpr Schedule kSchedules[] = {Schedule::kAuto, Schedule::kOneShot, Schedule::kTwoPhase};

TEST(AttnResRunner, GradientsOfAWholeNetworkMatchCentralDifferences) {
  constexpr double kStep = 0x1p-12;
  for (const Schedule schedule : kSchedules) {
    for (const std::int64_t S : {1, 3, 8}) {
      SCOPED_TRACE(testing::Message() << "schedule " << static_cast<int>(schedule) << " S " << S);
      RunnerConfig config = config_of(7, S, DType::kF32);
      config.schedule = schedule;
      config.gradient = true;
      HostNetwork network(config);
      network.run();
      const NetworkProblem& p = config.network;
      double largest = 0;
      for (const double x : network.gradients) largest = std::max(largest, std::abs(x));
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
        near(network.gradients[i], slope(network.embedding, i), "embedding");
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
    for (const Schedule schedule : kSchedules) {
      for (const std::int64_t S : {1, 2, 4, 16}) {
        SCOPED_TRACE(testing::Message() << "schedule " << static_cast<int>(schedule) << " S " << S);
        RunnerConfig config = config_of(10, S, dtype);
        config.schedule = schedule;
        config.gradient = true;
        HostNetwork block(config);
        block.run();
        for (const Recompute recompute : {Recompute::kNone, Recompute::kKeepO1}) {
          config.recompute = recompute;
          HostNetwork network(config);
          network.run();
          EXPECT_EQ(network.out, block.out);
          EXPECT_EQ(network.gradients, block.gradients);
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
    HostNetwork network(config);
    network.run();
    EXPECT_EQ(network.calls, recompute == Recompute::kNone
                                 ? std::vector<int>({-3, -2, -1})
                                 : std::vector<int>({2, -3, 0, 1, -2, -1}));
  }
}

TEST(AttnResRunner, UpdatesMayBeAddedBeforeReads) {
  for (const Schedule schedule : kSchedules) {
    RunnerConfig config = config_of(9, 4, DType::kBF16);
    config.schedule = schedule;
    HostNetwork fused(config);
    fused.run();
    config.fused_updates = false;
    HostNetwork apart(config);
    apart.run();
    EXPECT_EQ(fused.out, apart.out);
  }
}

TEST(AttnResRunner, NoSublayersLeaveTheEmbedding) {
  RunnerConfig config = config_of(0, 4, DType::kBF16);
  config.gradient = true;
  HostNetwork network(config);
  network.run();
  const auto rounded = [](std::vector<double> values) {
    for (double& x : values) x = bf16_to_float(float_to_bf16(static_cast<float>(x)));
    return values;
  };
  EXPECT_EQ(network.out, rounded(network.embedding));
  EXPECT_EQ(network.gradients, rounded(network.dout));
  for (const double x : network.dwt) EXPECT_EQ(x, 0);
}

TEST(AttnResRunner, MemoryIsThatOfTheReadme) {
  const DeviceInfo device = find_machine(/*want_gpu=*/false).cpu;
  RunnerConfig config;  // the headline
  config.network.B = 4;
  config.network.T = 16 * 1024;
  const std::size_t P = config.plane_bytes();
  const std::size_t Z = config.scalar_bytes();
  ASSERT_EQ(P % 256 + Z % 256, 0U);
  const std::int64_t S = config.network.S;
  const auto expect = [&](std::size_t workspace, std::size_t saved) {
    EXPECT_EQ(BlockRunner::workspace_bytes(config, device),
              workspace + attnres::ReadCalls::scratch_bytes(config, device));
    EXPECT_EQ(BlockRunner::saved_bytes(config), saved);
    EXPECT_LT(attnres::ReadCalls::scratch_bytes(config, device), P / 2);
    // No [S, B, T, D] of fp32, which is 2 S planes of 16 bits.
    EXPECT_LT(BlockRunner::workspace_bytes(config, device), 2 * static_cast<std::size_t>(S) * P);
  };
  expect(8 * (P + Z), 0);
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
