// Workers against backends that hang, die, hoard and lie: each gets its status, and the next cell runs.
#include <gtest/gtest.h>

#include <chrono>

#include "harness/cell_worker.h"
#include "tests/broken_backends.h"

namespace attn {
namespace {

constexpr double kPatience = 120;  // seconds, on a machine that is busy

class Workers : public testing::Test {
 protected:
  explicit Workers(bool want_gpu) : machine_(find_machine(want_gpu)) {}

  void expect(const std::string& backend,
              Status status,
              const std::string& reason,
              double timeout_s = kPatience) {
    const Json row = workers_.run(toy_item(backend), timeout_s);
    EXPECT_EQ(row["status"], name_of(status)) << backend << ": " << row["reason"];
    if (!reason.empty())
      EXPECT_NE(row["reason"].get<std::string>().find(reason), std::string::npos) << row["reason"];
    EXPECT_EQ(row["backend"], backend);
    EXPECT_FALSE(row["repro"].get<std::string>().empty());
  }

  Machine machine_;
  CellWorkers workers_{
      machine_, {}, {.arguments = {std::string(kServeToyPlan), machine_.gpu ? "cuda" : "cpu"}}};
};

class Isolation : public Workers {
 protected:
  Isolation() : Workers(/*want_gpu=*/false) {}
  void expect_right() {
    expect("right", Status::kOk, "");
    expect("refuses", Status::kUnsupported, "D must not be 8");
  }
};

/// The same on a GPU, whose context an error destroys for the rest of a process.
class GpuIsolation : public Workers {
 protected:
  GpuIsolation() : Workers(/*want_gpu=*/true) {}
  void SetUp() override {
    if (!machine_.gpu) GTEST_SKIP() << "no GPU: " << machine_.why_no_gpu;
  }
  void expect_right() { expect("cuda_right", Status::kOk, ""); }
};

TEST_F(Isolation, AHangIsATimeoutAndTheSweepGoesOn) {
  const auto start = std::chrono::steady_clock::now();
  expect("hangs", Status::kTimeout, "no answer in 1 s", 1);
  expect_right();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(100));
}

TEST_F(Isolation, ADeathIsACrashWithItsSignalAndTheSweepGoesOn) {
  expect("aborts", Status::kCrash, "signal 6");
  expect_right();
  expect("segfaults", Status::kCrash, "signal 11");
  expect("exits", Status::kCrash, "exit code 0");
  expect("throws", Status::kCrash, "bang");
  expect_right();
}

TEST_F(Isolation, WritesOutOfBoundsAndStaleOutputsAreIncorrect) {
  expect("beyond", Status::kIncorrect, "wrote outside out");
  expect("before", Status::kIncorrect, "wrote outside out");
  expect("scratch", Status::kIncorrect, "wrote outside its workspace");
  expect("stale", Status::kIncorrect, "element 63");
  expect_right();
}

TEST_F(Isolation, WhatABackendPrintsIsNoAnswer) {
  expect("prints", Status::kOk, "");
  expect_right();
}

TEST_F(Isolation, MemoryThatALaunchTakesIsHidden) {
  constexpr double kMiB = 1 << 20;
  const Json leak = workers_.run(toy_item("leaks"), kPatience);
  EXPECT_EQ(leak["status"], "OK") << leak["reason"];
  const Json right = workers_.run(toy_item("right"), kPatience);
  if (right["mem"]["hidden"].is_null()) GTEST_SKIP() << "this system does not tell peak memory";
  EXPECT_NEAR(leak["mem"]["hidden"].get<double>() / kMiB, 32, 4);
  EXPECT_LT(right["mem"]["hidden"].get<double>() / kMiB, 4);
}

TEST_F(Isolation, ALaunchThatExhaustsTheMemoryIsOom) {
  expect("hoards", Status::kOom, "memory ran out");
  expect("right", Status::kOk, "");
  expect("greedy", Status::kOom, "GiB free");
  expect_right();
}

TEST_F(Isolation, CeilingsComeFromAWorkerAndReachTheNext) {
  const Ceilings ceilings = workers_.measure_ceilings(kPatience);
  EXPECT_GT(ceilings.copy_Bps, 0);
  expect("aborts", Status::kCrash, "signal 6");
  expect_right();
}

TEST_F(Isolation, AWorkerThatCannotServeIsSaidSo) {
  const auto complaint = [&](WorkerOptions options) -> std::string {
    try {
      CellWorkers(machine_, {}, std::move(options)).run(toy_item("right"), kPatience);
    } catch (const ProcessFailure& failure) {
      return failure.what();
    }
    return "";
  };
  EXPECT_NE(complaint({.program = "/no/such/program"}).find("cannot start"), std::string::npos);
  EXPECT_NE(complaint({.program = "/bin/false"}).find("exit code 1"), std::string::npos);
  const WorkerOptions elsewhere{.program = "/bin/sh",
                                .arguments = {"-c", "echo '{\"device\": \"other\"}'; read line"}};
  EXPECT_EQ(complaint(elsewhere), "a new process does not find " + machine_.cpu.name);
}

TEST_F(GpuIsolation, AHangIsATimeoutAndTheSweepGoesOn) {
  expect_right();
  expect("cuda_hangs", Status::kTimeout, "no answer in 5 s", 5);
  expect_right();
}

TEST_F(GpuIsolation, AStickyErrorIsACrashAndTheSweepGoesOn) {
  expect("cuda_trap", Status::kCrash, "cuda");
  expect_right();
  expect("cuda_far_write", Status::kCrash, "illegal memory access");
  expect_right();
}

TEST_F(GpuIsolation, AnAbortIsACrashAndTheSweepGoesOn) {
  expect("cuda_aborts", Status::kCrash, "signal 6");
  expect_right();
}

TEST_F(GpuIsolation, WritesOutOfBoundsAndStaleOutputsAreIncorrect) {
  expect("cuda_beyond", Status::kIncorrect, "wrote outside out");
  expect("cuda_stale", Status::kIncorrect, "element 63");
  expect_right();
}

TEST_F(GpuIsolation, MemoryThatALaunchTakesIsHidden) {
  const Json leak = workers_.run(toy_item("cuda_leaks"), kPatience);
  EXPECT_EQ(leak["status"], "OK") << leak["reason"];
  EXPECT_GE(leak["mem"]["hidden"].get<double>(), 64 << 20);
  expect_right();
}

TEST_F(GpuIsolation, ALaunchThatExhaustsTheMemoryIsOom) {
  expect("cuda_hoards", Status::kOom, "memory ran out");
  expect_right();
}

}  // namespace
}  // namespace attn
