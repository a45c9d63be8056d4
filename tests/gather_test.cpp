// The stop rule: minimum, precision, budget, fresh processes and blocks that flip the starting arm.
#include "harness/gather.h"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "tests/fake_timer.h"

namespace attn {
namespace {

struct Log {
  std::string firsts;  ///< starting arms, processes parted by blanks
  int opened = 0;
  int closed = 0;
};

OpenProcess processes(const Noise& noise, double ratio, Log& log) {
  return [noise, ratio, &log] {
    EXPECT_EQ(log.opened, log.closed) << "one process at a time";
    if (log.opened > 0) log.firsts += ' ';
    BlockProcess process = process_of(
        std::make_shared<FakeTimer>(noise, ratio, static_cast<std::uint64_t>(log.opened++), 160));
    process.next = [&log, next = process.next](Arm first) {
      log.firsts += name_of(first);
      return next(first);
    };
    process.close = [&log] { ++log.closed; };
    return process;
  };
}

bool never(bool) { return false; }

TEST(Gather, AQuietMachineNeedsTheMinimumOnly) {
  Log log;
  const Gathered claim = gather(kClaim, processes({.white = 0.001}, 1, log), never);
  EXPECT_TRUE(claim.precise);
  EXPECT_EQ(log.firsts, "ABABABAB BABABABA ABABABAB BABABABA ABABABAB");
  EXPECT_EQ(log.closed, 5);
  for (const ProcessBlocks& blocks : claim.processes) EXPECT_EQ(blocks.size(), 8u);

  Log one;
  const Gathered provisional = gather(kProvisional, processes({.white = 0.001}, 1, one), never);
  EXPECT_EQ(one.opened, 1);
  ASSERT_EQ(provisional.processes.size(), 1u);
  EXPECT_EQ(provisional.processes[0].size(), 12u);
}

TEST(Gather, ANoisyMachineGoesOnUntilItIsPrecise) {
  Log log;
  const Gathered claim = gather(kClaim, processes({.processes = 0.005}, 1, log), never);
  EXPECT_TRUE(claim.precise);
  EXPECT_GT(claim.processes.size(), 5u);
  const Decision decision = decide(claim.processes, kClaim, kClaim.delta);
  EXPECT_LE(decision.time.half_width, std::log1p(kPreciseHalfWidth));

  Log one;
  const Gathered provisional = gather(kProvisional, processes({.white = 0.03}, 1, one), never);
  EXPECT_TRUE(provisional.precise);
  EXPECT_EQ(one.opened, 1);
  EXPECT_GT(provisional.processes[0].size(), 12u);
}

TEST(Gather, TheSizeOfTheDifferenceDoesNotStopIt) {
  const Noise noise{.processes = 0.005};
  Log equal;
  Log different;
  gather(kClaim, processes(noise, 1, equal), never);
  gather(kClaim, processes(noise, 1.5, different), never);
  EXPECT_EQ(equal.opened, different.opened);
}

TEST(Gather, TheBudgetEndsItAnywhereAndClosesTheProcess) {
  for (int patience = 0; patience < 60; patience += 7) {
    Log log;
    int left = patience;
    const Gathered cut =
        gather(kClaim, processes({.processes = 0.05}, 1, log), [&](bool) { return --left < 0; });
    EXPECT_FALSE(cut.precise);
    EXPECT_EQ(log.opened, log.closed);
    if (patience < 45)
      EXPECT_EQ(decide(cut.processes, kClaim, kClaim.delta).verdict, Verdict::kUndecided);
  }
}

TEST(Gather, AProcessBeyondTheMinimumIsFinished) {
  for (int patience = 0; patience < 100; patience += 3) {
    Log log;
    int left = patience;
    const Gathered cut =
        gather(kClaim, processes({.processes = 0.05}, 1, log), [&](bool) { return --left < 0; });
    for (std::size_t i = 0; i < cut.processes.size(); ++i) {
      EXPECT_EQ(cut.processes[i].size() % 2, 0u) << "blocks come in pairs";
      if (i >= kClaim.processes) EXPECT_EQ(cut.processes[i].size(), kClaim.blocks);
    }
  }
}

TEST(Gather, WhoeverAsksForTheTimeKnowsWhetherTheMinimumIsThere) {
  Log log;
  const Gathered cut =
      gather(kClaim, processes({.processes = 0.05}, 1, log), [](bool enough) { return enough; });
  EXPECT_FALSE(cut.precise);
  EXPECT_EQ(cut.processes.size(), kClaim.processes) << "all of the minimum, and no more";
  EXPECT_TRUE(enough(cut.processes, kClaim));
}

TEST(Gather, ABriefProcessTakesMoreBlocks) {
  Log log;
  const OpenProcess open = processes({.white = 0.001}, 1, log);
  int asked = 0;
  const OpenProcess brief = [&] {
    BlockProcess process = open();
    process.brief = [&] { return ++asked > 0; };
    return process;
  };
  const Gathered claim = gather(kClaim, brief, never);
  ASSERT_EQ(claim.processes.size(), kClaim.processes);
  for (const ProcessBlocks& blocks : claim.processes)
    EXPECT_EQ(blocks.size(), kBriefBlocks * kClaim.blocks);
  EXPECT_GT(asked, 0);
}

TEST(Gather, AMachineThatNeverBecomesPreciseIsGivenUp) {
  for (const Level& level : {kProvisional, kClaim}) {
    Log log;
    const Gathered given_up = gather(level, processes({.white = 9}, 1, log), never);
    EXPECT_FALSE(given_up.precise);
    std::size_t blocks = 0;
    for (const ProcessBlocks& process : given_up.processes) blocks += process.size();
    EXPECT_EQ(blocks, kMostBlocks);
  }
}

TEST(Gather, AProcessThatStartedTooLateIsNoProcess) {
  Log log;
  int calls = 0;  // of the clock: the second is after the first process has started
  const Gathered late = gather(kClaim, processes({}, 1, log), [&](bool) { return ++calls > 1; });
  EXPECT_EQ(log.closed, 1);
  EXPECT_TRUE(late.processes.empty());
}

TEST(Gather, AFailingProcessIsAnErrorNotAMeasurement) {
  const OpenProcess failing = [] {
    return BlockProcess{.next = [](Arm) -> Block { throw std::runtime_error("bang"); },
                        .close = [] {}};
  };
  EXPECT_THROW(gather(kClaim, failing, never), std::runtime_error);
}

}  // namespace
}  // namespace attn
