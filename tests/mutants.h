// The mistakes that the checker must catch in a column reduction, one word each.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "harness/core/backend.h"
#include "harness/core/numerics.h"

namespace attn {

enum class Mutation : std::uint8_t {
  kNone,
  // What is written.
  kAllZero,
  kConstantMean,
  kOneNan,
  kOneElementUp,
  kOutputUntouched,
  kLastColumnUnwritten,
  kBatchAndHeadSwapped,
  // Which elements are read.
  kHeadsSwapped,
  kSharingIgnored,
  kFirstBatchsKeys,
  kRowStrideIgnored,
  kRowBefore,
  kLastQueryLost,
  // Tiles of keys.
  kTileMissing,
  kTileTwice,
  kLastTileNotNormalised,
  kPaddingNormalised,
  // Masks.
  kCausalSeesMore,
  kCausalSeesLess,
  kTopLeftSeesMore,
  kTopLeftSeesLess,
  kBlindRowUniform,
  // Softmax.
  kScaleOfPaddedD,
  kScaleSignLost,
  kNoRescale,
  kNoMaximum,
  kNextRowsNormaliser,
  // Reduction.
  kMeanOverAll,
  kMeanOverVisible,
  kMaxAsSum,
  kSumAsMax,
  // Rounding.
  kHalfScores,
  kHalfWeights,
  kBrainWeights,
  kRoundedBeforeDivision,
  kOutputTruncated,
  // From one call to the next.
  kWorkspaceNotCleared,
  kLastBitFlips,
  kAnswerOfSameSizes,
  kAnswerOfFirstCall,
  kAnswerOfPlan,
};

struct Mutant {
  Mutation mutation;
  std::string_view name;
  NumericsClass numerics = NumericsClass::kFp32;  ///< what it claims to be
};

/// The right kernel first, then every mutation in the order of the enumeration.
inline constexpr auto kMutants = std::to_array<Mutant>({
    {Mutation::kNone, "none"},
    {Mutation::kAllZero, "all zeros"},
    {Mutation::kConstantMean, "every column its head's average"},
    {Mutation::kOneNan, "one NaN"},
    {Mutation::kOneElementUp, "one element +50 %"},
    {Mutation::kOutputUntouched, "output untouched"},
    {Mutation::kLastColumnUnwritten, "last column of each head unwritten"},
    {Mutation::kBatchAndHeadSwapped, "B and H swapped in the output"},
    {Mutation::kHeadsSwapped, "heads h and h^1 swapped"},
    {Mutation::kSharingIgnored, "key head h mod H_kv for h / (H / H_kv)"},
    {Mutation::kFirstBatchsKeys, "keys of batch 0 for all"},
    {Mutation::kRowStrideIgnored, "rows taken as D apart"},
    {Mutation::kRowBefore, "query row m - 1 for m"},
    {Mutation::kLastQueryLost, "last query lost"},
    {Mutation::kTileMissing, "a key tile missing"},
    {Mutation::kTileTwice, "a key tile taken twice"},
    {Mutation::kLastTileNotNormalised, "last key tile missing in the normaliser"},
    {Mutation::kPaddingNormalised, "zero padding of the last key tile in the normaliser"},
    {Mutation::kCausalSeesMore, "causal sees one key more"},
    {Mutation::kCausalSeesLess, "causal sees one key less"},
    {Mutation::kTopLeftSeesMore, "causal_top_left sees one key more"},
    {Mutation::kTopLeftSeesLess, "causal_top_left sees one key less"},
    {Mutation::kBlindRowUniform, "a query that sees nothing weighs all keys alike"},
    {Mutation::kScaleOfPaddedD, "scale of D rounded up to 64"},
    {Mutation::kScaleSignLost, "sign of the scale lost"},
    {Mutation::kNoRescale, "no rescale when the running maximum grows"},
    {Mutation::kNoMaximum, "fp32 exponentials without the maximum"},
    {Mutation::kNextRowsNormaliser, "normaliser of the next row"},
    {Mutation::kMeanOverAll, "mean over M for the visible queries"},
    {Mutation::kMeanOverVisible, "mean over the visible queries for M"},
    {Mutation::kMaxAsSum, "maximum returned as sum"},
    {Mutation::kSumAsMax, "sum returned as maximum"},
    {Mutation::kHalfScores, "scores accumulated in fp16"},
    {Mutation::kHalfWeights, "P rounded to fp16, declared fp32_P"},
    {Mutation::kBrainWeights, "P rounded to bf16, declared fp16_P", NumericsClass::kHalfWeights},
    {Mutation::kRoundedBeforeDivision, "rounded to the output type before the division"},
    {Mutation::kOutputTruncated, "output truncated, not rounded"},
    {Mutation::kWorkspaceNotCleared, "an accumulator in the workspace not cleared"},
    {Mutation::kLastBitFlips, "last bit differs from call to call"},
    {Mutation::kAnswerOfSameSizes, "stale: answer of an earlier problem of the same sizes"},
    {Mutation::kAnswerOfFirstCall, "stale: answer of the launch's first call"},
    {Mutation::kAnswerOfPlan, "stale: answer computed in plan"},
});

/// The backends as an operator lists them; they must outlive the slots.
template <class Op>
std::vector<BackendSlot<Op>> slots_of(const std::vector<Backend<Op>>& backends) {
  std::vector<BackendSlot<Op>> slots;
  slots.reserve(backends.size());
  for (const Backend<Op>& backend : backends) slots.push_back({backend.info.id, &backend});
  return slots;
}

}  // namespace attn
