// The other end of a comparison's workers, against scripts that answer, fail, lie and die.
#include "harness/arms.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "harness/block_json.h"
#include "harness/operators.h"

namespace attn {
namespace {

namespace fs = std::filesystem;

class ArmsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "attnbench_arms_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    Selection selection;
    selection.op = operators().front()->name();
    selection.axes = {{"M", "8"}, {"N", "8"}};
    selection.backends = "cpu_reference";
    const PlanItem item = make_plan(selection).front();
    arms_ = std::make_unique<Arms>(Arms{item, item});
  }
  void TearDown() override { fs::remove_all(directory_); }

  /// Measures with a worker that is this shell script, once it has started and was told to begin.
  /// `$block` is a block of equal samples, `rows STATUS_A STATUS_B` prints the last message.
  ArmsMeasured measure(const std::string& script, const Level& level = kProvisional) const {
    Block block;
    for (Group& group : block.groups) group = {.ns = std::vector<double>(5, 1000), .mhz = 1980};
    const std::string path = directory_ + "/worker";
    std::ofstream(path)
        << "#!/bin/sh\necho >>" << directory_ << "/starts\necho '{\"started\":true}'\n"
        << "read -r begin || exit 0\necho \"$begin\" >>" << directory_ << "/begins\nblock='"
        << to_json(block).dump() << "'\narms=" << directory_ << "/arms\n"
        << R"sh(row() { printf '{"backend":"%s","status":"%s","reason":"why"}' $1 $2; }
rows() {
  printf '{"a":%s,"b":%s,"flags":["%s"],"known":{"a":{"hash":7}}}\n' "$(row a $1)" "$(row b $2)" \
    "${flag:-ungated}"
}
)sh" << script
        << '\n';
    fs::permissions(path, fs::perms::owner_all);
    ArmOptions options;
    options.self.program = path;
    options.timeout_s = 20;
    return measure_arms(*arms_, find_machine(false), options, level, [](bool) { return false; });
  }
  void expect(const std::string& script, Status status, const std::string& reason) const {
    const ArmsMeasured measured = measure(script);
    EXPECT_EQ(name_of(measured.status), name_of(status)) << script;
    EXPECT_NE(measured.reason.value_or("").find(reason), std::string::npos)
        << measured.reason.value_or("");
    EXPECT_TRUE(measured.gathered.processes.empty()) << "nothing of it is a measurement";
  }

  std::vector<Json> begins() const {
    std::ifstream file(directory_ + "/begins");
    std::vector<Json> all;
    for (std::string line; std::getline(file, line);) all.push_back(Json::parse(line));
    return all;
  }

  static constexpr const char* kHonest =
      "echo '{\"ready\":true}'\n"
      "while read word arm && [ $word = block ]; do echo $arm >>$arms; echo \"$block\"; done\n";

  std::string directory_;
  std::unique_ptr<Arms> arms_;
};

TEST_F(ArmsTest, AnHonestWorkerGivesBlocksRowsAndFlags) {
  const ArmsMeasured measured = measure(std::string(kHonest) + "rows OK OK");
  EXPECT_EQ(measured.status, Status::kOk) << measured.reason.value_or("");
  ASSERT_EQ(measured.gathered.processes.size(), 1u);
  EXPECT_EQ(measured.gathered.processes[0].size(), kProvisional.blocks);
  ASSERT_EQ(measured.rows.size(), 2u);
  EXPECT_EQ(measured.rows[1]["backend"], "b");
  EXPECT_EQ(measured.flags, std::set<std::string>{"ungated"});
}

TEST_F(ArmsTest, AClaimStartsFreshWorkersAndFlipsTheArm) {
  const ArmsMeasured measured = measure(std::string(kHonest) + "rows OK OK", kClaim);
  EXPECT_EQ(measured.gathered.processes.size(), kClaim.processes);
  std::ifstream asked(directory_ + "/arms");
  std::string process;
  for (std::size_t i = 0; i < kClaim.processes; ++i) {
    process.clear();
    for (std::size_t block = 0; block < measured.gathered.processes[i].size(); ++block) {
      std::string arm;
      asked >> arm;
      process += arm;
    }
    EXPECT_EQ(process.substr(0, kClaim.blocks), i % 2 == 0 ? "ABABABAB" : "BABABABA");
  }
}

