// One small problem for every feature of the contract: a backend takes a feature when it takes its
// problem, on any device that it runs on.
#include <vector>

#include "reference/colreduce/contract.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;

Problem plain() { return {.H = 4, .M = 64, .N = 256, .D = 64}; }

/// The plain problem with one thing changed.
template <class Change>
Feature<Problem> feature(const char* name, Change&& change) {
  Problem p = plain();
  change(p);
  return {name, p};
}

}  // namespace

std::vector<Feature<Problem>> ColReduce::features() {
  return {
      feature("plain", [](Problem&) {}),
      feature("dtype bf16", [](Problem& p) { p.dtype = DType::kBF16; }),
      feature("dtype f32", [](Problem& p) { p.dtype = DType::kF32; }),
      feature("D 80", [](Problem& p) { p.D = 80; }),
      feature("D 256", [](Problem& p) { p.D = 256; }),
      feature("D 33", [](Problem& p) { p.D = 33; }),
      feature("M 1024", [](Problem& p) { p.M = 1024; }),
      feature("N 256k", [](Problem& p) { p.N = 256 * 1024; }),
      feature("H_kv < H", [](Problem& p) { p.H_kv = 2; }),
      feature("layout bshd", [](Problem& p) { p.layout = Layout::kRowMajor; }),
      feature("layout qkv_slice",
              [](Problem& p) {
                p.N = p.M;
                p.layout = Layout::kFusedSlice;
              }),
      feature("odd strides",
              [](Problem& p) {
                p.q_strides = {4 * 64 * 67, 64 * 67, 67, 1};
              }),
      feature("broadcast keys",
              [](Problem& p) {
                p.k_strides = {0, 0, p.D, 1};
              }),
      feature("mask causal", [](Problem& p) { p.mask = Mask::kCausal; }),
      feature("mask causal_top_left", [](Problem& p) { p.mask = Mask::kCausalTopLeft; }),
      feature("reduction mean", [](Problem& p) { p.reduction = Reduction::kMean; }),
      feature("reduction max", [](Problem& p) { p.reduction = Reduction::kMax; }),
      feature("out_dtype f16", [](Problem& p) { p.out_dtype = DType::kF16; }),
      feature("query range", [](Problem& p) { p.query_begin = -32; }),
      feature("window", [](Problem& p) { p.window = 100; }),
      feature("softcap", [](Problem& p) { p.softcap = 50; }),
      feature("lse in", [](Problem& p) { p.lse = Lse::kIn; }),
      feature("lse out", [](Problem& p) { p.lse = Lse::kOut; }),
      feature("heads mean", [](Problem& p) { p.heads = Heads::kMean; }),
      feature("heads max", [](Problem& p) { p.heads = Heads::kMax; }),
      feature("heads group",
              [](Problem& p) {
                p.H_kv = 2;
                p.heads = Heads::kGroup;
              }),
      feature("q_len and kv_len",
              [](Problem& p) {
                p.B = 2;
                p.q_len = {64, 5};
                p.kv_len = {30, 256};
              }),
      feature("cu_q and cu_k",
              [](Problem& p) {
                p.cu_q = {0, 5, 64};
                p.cu_k = {0, 200, 256};
              }),
  };
}

}  // namespace attn
