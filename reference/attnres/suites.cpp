// Shapes of published models and of the arithmetic's edges.
#include "reference/attnres/suites.h"

#include <algorithm>

namespace attn::attnres {
namespace {

using Cases = std::vector<ReadCase>;

ReadProblem read(std::int64_t N, std::int64_t S, std::int64_t B, std::int64_t T, std::int64_t D) {
  ReadProblem p;
  p.N = N;
  p.S = S;
  p.B = B;
  p.T = T;
  p.D = D;
  return p;
}

/// The published headline (N = 4, S = 8), its first and last calls, and the widths of published models.
Cases shapes() {
  constexpr std::int64_t k1k = 1024;
  Cases cases;
  for (const std::int64_t N : {4, 1, 2, 8, 16}) cases.push_back({read(N, 8, 4, 16 * k1k, 2048)});
  cases.push_back({read(5, 1, 4, 16 * k1k, 2048)});
  for (const std::int64_t D : {896, 1168, 1264}) cases.push_back({read(8, 4, 4, 8 * k1k, D)});
  cases.push_back({read(9, 6, 4, 8 * k1k, 2304)});
  cases.push_back({read(8, 8, 1, 8 * k1k, 4096)});
  cases.push_back({read(8, 12, 1, 8 * k1k, 7168)});
  cases.push_back({read(64, 1, 1, 8 * k1k, 2048)});
  return cases;
}

Cases decode() {
  Cases cases;
  for (const std::int64_t B : {1, 16, 64, 256}) cases.push_back({read(9, 1, B, 1, 7168)});
  return cases;
}

Cases small() {
  Cases cases;
  for (const std::int64_t N : {1, 2, 4, 8}) cases.push_back({read(N, 8, 1, 512, 512)});
  for (const std::int64_t D : {128, 896, 2048}) cases.push_back({read(4, 4, 1, 256, D)});
  return cases;
}

/// More than 2^31 elements in a plane, and in the planes of an output together.
Cases huge() { return {{read(2, 2, 1, 1049600, 2048)}, {read(2, 9, 1, 131072, 2048)}}; }

/// One token up to just more than 64, widths beside every vector and warp, one source up to 64.
void add_sizes(Cases& cases) {
  struct Size {
    std::int64_t N, S, B, T, D;
  };
  const Size sizes[] = {
      {4, 8, 2, 33, 128}, {1, 1, 1, 1, 1},    {1, 3, 1, 63, 64},  {2, 2, 1, 65, 72},
      {3, 5, 3, 7, 7},    {5, 6, 1, 9, 896},  {9, 12, 1, 3, 264}, {10, 9, 1, 5, 72},
      {16, 16, 1, 2, 40}, {17, 1, 1, 5, 136}, {64, 2, 1, 3, 48},  {4, 64, 1, 2, 24},
      {8, 4, 1, 3, 1168}, {2, 9, 1, 2, 2304}, {2, 8, 1, 2, 7168}, {3, 2, 1, 1, 16384},
      {7, 24, 1, 5, 33},  {4, 8, 1, 130, 8},  {4, 1, 1, 0, 16}};
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const Size& size : sizes) {
      cases.push_back({read(size.N, size.S, size.B, size.T, size.D)});
      cases.back().problem.dtype = dtype;
    }
  }
  cases.push_back({read(4, 8, 1, 9001, 512)});  // many tokens for every SM, and an odd one
}

void add_options(Cases& cases) {
  const auto add = [&](auto change, InputFamily family = InputFamily::kNormal) {
    ReadProblem p = read(4, 3, 2, 5, 96);
    change(p);
    cases.push_back({p, family});
  };
  for (const InputFamily family : {InputFamily::kUniform, InputFamily::kPeaked, InputFamily::kNeg,
                                   InputFamily::kOneHot, InputFamily::kAllEqual}) {
    add([](ReadProblem&) {}, family);
    add([](ReadProblem& p) { p.dtype = DType::kF32; }, family);
  }
  add([](ReadProblem& p) { p.sources = Sources::kStacked; });
  add([](ReadProblem& p) { p.token_stride = 104; });
  add([](ReadProblem& p) { p.token_stride = 97; });  // rows off every alignment
  add([](ReadProblem& p) { p.sources = Sources::kStacked, p.token_stride = 112; });
  add([](ReadProblem& p) { p.query_dtype = TypeChoice::kF32; });
  add([](ReadProblem& p) { p.query_dtype = TypeChoice::kF16; });
  add([](ReadProblem& p) { p.out_dtype = TypeChoice::kF32; });
  add([](ReadProblem& p) { p.dtype = DType::kF32, p.query_dtype = TypeChoice::kBF16; });
  add([](ReadProblem& p) { p.dtype = DType::kF32, p.out_dtype = TypeChoice::kF16; });
  add([](ReadProblem& p) { p.dtype = DType::kF32, p.eps = 64; });
  add([](ReadProblem& p) { p.N = 1, p.dtype = DType::kF16, p.out_dtype = TypeChoice::kF32; });
}

Cases edge() {
  Cases cases;
  add_sizes(cases);
  add_options(cases);
  return cases;
}

/// Leaves each problem once that `fields` tell apart.
void keep_different(Cases& cases, CaseFields fields) {
  if (fields == CaseFields::kReads) return;
  const auto same = [fields](const ReadCase& a, const ReadCase& b) {
    const ReadProblem& p = a.problem;
    const ReadProblem& q = b.problem;
    const bool planes =
        p.B == q.B && p.T == q.T && p.D == q.D && p.dtype == q.dtype && a.family == b.family;
    return planes &&
           (fields == CaseFields::kPlanes ||
            (p.eps == q.eps && p.query_dtype == q.query_dtype && p.out_dtype == q.out_dtype));
  };
  Cases kept;
  for (const ReadCase& one : cases) {
    if (std::none_of(kept.begin(), kept.end(), [&](const auto& k) { return same(k, one); }))
      kept.push_back(one);
  }
  cases = kept;
}

}  // namespace

std::vector<ReadSuite> family_suites(CaseFields fields) {
  std::vector<ReadSuite> suites = {
      {"shapes", "the published headline shape and the widths of published models, bf16", shapes()},
      {"decode", "one token a sequence, D = 7168, bf16", decode()},
      {"small", "shapes that two CPU cores manage, bf16", small()},
      {"huge", "more than 2^31 elements in a plane or across planes, bf16", huge()},
      {"edge", "the correctness matrix: sizes, types, layouts, input families", edge()}};
  for (ReadSuite& suite : suites) keep_different(suite.cases, fields);
  return suites;
}

}  // namespace attn::attnres
