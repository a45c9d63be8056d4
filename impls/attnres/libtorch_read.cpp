// LibTorch's operators for a read over depth.
#include "impls/attnres/libtorch_read.h"

#include <algorithm>
#include <vector>

namespace attn::attnres {

std::int64_t torch_chunk(const PlaneProblem& p, std::int64_t rows) {
  constexpr std::int64_t kFloats = std::int64_t{1} << 26;
  return std::clamp<std::int64_t>(kFloats / (rows * p.D), 1, std::max<std::int64_t>(p.tokens(), 1));
}

at::Tensor token_rows(const TensorView& view, MemorySpace space, const PlaneProblem& p) {
  return wrap(view, space).reshape({view.shape[0], p.tokens(), view.shape[3]});
}

TorchRead torch_read(const Planes& planes,
                     const ReadProblem& p,
                     const at::Tensor& wt,
                     std::int64_t first,
                     std::int64_t count,
                     MemorySpace space) {
  std::vector<at::Tensor> rows;
  for (std::int64_t n = 0; n < p.N; ++n)
    rows.push_back(wrap(planes.view(n, p), space)[0][0].narrow(0, first, count).to(at::kFloat));
  TorchRead read;
  read.v = at::stack(rows, 1);
  read.r = (read.v.square().mean(-1) + p.eps).rsqrt();
  read.logits = at::matmul(read.v, wt.t()).transpose(1, 2) * read.r.unsqueeze(1);
  read.lse = read.logits.logsumexp(-1);
  read.p = (read.logits - read.lse.unsqueeze(-1)).exp();
  return read;
}

}  // namespace attn::attnres
