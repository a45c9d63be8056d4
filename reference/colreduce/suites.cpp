// Named problem lists of the column reduction: the README's sweep, one small enough for a CPU, the
// head-mean package's shapes, square problems, and the correctness matrix.
#include <vector>

#include "reference/colreduce/contract.h"
#include "reference/colreduce/random_suite.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;
using Cases = std::vector<Suite<Problem>::Case>;

constexpr std::int64_t k1k = 1024;

void add(Cases& cases, const Problem& problem, InputFamily family = InputFamily::kNormal) {
  cases.push_back({problem, family});
}

/// The four axes of the README figure.
struct FourAxes {
  std::vector<std::int64_t> batches;  ///< at M = N = side, and causal at few_queries and its keys
  std::int64_t side;
  std::vector<std::int64_t> sides;  ///< M = N with one batch
  std::int64_t few_queries, few_queries_keys;
  std::int64_t queries;
  std::vector<std::int64_t> keys;  ///< causal at `queries` with one batch
};

Cases cases_of(const Problem& base, const FourAxes& axes) {
  Cases cases;
  const auto add_case = [&](std::int64_t B, std::int64_t M, std::int64_t N, Mask mask) {
    Problem p = base;
    p.B = B;
    p.M = M;
    p.N = N;
    p.mask = mask;
    add(cases, p);
  };
  for (const std::int64_t B : axes.batches) add_case(B, axes.side, axes.side, Mask::kNone);
  for (const std::int64_t S : axes.sides) add_case(1, S, S, Mask::kNone);
  for (const std::int64_t B : axes.batches)
    add_case(B, axes.few_queries, axes.few_queries_keys, Mask::kCausal);
  for (const std::int64_t N : axes.keys) add_case(1, axes.queries, N, Mask::kCausal);
  return cases;
}

Suite<Problem> readme_suite() {
  const Cases cases =
      cases_of({.H = 32, .D = 128}, {.batches = {1, 4, 16, 64, 256},
                                     .side = 1 * k1k,
                                     .sides = {1 * k1k, 2 * k1k, 4 * k1k, 8 * k1k, 16 * k1k},
                                     .few_queries = 64,
                                     .few_queries_keys = 16 * k1k,
                                     .queries = 512,
                                     .keys = {16 * k1k, 32 * k1k, 64 * k1k, 128 * k1k, 256 * k1k}});
  return {"readme", "the README figure (two axes share a cell): H=32, D=128, f16, sum", cases};
}

/// The axes of `readme`, small enough for two CPU cores.
Suite<Problem> small_suite() {
  const Cases cases = cases_of({.H = 4, .D = 64, .dtype = DType::kF32},
                               {.batches = {1, 2, 4, 8},
                                .side = 256,
                                .sides = {128, 256, 512, 1024},
                                .few_queries = 16,
                                .few_queries_keys = 4 * k1k,
                                .queries = 64,
                                .keys = {1 * k1k, 2 * k1k, 4 * k1k, 8 * k1k}});
  return {"small", "the axes of readme scaled down for CPUs: H=4, D=64, f32, sum", cases};
}

/// What flash-colsum returns: the mean over heads and queries.
Suite<Problem> colsum_suite() {
  Cases cases;
  const Problem base{.H = 16, .D = 64, .reduction = Reduction::kMean, .heads = Heads::kMean};
  for (std::int64_t B = 1; B <= 1024; B *= 2) {
    Problem p = base;
    p.B = B;
    add(cases, p);
  }
  for (std::int64_t S = 4 * k1k; S <= 256 * k1k; S *= 2) {
    Problem p = base;
    p.M = p.N = S;
    add(cases, p);
  }
  for (std::int64_t N = 16 * k1k; N <= 256 * k1k; N *= 2) {
    Problem p = base;
    p.M = 128;
    p.N = N;
    p.mask = Mask::kCausal;
    p.mean_over = MeanOver::kAll;
    add(cases, p);
  }
  for (const std::int64_t S : {4 * k1k, 16 * k1k}) {  // a CLS row
    Problem p = base;
    p.M = p.N = S;
    p.query_end = 1;
    add(cases, p);
  }
  return {"colsum", "the head-mean package's problems: H=16, D=64, f16, mean over heads", cases};
}

