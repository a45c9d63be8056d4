// Sizes, planes and suites of networks.
#include "reference/attnres/network.h"

#include <algorithm>

namespace attn::attnres {

Support validate_network(const NetworkProblem& p) {
  if (Support tokens = validate_tokens(p); !tokens) return tokens;
  if (p.S < 1 || p.S > kMaxQueries) return Support::no("S must be between 1 and 64");
  if (p.L < 0 || p.blocks() >= kMaxSources)
    return Support::no("L must be at least 0 and make at most 127 blocks of S");
  return Support::yes();
}

std::int64_t one_shot_planes(std::int64_t n, std::int64_t sublayers) {
  const std::int64_t first = n == 1 ? 0 : n + 1;  // of one source the read is the source
  if (sublayers == 1) return first;
  return first + n + 2 + (sublayers - 2) * (n + 4) + 3;
}

std::int64_t two_phase_planes(std::int64_t n, std::int64_t sublayers) {
  return sublayers == 1 ? n + 1 : n + 6 * sublayers - 4;
}

std::int64_t one_shot_gradient_planes(std::int64_t n, std::int64_t sublayers) {
  const std::int64_t sum = sublayers == 1 ? 0 : 3;  // of the whole block: not needed again
  return one_shot_planes(n, sublayers) - sum + (3 * n + 4) * (sublayers - 1) +
         (n == 1 ? 3 : 3 * n + 1);
}

std::int64_t two_phase_gradient_planes(std::int64_t n, std::int64_t sublayers) {
  const std::int64_t sum = sublayers == 1 ? 0 : 3;
  return two_phase_planes(n, sublayers) - sum + 6 * (sublayers - 1) + 3 * n + sublayers;
}

Work network_work(const NetworkProblem& p, bool gradient) {
  const std::int64_t all = p.blocks() + 1;
  std::int64_t reads = all;  // sources of all reads
  std::int64_t planes = gradient ? 2 * all + 1 : all + 1;
  for (std::int64_t n = 1; n < all; ++n) {
    const std::int64_t size = p.block_size(n);
    reads += n + (size - 1) * (n + 1);
    planes += gradient
                  ? std::min(one_shot_gradient_planes(n, size), two_phase_gradient_planes(n, size))
                  : std::min(one_shot_planes(n, size), two_phase_planes(n, size));
  }
  const auto pairs = static_cast<double>(p.tokens()) * static_cast<double>(reads);
  return {.mma_flops = pairs * static_cast<double>(p.D) * (gradient ? 22 : 6),
          .exponentials = pairs * (gradient ? 2 : 1),
          .bytes = plane_bytes(p, planes, p.dtype) + query_bytes(p, p.L + 1) +
                   (gradient ? query_gradient_bytes(p, p.L + 1, Store::kWrite) : 0)};
}

namespace {

using Cases = std::vector<Suite<NetworkProblem>::Case>;

NetworkProblem network(
    std::int64_t L, std::int64_t S, std::int64_t B, std::int64_t T, std::int64_t D) {
  NetworkProblem p;
  p.L = L;
  p.S = S;
  p.B = B;
  p.T = T;
  p.D = D;
  return p;
}

/// Planes are reused: the largest network would have 70 of 256 MB.
Cases shapes() {
  constexpr std::int64_t k1k = 1024;
  Cases cases = {{network(32, 8, 4, 16 * k1k, 2048)},
                 {network(54, 6, 1, 8 * k1k, 2304)},
                 {network(32, 4, 4, 4 * k1k, 1264)}};
  for (auto& one : cases) one.problem.planes = PlaneUse::kReused;
  return cases;
}

Cases small() {
  return {
      {network(8, 4, 1, 256, 256)}, {network(12, 3, 1, 128, 512)}, {network(32, 8, 1, 32, 256)}};
}

/// Short last blocks, one sublayer a block or in the last one, fewer sublayers than a block, none.
Cases edge() {
  struct Size {
    std::int64_t L, S, B, T, D;
  };
  const Size sizes[] = {{8, 4, 2, 5, 64}, {1, 1, 1, 3, 16}, {2, 1, 1, 7, 24},  {5, 1, 1, 4, 40},
                        {3, 8, 1, 9, 33}, {2, 4, 2, 3, 8},  {9, 4, 1, 5, 128}, {7, 3, 1, 6, 72},
                        {10, 2, 3, 1, 7}, {0, 4, 1, 5, 48}, {12, 4, 1, 2, 1},  {6, 2, 1, 0, 16}};
  Cases cases;
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const Size& size : sizes) {
      NetworkProblem p = network(size.L, size.S, size.B, size.T, size.D);
      p.dtype = dtype;
      if (cases.size() % 2 == 1) p.planes = PlaneUse::kReused;
      cases.push_back({p});
    }
  }
  for (const InputFamily family : {InputFamily::kUniform, InputFamily::kPeaked, InputFamily::kNeg,
                                   InputFamily::kOneHot, InputFamily::kAllEqual})
    cases.push_back({network(7, 3, 1, 5, 96), family});
  for (const TypeChoice type : {TypeChoice::kF32, TypeChoice::kF16}) {
    cases.push_back({network(7, 3, 1, 5, 96)});
    cases.back().problem.query_dtype = type;
  }
  cases.push_back({network(7, 3, 1, 5, 96)});
  cases.back().problem.eps = 64;
  return cases;
}

}  // namespace

std::vector<Suite<NetworkProblem>> network_suites() {
  return {{"shapes", "the published headline network and widths of published models", shapes()},
          {"small", "networks that two CPU cores manage", small()},
          {"edge", "the correctness matrix: depths, block sizes, types, input families", edge()}};
}

}  // namespace attn::attnres
