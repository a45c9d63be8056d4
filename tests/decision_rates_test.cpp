// How often the decision is wrong: the real blocks, stop rule and verdict, driven by a fake timer,
// beside the rules of other tools on as many samples of the same noise.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "tests/fake_timer.h"
#include "tests/other_rules.h"

namespace attn {
namespace {

constexpr int kSessions = 500;
constexpr double kFalseCalls = 0.01;  // at most, at equal speed
constexpr double kPower = 0.99;       // at least, at a change of 1 %

struct Scene {
  std::string name;
  Noise noise;
};

const std::array<Scene, 9> kScenes = {{
    {"white 1 %", {}},
    {"AR(1) 0.9", {.correlated = 0.01, .memory = 0.9}},
    {"AR(1) 0.99", {.correlated = 0.02, .memory = 0.99}},
    {"outliers 5 %", {.outliers = 0.05}},
    {"ramp 10 %", {.ramp = 0.1}},
    {"step 3 %", {.step = 0.03}},
    {"place 1 %", {.place = 0.01}},
    {"processes 0.1 %", {.processes = 0.001}},
    {"processes 0.7 %", {.processes = 0.007}},
}};

/// One session at a level; a process is expected to take as many samples as the minimum.
Verdict session(const Level& level, const Noise& noise, double ratio, std::uint64_t seed) {
  const int samples = static_cast<int>(level.blocks) * 4 * kGroupSamples;
  std::uint64_t process = 0;
  const OpenProcess open = [&] {
    return process_of(std::make_shared<FakeTimer>(noise, ratio, 1000 * seed + process++, samples));
  };
  int patience = 400;  // calls of the clock
  const Gathered gathered = gather(level, open, [&](bool) { return --patience < 0; });
  return decide(gathered.processes, level, level.delta).verdict;
}

/// Share of sessions with a verdict of FASTER or SLOWER.
double calls(const Level& level, const Noise& noise, double ratio, int sessions = kSessions) {
  int called = 0;
  for (int i = 0; i < sessions; ++i) {
    const Verdict verdict = session(level, noise, ratio, static_cast<std::uint64_t>(i));
    called += verdict == Verdict::kFaster || verdict == Verdict::kSlower;
  }
  return called / static_cast<double>(sessions);
}

/// Share of sessions with exactly this verdict.
double share(const Level& level, const Noise& noise, double ratio, Verdict verdict) {
  int hits = 0;
  for (int i = 0; i < kSessions; ++i)
    hits += session(level, noise, ratio, static_cast<std::uint64_t>(i)) == verdict;
  return hits / static_cast<double>(kSessions);
}

/// Share of sequential runs, as many samples as a claim's, in which the rule sees a difference.
template <class Rule>
double sequential_calls(const Noise& noise, Rule&& sees_a_difference) {
  const int samples = static_cast<int>(kClaim.processes * kClaim.blocks) * 2 * kGroupSamples;
  int called = 0;
  for (int i = 0; i < kSessions; ++i) {
    FakeTimer timer(noise, 1, static_cast<std::uint64_t>(i), 2 * samples);
    std::vector<double> a;
    std::vector<double> b;
    for (int k = 0; k < samples; ++k) a.push_back(timer.sample_ns(Arm::kA));
    for (int k = 0; k < samples; ++k) b.push_back(timer.sample_ns(Arm::kB));
    called += sees_a_difference(a, b);
  }
  return called / static_cast<double>(kSessions);
}

TEST(DecisionRates, FalseCallsAtEqualSpeed) {
  fmt::print("calls at equal speed, percent of {} sessions\n{:16} {:>6} {:>12} {:>7} {:>9}\n",
             kSessions, "noise", "claim", "provisional", "U-test", "interval");
  for (const Scene& scene : kScenes) {
    const double claim = calls(kClaim, scene.noise, 1);
    const double provisional = calls(kProvisional, scene.noise, 1);
    const double u_test = sequential_calls(scene.noise, u_test_sees_a_difference);
    const double interval = sequential_calls(scene.noise, interval_sees_a_difference);
    fmt::print("{:16} {:6.1f} {:12.1f} {:7.1f} {:9.1f}\n", scene.name, 100 * claim,
               100 * provisional, 100 * u_test, 100 * interval);
    EXPECT_LE(claim, kFalseCalls) << scene.name;
    const bool processes_differ = scene.noise.processes > kClaim.delta;
    // One process cannot see what differs between processes: that is what claims are for.
    if (!processes_differ) EXPECT_LE(provisional, kFalseCalls) << scene.name;
    const bool drifts = scene.noise.memory > 0.5 || scene.noise.ramp > 0 || scene.noise.step > 0 ||
                        processes_differ;
    if (drifts) {
      EXPECT_GE(u_test, 0.5) << scene.name;
      EXPECT_GE(interval, 0.5) << scene.name;
    }
  }
}

TEST(DecisionRates, PowerAtOnePercent) {
  const Noise small_spread{.processes = 0.0005};
  const double slower = share(kClaim, small_spread, 1.01, Verdict::kSlower);
  const double faster = share(kClaim, small_spread, 1 / 1.01, Verdict::kFaster);
  fmt::print("claim, 1 % slower: {:.1f} % SLOWER; 1 % faster: {:.1f} % FASTER\n", 100 * slower,
             100 * faster);
  EXPECT_GE(slower, kPower);
  EXPECT_GE(faster, kPower);
  EXPECT_GE(share(kProvisional, {}, 1.02, Verdict::kSlower), kPower) << "2 % is enough for one";
}

TEST(DecisionRates, EqualArmsAreSameWhereProcessesAgree) {
  EXPECT_GE(share(kClaim, {.white = 0.003}, 1, Verdict::kSame), kPower);
  EXPECT_GE(share(kProvisional, {.white = 0.003}, 1, Verdict::kSame), kPower);
  const Noise place{.white = 0.003, .place = 0.01};
  EXPECT_GE(share(kClaim, place, 1, Verdict::kSame), kPower) << "a sample's place is no difference";
  EXPECT_GE(share(kProvisional, place, 1, Verdict::kSame), kPower);
}

TEST(DecisionRates, DriftDoesNotCostTheTruth) {
  for (const Noise& noise : {Noise{.ramp = 0.1}, Noise{.step = 0.03}, Noise{.outliers = 0.05}})
    EXPECT_GE(share(kClaim, noise, 1.02, Verdict::kSlower), kPower);
}

}  // namespace
}  // namespace attn