/// Shapes of published models: language models whole and through observation windows, then vision
/// models.
Suite<Problem> models_suite() {
  const Problem language[] = {
      {.H = 32, .H_kv = 8, .D = 128},                                // Llama 3 8B
      {.H = 28, .H_kv = 4, .D = 128},                                // Qwen 2.5 7B
      {.H = 64, .H_kv = 8, .D = 128},                                // Llama 3 70B
      {.H = 32, .D = 96},                                            // Phi-3 mini
      {.H = 16, .H_kv = 8, .D = 256, .softcap = 50},                 // Gemma 2 9B, global layers
      {.H = 16, .H_kv = 8, .D = 256, .window = 4095, .softcap = 50}  // its local layers
  };
  const Problem vision[] = {{.H = 16, .M = 729, .N = 729, .D = 64},
                            {.H = 16, .M = 1025, .N = 1025, .D = 64},   // ViT-L/14 of 448 pixels
                            {.H = 16, .M = 729, .N = 729, .D = 72},     // SigLIP so400m
                            {.H = 16, .M = 1025, .N = 1025, .D = 80}};  // ViT-H/14 of 448 pixels
  Cases cases;
  for (Problem p : language) {
    p.dtype = DType::kBF16;
    p.mask = Mask::kCausal;
    for (const std::int64_t S : {4 * k1k, 32 * k1k, 128 * k1k}) {
      p.M = p.N = S;
      for (const std::int64_t observed : {0, 32, 64}) {
        p.query_begin = -observed;
        add(cases, p);
      }
    }
  }
  for (Problem p : vision) {
    p.dtype = DType::kBF16;
    for (const std::int64_t B : {1, 16}) {
      p.B = B;
      add(cases, p);
    }
  }
  return {"models", "published models, whole and with observation windows of 32 and 64: bf16, sum",
          cases};
}

/// M = N, where a kernel is as fast as its tensor cores and exponentials.
Suite<Problem> square_suite() {
  Cases cases;
  const auto add_square = [&](Problem p, std::int64_t side) {
    p.M = p.N = side;
    add(cases, p);
  };
  for (const Mask mask : {Mask::kCausal, Mask::kNone}) {
    for (const std::int64_t side : {1 * k1k, 4 * k1k, 16 * k1k})
      add_square({.H = 32, .D = 128, .mask = mask}, side);
  }
  const Problem narrow{.H = 16, .D = 64};
  for (const std::int64_t side : {4 * k1k, 16 * k1k, 64 * k1k}) add_square(narrow, side);
  Problem batched = narrow;
  batched.B = 64;
  add_square(batched, 1 * k1k);
  batched.B = 8;
  for (const std::int64_t side : {k1k / 2, 2 * k1k}) add_square(batched, side);
  return {"square", "M = N, causal and not: H=32, D=128, and H=16, D=64, f16, sum", cases};
}

constexpr Mask kMasks[] = {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft};
constexpr DType kTypes[] = {DType::kF16, DType::kBF16, DType::kF32};
constexpr Reduction kReductions[] = {Reduction::kSum, Reduction::kMean, Reduction::kMax};

/// Every shape class under every mask, in f16 and one other type, reductions in turn.
void add_shapes(Cases& cases) {
  const Problem shapes[] = {
      {.M = 1, .N = 1, .D = 1},
      {.H = 2, .M = 1, .N = 131, .D = 64},
      {.B = 2, .M = 131, .N = 1, .D = 32},
      {.B = 2, .H = 3, .M = 64, .N = 64, .D = 64},
      {.H = 2, .M = 127, .N = 129, .D = 128},
      {.H = 2, .M = 129, .N = 127, .D = 128},
      {.H = 2, .M = 131, .N = 1027, .D = 64},
      {.H = 2, .M = 1027, .N = 131, .D = 128},
      {.M = 65, .N = 63, .D = 72},
      {.B = 2, .H = 2, .M = 97, .N = 101, .D = 80},
      {.H = 2, .M = 33, .N = 257, .D = 96},
      {.M = 61, .N = 67, .D = 256},
      {.M = 193, .N = 255, .D = 192},
      {.H = 2, .M = 50, .N = 70, .D = 40},
      {.M = 37, .N = 41, .D = 129},
      {.H = 2, .M = 19, .N = 23, .D = 3},
      {.B = 2, .H = 6, .H_kv = 2, .M = 53, .N = 131, .D = 64},
      {.H = 4, .H_kv = 1, .M = 64, .N = 4099, .D = 128},
      {.H = 2, .M = 515, .N = 2053, .D = 64},
      {.B = 35000, .H = 2, .M = 3, .N = 5, .D = 8},
  };
  std::size_t turn = 0;
  for (const Problem& shape : shapes) {
    for (const Mask mask : kMasks) {
      for (const DType dtype : {DType::kF16, kTypes[1 + turn % 2]}) {
        Problem p = shape;
        p.mask = mask;
        p.dtype = dtype;
        p.reduction = kReductions[turn++ % 3];
        add(cases, p);
      }
    }
  }
}

