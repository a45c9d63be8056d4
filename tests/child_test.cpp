// Processes that answer, hang, die and never start.
#include "harness/child.h"

#include <gtest/gtest.h>

#include <chrono>

namespace attn {
namespace {

constexpr double kPatience = 20;  // seconds, on a machine that is busy

Child shell(const std::string& script) { return Child("/bin/sh", {"-c", script}); }

void expect_failure(Child& child, double timeout_s, Status status, const std::string& reason) {
  try {
    child.receive(timeout_s);
    FAIL() << "an answer came";
  } catch (const ProcessFailure& failure) {
    EXPECT_EQ(name_of(failure.status()), name_of(status));
    EXPECT_NE(std::string(failure.what()).find(reason), std::string::npos) << failure.what();
  }
}

TEST(Child, AnswersLineByLine) {
  Child child = shell("while read line; do echo \"<$line>\"; echo more; done");
  for (const std::string word : {"one", "two words"}) {
    child.send(word);
    EXPECT_EQ(child.receive(kPatience), "<" + word + ">");
    EXPECT_EQ(child.receive(kPatience), "more");
  }
}

TEST(Child, ALongLineArrivesWhole) {
  Child child = shell("head -c 300000 /dev/zero | tr '\\0' x; echo");
  EXPECT_EQ(child.receive(kPatience), std::string(300000, 'x'));
}

TEST(Child, OneThatHangsIsATimeoutAndIsKilled) {
  const auto start = std::chrono::steady_clock::now();
  {
    Child child = shell("echo early; exec sleep 1000");
    EXPECT_EQ(child.receive(kPatience), "early");
    expect_failure(child, 0.1, Status::kTimeout, "no answer in");
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(100));
}

TEST(Child, OneThatDiesIsACrashWithItsReason) {
  Child exits = shell("echo last; exit 7");
  EXPECT_EQ(exits.receive(kPatience), "last");
  expect_failure(exits, kPatience, Status::kCrash, "exit code 7");
  Child aborts = shell("kill -ABRT $$");
  expect_failure(aborts, kPatience, Status::kCrash, "signal 6");
}

TEST(Child, SendingToADeadOneIsHarmless) {
  Child child = shell("exit 0");
  expect_failure(child, kPatience, Status::kCrash, "exit code 0");
  child.send("hello");
}

TEST(Child, OneThatCannotStartSaysSo) {
  EXPECT_THROW(Child("/no/such/program", {}), ProcessFailure);
}

}  // namespace
}  // namespace attn
