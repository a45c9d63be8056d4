// The framework's baseline: what a PyTorch user writes, tensor by tensor, on a CPU or a GPU.
//
// Computes   scores (matmul, or baddbmm with the scale as its alpha), masked_fill, softmax, a
//            reduction over the queries: eager operators, each with its M x N result in memory.
// Mapping    whatever LibTorch chooses: its matmul library and its own element-wise kernels.
// Memory     two tensors of B H M N at a time in the input type (fp32 on a CPU) from LibTorch's
//            allocator, which the row shows as hidden; besides them copies of q and k where batch
//            and heads do not merge into one stride, and expanded keys for grouped queries.
// Traffic    scores written, read, weights written, read; a mask adds a read and a write: memory
//            bandwidth is the limit.
// Rounding   scores and weights are each rounded once to the input type; the sums are in fp32. On a
//            CPU 16-bit inputs become fp32 first: not every LibTorch multiplies them there.
// Source     PyTorch's documented operators; the formula of reference/colreduce/contract.h.
#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>

#include "impls/common/libtorch_tensors.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;
using Tensors = ColReduce::Tensors;

/// k [B, H_kv, N, D] -> [B, H, N, D], every key head repeated for the query heads that share it.
at::Tensor for_query_heads(const at::Tensor& k, std::int64_t heads) {
  const std::int64_t group = heads / k.size(1);
  if (group == 1) return k;
  return k.unsqueeze(2)
      .expand({k.size(0), k.size(1), group, k.size(2), k.size(3)})
      .reshape({k.size(0), heads, k.size(2), k.size(3)});
}