/// Every input family under every mask, in f16 and bf16 or f32, as sums and maxima in turn.
void add_families(Cases& cases) {
  const Problem shapes[] = {
      {.H = 2, .M = 131, .N = 1027, .D = 64},
      {.H = 2, .M = 127, .N = 129, .D = 128},
      {.M = 515, .N = 131, .D = 80},
      {.M = 64, .N = 2053, .D = 128},
  };
  std::size_t turn = 0;
  for (std::size_t family = 0; family < kInputFamilyNames.size(); ++family) {
    for (const Problem& shape : shapes) {
      for (const Mask mask : kMasks) {
        for (const DType dtype : {DType::kF16, kTypes[1 + turn % 2]}) {
          Problem p = shape;
          p.mask = mask;
          p.dtype = dtype;
          p.reduction = turn++ % 4 == 3 ? Reduction::kMax : Reduction::kSum;
          add(cases, p, static_cast<InputFamily>(family));
        }
      }
    }
  }
}

/// Every reduction, divisor, output type and unusual scale.
void add_options(Cases& cases) {
  const Problem shapes[] = {{.H = 2, .M = 131, .N = 259, .D = 64},
                            {.H = 2, .M = 193, .N = 129, .D = 128}};
  for (const Problem& shape : shapes) {
    for (const Mask mask : kMasks) {
      for (const DType dtype : {DType::kF16, DType::kBF16}) {
        for (const DType out : {DType::kF32, dtype}) {
          for (const Reduction reduction : kReductions) {
            Problem p = shape;
            p.mask = mask;
            p.dtype = dtype;
            p.out_dtype = out;
            p.reduction = reduction;
            add(cases, p);
            if (reduction != Reduction::kMean) continue;
            p.mean_over = MeanOver::kAll;
            add(cases, p);
          }
        }
      }
      for (const double scale : {0.0, -0.125, 1.0}) {
        Problem p = shape;
        p.mask = mask;
        p.scale = scale;
        add(cases, p);
      }
    }
  }
}

/// Row-major tensors, slices of a fused projection, padded rows, broadcast keys.
void add_layouts(Cases& cases) {
  for (const std::int64_t D : {64, 128, 20}) {
    for (const Mask mask : {Mask::kNone, Mask::kCausal}) {
      const Problem base{.B = 2, .H = 3, .M = 67, .N = 131, .D = D, .mask = mask};
      const std::int64_t row = D + 8;
      Problem row_major = base;
      row_major.layout = Layout::kRowMajor;
      Problem slice = base;
      slice.layout = Layout::kFusedSlice;
      Problem padded = base;
      padded.q_strides = {base.H * base.M * row, base.M * row, row, 1};
      padded.k_strides = {base.H * base.N * row, base.N * row, row, 1};
      Problem broadcast = base;  // one set of keys for all batches and heads
      broadcast.k_strides = {0, 0, D, 1};
      Problem odd = base;  // rows that no wide load can take
      odd.q_strides = {base.H * base.M * (D + 1), base.M * (D + 1), D + 1, 1};
      for (Problem& p : std::vector<Problem>{row_major, slice, padded, broadcast, odd}) {
        add(cases, p);
        p.dtype = DType::kF32;
        add(cases, p);
      }
    }
  }
}

