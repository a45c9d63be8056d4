// A read over depth with LibTorch's operators, on a chunk of tokens in fp32.
#pragma once

#include "impls/common/libtorch_tensors.h"
#include "reference/attnres/contract.h"

namespace attn::attnres {

/// Tokens whose fp32 copies take about 256 MB, for `rows` rows a token.
std::int64_t torch_chunk(const PlaneProblem& p, std::int64_t rows);

/// Rows [first, first + count) of a dense tensor [planes, tokens, D] or of [tokens, D].
at::Tensor token_rows(const TensorView& view, MemorySpace space, const PlaneProblem& p);

/// Rows of the tokens [first, first + count) of any dense tensor [tokens, width].
struct TokenChunk {
  const PlaneProblem& p;
  std::int64_t first, count;
  MemorySpace space;

  at::Tensor operator()(const TensorView& view) const {
    return token_rows(view, space, p)[0].narrow(0, first, count);
  }
};

struct TorchRead {
  at::Tensor v;       ///< [tokens, N, D] fp32
  at::Tensor r;       ///< [tokens, N]
  at::Tensor logits;  ///< [tokens, S, N]
  at::Tensor lse;     ///< [tokens, S]
  at::Tensor p;       ///< [tokens, S, N]
};

/// The sources of tokens [first, first + count): [tokens, N, D] in fp32.
at::Tensor torch_sources(const Planes& planes,
                         const SourceProblem& p,
                         std::int64_t first,
                         std::int64_t count,
                         MemorySpace space);

/// The read of those by the queries wt [S, D] in fp32.
TorchRead torch_read(at::Tensor v, const at::Tensor& wt, double eps);

/// b + update, rounded to `sum` and read back in fp32.
at::Tensor torch_sum(const at::Tensor& b, const at::Tensor& update, const at::Tensor& sum);

}  // namespace attn::attnres