/// S [B, H, M, N] of q [B, H, M, D] and k [B, H, N, D], rounded once to their type.
at::Tensor scaled_scores(const Problem& p, const at::Tensor& q, const at::Tensor& k) {
  if (q.scalar_type() == at::kFloat) return at::matmul(q * p.scale_value(), k.transpose(-2, -1));
  // 16-bit q times the scale, or 16-bit scores times it, would be rounded once more: alpha acts on
  // the fp32 accumulators.
  const at::Tensor unused = at::empty({1, 1, 1}, q.options());  // beta is 0
  const std::int64_t rows = q.size(2);
  return at::baddbmm(unused, q.reshape({-1, rows, p.D}),
                     k.reshape({-1, p.N, p.D}).transpose(-2, -1),
                     /*beta=*/0,
                     /*alpha=*/p.scale_value())
      .view({p.B, p.H, rows, p.N});
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// P of the scores S, both [B, H, contributing queries, N], under the lse [B, H, M] where the problem
/// has one; writes it where the problem returns it. Hidden scores are -inf.
at::Tensor weights_of(const Problem& p, const at::Tensor& scores, const at::Tensor& lse) {
  if (p.lse == Lse::kNone) return scores.softmax(-1);
  const RowRange rows = p.contributing();
  const at::Tensor own = lse.narrow(2, rows.begin, rows.count());
  if (p.lse == Lse::kIn) {
    const at::Tensor normaliser = own.masked_fill(own.isinf(), kInfinity).unsqueeze(-1);
    return (scores.to(at::kFloat) - normaliser).exp_();
  }
  at::Tensor computed = scores.to(at::kFloat).logsumexp(-1);
  computed.masked_fill_(computed == kInfinity, std::numeric_limits<double>::quiet_NaN());
  own.copy_(computed);
  return scores.softmax(-1);
}

/// P [B, H, contributing queries, N] of the contributing queries q.
at::Tensor attention_weights(const Problem& p,
                             const at::Tensor& q,
                             const at::Tensor& k,
                             const at::Tensor& lse) {
  at::Tensor scores = scaled_scores(p, q, k);
  // In fp32: three more roundings to 16 bits would not be those that the class declares.
  if (p.softcap > 0) scores = scores.to(at::kFloat).div_(p.softcap).tanh_().mul_(p.softcap);
  if (p.mask == Mask::kNone && p.window < 0) return weights_of(p, scores, lse);

  const AttentionMask mask = p.attention_mask();
  const auto index = at::TensorOptions().dtype(at::kLong).device(q.device());
  const RowRange rows = p.contributing();
  const at::Tensor query = at::arange(rows.begin, rows.end, index).unsqueeze(1);
  const at::Tensor key = at::arange(p.N, index);
  at::Tensor unseen = key > query + mask.diagonal;  // [contributing queries, N]
  if (p.window >= 0) unseen.logical_or_(key < query + mask.left);
  scores = scores.masked_fill(unseen, -kInfinity);
  // A row without visible keys, or with a NaN, is NaN under the mask as well: there weights are 0.
  return weights_of(p, scores, lse).masked_fill_(unseen, 0);
}

/// The divisors [N] of a mean.
at::Tensor divisors(const Problem& p, const at::Tensor& like) {
  const auto index = at::TensorOptions().dtype(at::kLong).device(like.device());
  const RowRange rows = p.contributing();
  if (p.mean_over == MeanOver::kAll) return at::full({p.N}, rows.count(), index);
  const AttentionMask mask = p.attention_mask();
  const at::Tensor key = at::arange(p.N, index);
  const at::Tensor begin = (key - mask.diagonal).clamp(rows.begin, rows.end);
  const at::Tensor end = (key - mask.left + 1).clamp(rows.begin, rows.end);
  return (end - begin).clamp_min(1);
}

/// [B, H, N] -> [B, output heads, N], in fp32 where heads are combined.
at::Tensor combine_heads(const Problem& p, const at::Tensor& columns) {
  if (p.combined_heads() == 1) return columns;
  const at::Tensor heads =
      columns.to(at::kFloat).view({p.B, p.out_heads(), p.combined_heads(), p.N});
  if (p.heads == Heads::kMax) return heads.amax(2);
  const at::Tensor sum = heads.sum(2);
  return p.heads == Heads::kMean ? sum / static_cast<double>(p.H) : sum;
}

/// Of a problem that is not ragged.
void reduce_part(const Problem& p, const Tensors& tensors, MemorySpace space) {
  const RowRange rows = p.contributing();
  at::Tensor q = wrap(tensors.q, space).narrow(2, rows.begin, rows.count());
  at::Tensor k = wrap(tensors.k, space);
  if (space == MemorySpace::kHost) {
    q = q.to(at::kFloat);
    k = k.to(at::kFloat);
  }
  const at::Tensor lse = p.lse == Lse::kNone ? at::Tensor() : wrap(tensors.lse, space).squeeze(-1);
  const at::Tensor weights = attention_weights(p, q, for_query_heads(k, p.H), lse);
  at::Tensor columns = p.reduction == Reduction::kMax
                           ? weights.amax(-2)
                           : weights.sum(at::IntArrayRef{-2}, /*keepdim=*/false, at::kFloat);
  columns = combine_heads(p, columns);
  if (p.reduction == Reduction::kMean) columns = columns / divisors(p, columns);
  wrap(tensors.out, space).copy_(columns.unsqueeze(-1));
}

/// The parts one after the other, over outputs that hold what no part writes.
void reduce_columns(const Problem& p, const Tensors& tensors, MemorySpace space) {
  if (p.is_ragged()) wrap(tensors.out, space).zero_();
  if (p.lse == Lse::kOut) wrap(tensors.lse, space).fill_(-kInfinity);
  for (const ColReduce::Part& part : ColReduce::parts(p))
    reduce_part(part.problem, part.slice(tensors), space);
}

Launch plan(const Problem& p, const Tensors& tensors, Workspace, const DeviceInfo& device) {
  const bool on_host = device.space == MemorySpace::kHost;
  const double scores = static_cast<double>(p.B) * static_cast<double>(p.H) *
                        static_cast<double>(p.contributing().count()) * static_cast<double>(p.N);
  const double score_bytes = static_cast<double>(on_host ? sizeof(float) : size_of(p.dtype));
  // An operating system that overcommits would kill the process where the GPU's allocator throws.
  if (device.total_bytes != 0 && 2 * scores * score_bytes > static_cast<double>(device.total_bytes))
    throw std::bad_alloc();
  return torch_launch(device,
                      [p, tensors](MemorySpace space) { reduce_columns(p, tensors, space); });
}

}  // namespace

extern const Backend<ColReduce> libtorch;
constinit const Backend<ColReduce> libtorch = {
    .info = {.id = "libtorch",
             .summary = "PyTorch's operators one by one: matmul, softmax, reduction",
             .memory = MemorySpace::kAny,
             .math = "LibTorch's matmul in the input type, fp32 reduction",
             .numerics = NumericsClass::kStored,
             .deterministic = false},  // PyTorch promises none: its BLAS may split as threads allow
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::colreduce
