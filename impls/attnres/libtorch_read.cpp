// LibTorch's operators for a read over depth.
#include "impls/attnres/libtorch_read.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace attn::attnres {

std::int64_t torch_chunk(const PlaneProblem& p, std::int64_t rows) {
  constexpr std::int64_t kFloats = std::int64_t{1} << 26;
  return std::clamp<std::int64_t>(kFloats / (rows * p.D), 1, std::max<std::int64_t>(p.tokens(), 1));
}

at::Tensor token_rows(const TensorView& view, MemorySpace space, const PlaneProblem& p) {
  return wrap(view, space).reshape({view.shape[0], p.tokens(), view.shape[3]});
}

at::Tensor torch_sources(const Planes& planes,
                         const SourceProblem& p,
                         std::int64_t first,
                         std::int64_t count,
                         MemorySpace space) {
  std::vector<at::Tensor> rows;
  for (std::int64_t n = 0; n < p.N; ++n)
    rows.push_back(wrap(planes.view(n, p), space)[0][0].narrow(0, first, count).to(at::kFloat));
  return at::stack(rows, 1);
}

TorchRead torch_read(at::Tensor v, const at::Tensor& wt, double eps) {
  TorchRead read;
  read.v = std::move(v);
  read.r = (read.v.square().mean(-1) + eps).rsqrt();
  read.logits = at::matmul(read.v, wt.t()).transpose(1, 2) * read.r.unsqueeze(1);
  read.lse = read.logits.logsumexp(-1);
  read.p = (read.logits - read.lse.unsqueeze(-1)).exp();
  return read;
}

at::Tensor torch_sum(const at::Tensor& b, const at::Tensor& update, const at::Tensor& sum) {
  sum.copy_(b.to(at::kFloat) + update.to(at::kFloat));
  return sum.to(at::kFloat);
}

}  // namespace attn::attnres
