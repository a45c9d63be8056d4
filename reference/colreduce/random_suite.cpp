// Problems drawn at random over all fields of the column reduction, from a fixed seed: the same list
// everywhere. Shapes are small and lie around the tiles of kernels.
#include "reference/colreduce/random_suite.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <random>

namespace attn {
namespace {

using Problem = ColReduce::Problem;

constexpr int kCases = 20000;
constexpr std::uint64_t kSeed = 20240229;

/// Draws from one generator; without the standard distributions, which differ between libraries.
class Draw {
 public:
  /// In [least, most].
  std::int64_t between(std::int64_t least, std::int64_t most) {
    const auto count = static_cast<std::uint64_t>(most - least + 1);
    return least + static_cast<std::int64_t>(generator_() % count);
  }
  bool one_in(int n) { return between(1, n) == 1; }
  template <class List>
  auto from(const List& list) {
    const auto last = static_cast<std::int64_t>(std::size(list)) - 1;
    return list[static_cast<std::size_t>(between(0, last))];
  }
  template <class Enum, std::size_t kCount>
  Enum choice(const std::array<std::string_view, kCount>&) {
    return static_cast<Enum>(between(0, kCount - 1));
  }

 private:
  std::mt19937_64 generator_{kSeed};
};

/// A number of rows: a few, around a tile of 64, or any up to `most`.
std::int64_t draw_rows(Draw& draw, std::int64_t most) {
  if (draw.one_in(4)) return draw.between(1, 5);
  if (draw.one_in(4)) return 64 * draw.between(1, most / 64) + draw.between(-1, 1);
  return draw.between(1, most);
}

void draw_shape(Draw& draw, Problem& p) {
  constexpr std::int64_t kDepths[] = {1, 3, 8, 16, 20, 24, 32, 40, 64, 64, 72, 128};
  p.B = draw.between(1, 3);
  p.H_kv = draw.one_in(3) ? 0 : draw.between(1, 3);
  p.H = p.H_kv == 0 ? draw.between(1, 4) : p.H_kv * draw.between(1, 4);
  p.M = draw_rows(draw, 140);
  p.N = draw_rows(draw, 200);
  p.D = draw.from(kDepths);
}

void draw_layout(Draw& draw, Problem& p) {
  p.layout = draw.choice<Layout>(kLayoutNames);
  if (draw.one_in(4)) {  // rows with padding
    const std::int64_t row = p.D + draw.between(1, 9);
    p.q_strides = {p.H * p.M * row, p.M * row, row, 1};
  }
  if (draw.one_in(6)) p.k_strides = {0, 0, p.D, 1};  // the same keys for all
}

void draw_scores(Draw& draw, Problem& p) {
  constexpr double kScales[] = {0.0, -0.3, 0.05, 1.0};
  constexpr double kCaps[] = {0.25, 2.0, 30.0};
  if (draw.one_in(5)) p.scale = draw.from(kScales);
  if (draw.one_in(4)) p.softcap = draw.from(kCaps);
}

void draw_visible(Draw& draw, Problem& p) {
  p.mask = draw.choice<Mask>(kMaskNames);
  if (draw.one_in(3)) p.window = draw.between(0, std::max(p.M, p.N));
  if (draw.one_in(3)) p.query_begin = draw.between(-p.M, p.M - 1);
  if (draw.one_in(4)) p.query_end = draw.between(p.contributing().begin + 1, p.M);
}

std::vector<std::int64_t> draw_lengths(Draw& draw, std::int64_t count, std::int64_t most) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < count; ++i)
    lengths.push_back(draw.one_in(4) ? most * draw.between(0, 1) : draw.between(0, most));
  return lengths;
}

/// `count` + 1 numbers from 0 to `rows` that never fall.
std::vector<std::int64_t> draw_prefix_sums(Draw& draw, std::int64_t count, std::int64_t rows) {
  std::vector<std::int64_t> sums = draw_lengths(draw, count - 1, rows);
  sums.push_back(0);
  sums.push_back(rows);
  std::sort(sums.begin(), sums.end());
  return sums;
}

/// Sequences of different lengths, packed or padded.
void draw_sequences(Draw& draw, Problem& p) {
  if (draw.one_in(2)) {
    p.B = 1;
    const std::int64_t count = draw.between(1, 6);
    p.cu_q = draw_prefix_sums(draw, count, p.M);
    p.cu_k = draw_prefix_sums(draw, count, p.N);
    return;
  }
  if (draw.one_in(2)) p.q_len = draw_lengths(draw, p.B, p.M);
  if (draw.one_in(2)) p.kv_len = draw_lengths(draw, p.B, p.N);
}

Problem draw_problem(Draw& draw) {
  Problem p;
  draw_shape(draw, p);
  p.dtype = draw.choice<DType>(kDTypeNames);
  p.out_dtype = draw.one_in(3) ? p.dtype : DType::kF32;
  p.reduction = draw.choice<Reduction>(kReductionNames);
  p.mean_over = draw.choice<MeanOver>(kMeanOverNames);
  draw_layout(draw, p);
  draw_scores(draw, p);
  draw_visible(draw, p);
  if (draw.one_in(2)) p.heads = draw.choice<Heads>(kHeadsNames);
  if (draw.one_in(3)) draw_sequences(draw, p);
  if (draw.one_in(3)) p.lse = draw.choice<Lse>(kLseNames);
  return p;
}

}  // namespace

Suite<Problem> random_suite() {
  Draw draw;
  std::vector<Suite<Problem>::Case> cases;
  for (int i = 0; i < kCases; ++i) {
    const Problem p = draw_problem(draw);
    const bool normal = draw.one_in(2);
    cases.push_back(
        {p, normal ? InputFamily::kNormal : draw.choice<InputFamily>(kInputFamilyNames)});
  }
  return {"random", "every option, drawn from a fixed seed: small shapes round the tiles", cases};
}

}  // namespace attn
