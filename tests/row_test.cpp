// The rows file: what it refuses, what it forgives, what it never loses.
#include "harness/row.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include "harness/usage_error.h"

namespace attn {
namespace {

namespace fs = std::filesystem;

class RowFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "attnbench_rows_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override {
    fs::permissions(directory_, fs::perms::owner_all);
    fs::remove_all(directory_);
  }
  std::string path() const { return directory_ + "/rows.jsonl"; }
  void write(const std::string& text) const { std::ofstream(path()) << text; }
  std::string complaint() const {
    try {
      read_rows(path());
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  }
  static Json cell(int i) { return {{"type", "cell"}, {"key", std::to_string(i)}}; }

  std::string directory_;
};

TEST_F(RowFileTest, WhatIsAppendedIsRead) {
  RowFile file(directory_);
  for (int i = 0; i < 3; ++i) file.append(cell(i));
  const std::vector<Json> rows = read_rows(path());
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[2], cell(2));
}

TEST_F(RowFileTest, ATornLastLineIsIgnoredAndThenCutOff) {
  write(cell(0).dump() + "\n" + R"({"type":"cell","ke)");
  EXPECT_EQ(read_rows(path()).size(), 1u);
  { RowFile(directory_).append(cell(1)); }
  const std::vector<Json> rows = read_rows(path());
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1], cell(1));
}

TEST_F(RowFileTest, AFileThatIsOnlyATornLineBecomesEmpty) {
  write(R"({"type":"ru)");
  { RowFile(directory_).append(cell(1)); }
  EXPECT_EQ(read_rows(path()).size(), 1u);
}

TEST_F(RowFileTest, ABrokenMiddleLineIsAnErrorThatNamesIt) {
  write(cell(0).dump() + "\nnonsense\n" + cell(1).dump() + "\n");
  EXPECT_EQ(complaint(), path() + ":2 is no row");
  EXPECT_THROW(RowFile{directory_}, UsageError);
  EXPECT_EQ(fs::file_size(path()), 2 * cell(0).dump().size() + 11) << "nothing may be lost";
}

TEST_F(RowFileTest, AnotherSchemaIsRefused) {
  write("{\"type\":\"run\",\"schema\":2}\n");
  EXPECT_EQ(complaint(), path() + ":1 has another schema than 1");
}

TEST_F(RowFileTest, AMissingFileIsOneSentence) {
  EXPECT_EQ(complaint(), "cannot read " + path() + ": No such file or directory");
}

TEST_F(RowFileTest, AFolderThatCannotBeMadeIsOneSentence) {
  std::ofstream(directory_ + "/file") << "x";
  EXPECT_THROW(RowFile{directory_ + "/file/below"}, UsageError);
  if (geteuid() == 0) return;  // root may write anywhere
  fs::permissions(directory_, fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_THROW(RowFile{directory_}, UsageError);
}

TEST(CellRowJson, MissingValuesAreNull) {
  CellRow row;
  row.op = "colreduce";
  row.status = Status::kUnsupported;
  row.reason = "D must be a multiple of 8";
  const Json json = to_json(row);
  EXPECT_EQ(json["status"], "UNSUPPORTED");
  for (const char* name : {"suite", "check", "time", "mem", "plan", "sol"})
    EXPECT_TRUE(json[name].is_null()) << name;
}

TEST(CellRowJson, AKernelsResourcesAreInTheRow) {
  CellRow row;
  row.kernels = {{"told", 168, 0, 1024, 2, 0.375}, {"untold", 32, 8, 0}};
  const Json told = to_json(row)["kernels"][0];
  EXPECT_EQ(told["ctas_per_sm"], 2);
  EXPECT_EQ(told["occupancy"], 0.375);
  const Json untold = to_json(row)["kernels"][1];
  EXPECT_EQ(untold["spill"], 8);
  EXPECT_TRUE(untold["ctas_per_sm"].is_null() && untold["occupancy"].is_null());
}

TEST(Occupancy, IsAShareOfTheWarps) {
  EXPECT_EQ(gpu::occupancy_of(2, 384, 2048), 0.375);
  EXPECT_EQ(gpu::occupancy_of(32, 1, 2048), 0.5) << "a CTA takes whole warps";
  EXPECT_EQ(gpu::occupancy_of(0, 1024, 2048), 0);
}

TEST(CellRowJson, AnInfiniteErrorIsNullNotAnInvalidNumber) {
  CellRow row;
  row.check.emplace().nerr_max = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(to_json(row)["check"]["nerr_max"].is_null());
}

}  // namespace
}  // namespace attn
