// Tensors, work and suites of the backward of the merge of two reads.
#include "reference/attnres_merge_pair_bwd/contract.h"

#include "reference/attnres/suites.h"

namespace attn {

using attnres::Option;

std::vector<TensorSpec> AttnResMergePairBwd::tensor_specs(const Problem& p) {
  const auto plane = [&](std::string_view name, TensorRole role) {
    return attnres::dense(name, role, p.dtype, 1, p, p.D);
  };
  const auto scalar = [&](std::string_view name, TensorRole role) {
    return attnres::dense(name, role, DType::kF32, 1, p, 1);
  };
  std::vector<TensorSpec> specs = {
      plane("read_a", TensorRole::kKey), scalar("z_a", TensorRole::kQuery),
      plane("read_b", TensorRole::kKey), scalar("z_b", TensorRole::kQuery),
      plane("dout", TensorRole::kQuery)};
  if (p.dlse == Option::kOn) specs.push_back(scalar("dlse", TensorRole::kQuery));
  for (const char* name : {"dread_a", "dread_b"}) specs.push_back(plane(name, TensorRole::kOutput));
  for (const char* name : {"dz_a", "dz_b"}) specs.push_back(scalar(name, TensorRole::kOutput));
  return specs;
}

AttnResMergePairBwd::Tensors AttnResMergePairBwd::bind(const Problem& p,
                                                       std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Tensors t;
  std::vector<TensorView*> views = {&t.read_a, &t.z_a, &t.read_b, &t.z_b, &t.dout};
  if (p.dlse == Option::kOn) views.push_back(&t.dlse);
  for (TensorView* view : {&t.dread_a, &t.dread_b, &t.dz_a, &t.dz_b}) views.push_back(view);
  for (std::size_t i = 0; i < views.size(); ++i) *views[i] = specs[i].bind(storage[i]);
  return t;
}

Work AttnResMergePairBwd::work(const Problem& p) {
  const auto tokens = static_cast<double>(p.tokens());
  return {.mma_flops = tokens * static_cast<double>(p.D) * 5,
          .exponentials = tokens,
          .bytes = attnres::plane_bytes(p, 5, p.dtype) +
                   attnres::scalar_bytes(p, p.dlse == Option::kOn ? 5 : 4)};
}

std::vector<Suite<AttnResMergePairBwd::Problem>> AttnResMergePairBwd::suites() {
  std::vector<Suite<Problem>> suites = attnres::pair_suites<Problem>();
  auto& edge = suites.back().cases;
  for (std::size_t i = 1; i < edge.size(); i += 2) edge[i].problem.dlse = Option::kOn;
  return suites;
}

}  // namespace attn