TEST_F(ArmsTest, AClaimsWorkersStartTogetherAndBeginOneByOne) {
  // A worker that has begun finds all five started; one that ends leaves a mark before the next.
  const ArmsMeasured measured = measure("wc -l <" + directory_ + "/starts >>" + directory_ +
                                            "/seen\n" + std::string(kHonest) + "rows OK OK",
                                        kClaim);
  EXPECT_EQ(measured.status, Status::kOk) << measured.reason.value_or("");
  std::ifstream seen(directory_ + "/seen");
  int workers = 0;
  for (std::size_t started = 0; seen >> started; ++workers) EXPECT_EQ(started, kClaim.processes);
  EXPECT_EQ(workers, 5);
}

TEST_F(ArmsTest, WhatOneWorkerFoundTheNextIsTold) {
  measure("flag=clock_unsteady\n" + std::string(kHonest) + "rows OK OK", kClaim);
  const std::vector<Json> told = begins();
  ASSERT_EQ(told.size(), kClaim.processes);
  EXPECT_TRUE(told[0]["known"].empty());
  EXPECT_TRUE(told[0]["settles"]);
  for (std::size_t i = 1; i < told.size(); ++i) {
    EXPECT_EQ(told[i]["known"]["a"]["hash"], 7);
    EXPECT_FALSE(told[i]["settles"]) << "3 s were enough for all of them";
  }
}

TEST_F(ArmsTest, AWorkerThatDoesNotStartIsACrash) {
  const std::string path = directory_ + "/mute";
  std::ofstream(path) << "#!/bin/sh\necho '{}'\n";
  fs::permissions(path, fs::perms::owner_all);
  ArmOptions options;
  options.self.program = path;
  options.timeout_s = 20;
  const ArmsMeasured measured =
      measure_arms(*arms_, find_machine(false), options, kClaim, [](bool) { return false; });
  EXPECT_EQ(measured.status, Status::kCrash);
  EXPECT_EQ(measured.reason, "its first words are no start");
}

TEST_F(ArmsTest, AnUncheckedArmIsSaidSo) {
  EXPECT_EQ(measure(std::string(kHonest) + "rows OK UNCHECKED").status, Status::kUnchecked);
}

TEST_F(ArmsTest, AnArmThatDoesNotPassIsNamed) {
  expect("rows OK INCORRECT", Status::kIncorrect, "b: why");
  expect("rows UNSUPPORTED INCORRECT", Status::kIncorrect, "b: why");
  expect("rows NOT_BUILT OK", Status::kNotBuilt, "a: why");
}

TEST_F(ArmsTest, AWrongOutputAfterTheLastSampleSpoilsTheBlocks) {
  expect(std::string(kHonest) + "rows INCORRECT OK", Status::kIncorrect, "a: why");
}

TEST_F(ArmsTest, ACrashOfOneArmIsNotBlamedOnTheOther) {
  expect("rows CRASH CRASH | sed 's/why/the other arm failed/'", Status::kCrash, "b: why");
}

TEST_F(ArmsTest, AWorkerThatDiesIsACrash) {
  expect("kill -SEGV $$", Status::kCrash, "signal 11");
  expect("echo '{\"ready\":true}'; read word; echo \"$block\"; read word; exit 3", Status::kCrash,
         "exit code 3");
}

TEST_F(ArmsTest, AWorkerThatTalksNonsenseIsACrash) {
  expect("echo hello", Status::kCrash, "cannot be read");
  expect("echo '{\"a\":1}'", Status::kCrash, "");
  expect("echo '{\"ready\":true}'; read word; echo '{\"ns\":[1]}'; read word", Status::kCrash, "");
}

}  // namespace
}  // namespace attn
