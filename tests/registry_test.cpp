// The operator list, the backends' lists and their names.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "harness/core/dispatch.h"
#include "harness/operators.h"

namespace attn {
namespace {

/// The rungs of the ladder keep their order; a new backend may stand anywhere between them.
TEST(Registry, BackendsAreListedInReadingOrder) {
  std::vector<std::string> ids;
  for (const AnyBackend& backend : operators().front()->backends()) ids.emplace_back(backend.id);
  auto at = ids.begin();
  for (const char* rung :
       {"cpu_reference", "cpu_fused", "libtorch", "cublas_naive", "fused_simt", "mma_sm80",
        "split_k", "wgmma_sm90", "one_pass_sm90", "split_k_sm90", "auto"}) {
    at = std::find(at, ids.end(), rung);
    ASSERT_NE(at, ids.end()) << rung;
  }
}

TEST(Registry, EveryBackendDescribesItself) {
  for (const auto& op : operators()) {
    std::set<std::string_view> ids;
    for (const AnyBackend& backend : op->backends()) {
      EXPECT_TRUE(ids.insert(backend.id).second) << backend.id;
      if (!backend.info) continue;
      EXPECT_EQ(backend.info->id, backend.id);
      EXPECT_FALSE(backend.info->summary.empty()) << backend.id;
      EXPECT_FALSE(backend.info->math.empty()) << backend.id;
    }
  }
}

/// Every field that is no size is somebody's feature, so that nobody refuses it unseen.
TEST(Registry, FeaturesAreValidAndReachEveryOption) {
  const auto op = operators().front();
  std::set<std::string> changed;
  for (const AnyFeature& feature : op->features()) {
    EXPECT_TRUE(feature.problem->validate()) << feature.name;
    for (const FieldValue& field : feature.problem->fields()) {
      if (!field.is_default) changed.insert(field.name);
    }
  }
  const std::set<std::string> unseen = {"mean_over", "scale", "query_end"};  // nobody may refuse
  for (const FieldValue& field : op->default_problem()->fields())
    EXPECT_EQ(changed.count(field.name) == 1, unseen.count(field.name) == 0) << field.name;
}

TEST(Registry, HostBackendsAreInEveryBuild) {
  for (const AnyBackend& backend : operators().front()->backends()) {
    if (backend.id == "cpu_reference" || backend.id == "cpu_fused") {
      EXPECT_NE(backend.info, nullptr) << backend.id;
    }
  }
}

TEST(CaseId, HoldsSizesAlwaysAndOptionsWhereTheyDiffer) {
  const auto problem = operators().front()->default_problem();
  EXPECT_EQ(case_id(*problem), "B1_H1_M1024_N1024_D128_f16_sum_none");
  EXPECT_EQ(problem->set("H_kv", "1"), "");
  EXPECT_EQ(problem->set("mask", "causal"), "");
  EXPECT_EQ(problem->set("scale", "0.5"), "");
  EXPECT_EQ(case_id(*problem), "B1_H1_H_kv1_M1024_N1024_D128_f16_sum_causal_scale-0.5");
}

TEST(Fields, TextSetsThemAndBadTextIsOneSentence) {
  const auto problem = operators().front()->default_problem();
  EXPECT_EQ(problem->set("N", "16k"), "");
  EXPECT_EQ(problem->set("q_strides", "8:8:8:1"), "");
  EXPECT_EQ(problem->set("N", "12x"), "N must be an integer such as 4096 or 4k, not '12x'");
  EXPECT_EQ(problem->set("N", "99999999999999999999"),
            "N must be an integer such as 4096 or 4k, not '99999999999999999999'");
  EXPECT_EQ(problem->set("mask", "casual"),
            "mask must be one of none, causal, causal_top_left, not 'casual'");
  EXPECT_EQ(problem->set("scale", "inf"), "scale must be a finite number or auto, not 'inf'");
  EXPECT_EQ(problem->set("k_strides", "1:2:3"),
            "k_strides must be four integers b:h:row:d or auto, not '1:2:3'");
  EXPECT_EQ(problem->set("q_len", "5:3k:0"), "");
  EXPECT_EQ(problem->set("kv_len", "5::0"),
            "kv_len must be integers such as 5:3:8 or none, not '5::0'");
  EXPECT_EQ(problem->set("depth", "3"), "colreduce has no field 'depth'");
  std::map<std::string, FieldValue> fields;
  for (const FieldValue& field : problem->fields()) fields[field.name] = field;
  EXPECT_EQ(fields["N"].number, 16384);
  EXPECT_EQ(fields["q_strides"].text, "8:8:8:1");
  EXPECT_EQ(fields["H_kv"].number, 1) << "resolved to H";
  EXPECT_EQ(fields["q_len"].text, "5:3072:0");
  EXPECT_EQ(fields["kv_len"].text, "none");
  EXPECT_EQ(problem->set("q_len", "none"), "");
}

TEST(Dispatch, HitsItsValueAndThrowsWithoutOne) {
  int seen = 0;
  dispatch<64, 128>(128, [&](auto value) { seen = value; });
  EXPECT_EQ(seen, 128);
  EXPECT_THROW((dispatch<64, 128>(96, [](auto) {})), std::logic_error);
}

}  // namespace
}  // namespace attn