/// Sizes around the tiles of wgmma kernels (64 to 256 rows, 64 columns of D a box) and what they
/// stay resident in: every mask, types and reductions in turn.
void add_tiles(Cases& cases) {
  const Problem shapes[] = {
      {.M = 63, .N = 257, .D = 32},          {.M = 65, .N = 255, .D = 96},
      {.H = 2, .M = 128, .N = 64, .D = 80},  {.M = 129, .N = 65, .D = 72},
      {.H = 2, .M = 255, .N = 127, .D = 64}, {.M = 257, .N = 256, .D = 128},
      {.M = 63, .N = 1023, .D = 128},        {.H = 4, .H_kv = 2, .M = 256, .N = 1025, .D = 64},
      {.M = 1025, .N = 63, .D = 128},        {.H = 8, .H_kv = 2, .M = 65, .N = 129, .D = 128},
      {.M = 130, .N = 4160, .D = 64},  // 16 groups of 256 keys and a bit
      {.M = 64, .N = 16385, .D = 64},  // one tile of queries, one key too many
      {.M = 65, .N = 40001, .D = 64},  // more keys than 132 CTAs hold, 256 each
  };
  std::size_t turn = 0;
  for (const Problem& shape : shapes) {
    for (std::size_t i = 0; i < std::size(kMasks); ++i, ++turn) {
      Problem p = shape;
      p.mask = kMasks[i];
      p.dtype = kTypes[turn % 2];
      p.reduction = kReductions[(turn / 3 + i) % 3];
      add(cases, p);
    }
  }
}

/// At most one tile of 64 queries: chunks of 64 keys that fill up, spill over or need several CTAs,
/// and more heads than a GPU works on at once. Masks, types and reductions in turn; each shape has
/// another mask first, so that every third case has them all.
void add_few_queries(Cases& cases) {
  const Problem shapes[] = {
      {.M = 1, .N = 64, .D = 128},
      {.H = 2, .M = 1, .N = 300, .D = 64},
      {.H = 3, .M = 5, .N = 65, .D = 64},
      {.B = 2, .M = 5, .N = 200, .D = 128},
      {.H = 2, .M = 33, .N = 64, .D = 64},
      {.M = 33, .N = 300, .D = 128},
      {.M = 63, .N = 65, .D = 128},
      {.H = 4, .H_kv = 2, .M = 63, .N = 200, .D = 64},
      {.M = 64, .N = 65, .D = 64},
      {.H = 2, .M = 64, .N = 300, .D = 96},
      {.B = 70, .H = 3, .M = 5, .N = 64, .D = 64},
      {.B = 35, .H = 2, .M = 5, .N = 600, .D = 32},
  };
  std::size_t turn = 0;
  for (const Problem& shape : shapes) {
    for (std::size_t i = 0; i < std::size(kMasks); ++i, ++turn) {
      Problem p = shape;
      p.mask = kMasks[(turn / 3 + i) % 3];
      p.dtype = kTypes[turn % 2];
      p.reduction = kReductions[(turn / 9 + i) % 3];
      add(cases, p);
    }
  }
}

Suite<Problem> edge_suite() {
  Cases cases;
  add_shapes(cases);
  add_families(cases);
  add_options(cases);
  add_layouts(cases);
  add_tiles(cases);
  add_few_queries(cases);
  return {"edge", "the correctness matrix: shapes, masks, types, families, layouts, reductions",
          cases};
}

/// More than 2^31 elements in one tensor, and more heads than a grid's y extent.
Suite<Problem> huge_suite() {
  const std::int64_t rows = (std::int64_t{1} << 24) + 3;
  Cases cases;
  add(cases, {.M = 2, .N = rows, .D = 128, .mask = Mask::kCausal});
  add(cases, {.M = rows, .N = 2, .D = 128});
  add(cases, {.B = 70000, .H = 16, .M = 16, .N = 33, .D = 64, .dtype = DType::kBF16});
  return {"huge", "tensors of more than 2^31 elements: a GPU's memory needed", cases};
}

}  // namespace

std::vector<Suite<Problem>> ColReduce::suites() {
  return {readme_suite(), small_suite(), colsum_suite(), models_suite(),
          square_suite(), edge_suite(),  random_suite(), huge_suite()};
}

}  // namespace attn
