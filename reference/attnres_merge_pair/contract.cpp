// Tensors, work and suites of the merge of two reads.
#include "reference/attnres_merge_pair/contract.h"

#include "reference/attnres/suites.h"

namespace attn {

std::vector<TensorSpec> AttnResMergePair::tensor_specs(const Problem& p) {
  using attnres::dense;
  return {dense("read_a", TensorRole::kKey, p.dtype, 1, p, p.D),
          dense("z_a", TensorRole::kQuery, DType::kF32, 1, p, 1),
          dense("read_b", TensorRole::kKey, p.dtype, 1, p, p.D),
          dense("z_b", TensorRole::kQuery, DType::kF32, 1, p, 1),
          dense("out", TensorRole::kOutput, p.dtype, 1, p, p.D),
          dense("lse", TensorRole::kOutput, DType::kF32, 1, p, 1)};
}

AttnResMergePair::Tensors AttnResMergePair::bind(const Problem& p, std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  const auto view = [&](std::size_t i) { return specs[i].bind(storage[i]); };
  return {.read_a = view(0),
          .z_a = view(1),
          .read_b = view(2),
          .z_b = view(3),
          .out = view(4),
          .lse = view(5)};
}

Work AttnResMergePair::work(const Problem& p) {
  const auto tokens = static_cast<double>(p.tokens());
  return {.mma_flops = tokens * static_cast<double>(p.D) * 3,
          .exponentials = tokens,
          .bytes = attnres::plane_bytes(p, 3, p.dtype) + attnres::scalar_bytes(p, 3)};
}

std::vector<Suite<AttnResMergePair::Problem>> AttnResMergePair::suites() {
  return attnres::pair_suites<Problem>();
}

}  // namespace attn
