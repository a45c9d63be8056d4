// Memory layout, parts and work model of the column reduction.
#include "reference/colreduce/contract.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace attn {
namespace {

using Problem = ColReduce::Problem;

Extents dense_strides(std::int64_t heads, std::int64_t rows, std::int64_t D) {
  return {heads * rows * D, rows * D, D, 1};
}

/// Strides of q (or k) under the problem's layout; `heads` and `rows` are the tensor's own.
Extents layout_strides(const Problem& p, std::int64_t heads, std::int64_t rows) {
  const std::int64_t slot_row = (p.H + 2 * p.key_heads()) * p.D;  // a row of the fused projection
  switch (p.layout) {
    case Layout::kHeadMajor:
      break;
    case Layout::kRowMajor:
      return {rows * heads * p.D, p.D, heads * p.D, 1};
    case Layout::kFusedSlice:
      return {rows * slot_row, p.D, slot_row, 1};
  }
  return dense_strides(heads, rows, p.D);
}

TensorSpec input_spec(const Problem& p, TensorRole role) {
  const bool is_key = role == TensorRole::kKey;
  const std::int64_t heads = is_key ? p.key_heads() : p.H;
  const std::int64_t rows = is_key ? p.N : p.M;
  const Extents& given = is_key ? p.k_strides : p.q_strides;
  TensorSpec spec{.name = is_key ? "k" : "q",
                  .role = role,
                  .dtype = p.dtype,
                  .shape = {p.B, heads, rows, p.D},
                  .strides = given == Extents{} ? layout_strides(p, heads, rows) : given};
  if (is_key && given == Extents{} && p.layout == Layout::kFusedSlice)
    spec.offset_elements = p.H * p.D;  // behind the query heads of the same row
  spec.storage_elements = spec.offset_elements + 1;
  for (std::size_t axis = 0; axis < spec.shape.size(); ++axis)
    spec.storage_elements += (spec.shape[axis] - 1) * spec.strides[axis];
  return spec;
}

/// Sum over the queries m of `rows` of m + shift, cut to [0, N].
double sum_of_bounds(RowRange rows, std::int64_t shift, std::int64_t N) {
  const std::int64_t rising = std::clamp(-shift, rows.begin, rows.end);  // before: 0
  const std::int64_t full = std::clamp(N - shift, rising, rows.end);     // from here: N
  const double count = static_cast<double>(full - rising);
  const double first = static_cast<double>(rising + shift);
  return (count > 0 ? count * (first + (count - 1) / 2) : 0) +
         static_cast<double>(rows.end - full) * static_cast<double>(N);
}

/// Of a problem that is not ragged, without its outputs.
Work work_of_part(const Problem& p) {
  const AttentionMask mask = p.attention_mask();
  const RowRange rows = p.contributing();
  const bool sees = mask.left <= mask.diagonal;  // else no query sees anything
  const double pairs =                           // visible, of one head
      sees ? sum_of_bounds(rows, mask.diagonal + 1, p.N) - sum_of_bounds(rows, mask.left, p.N) : 0;
  const std::int64_t first_seeing =
      sees ? std::clamp(-mask.diagonal, rows.begin, rows.end) : rows.end;
  const double heads = static_cast<double>(p.B) * static_cast<double>(p.H);
  const double row_bytes = static_cast<double>(p.D) * static_cast<double>(size_of(p.dtype));
  const double key_heads = static_cast<double>(p.B) * static_cast<double>(p.key_heads());
  const double seen_keys =
      pairs > 0 ? static_cast<double>(mask.key_end(rows.end - 1) - mask.key_begin(first_seeing))
                : 0;
  const std::int64_t given_rows = p.lse == Lse::kIn ? rows.end - first_seeing : 0;
  return {.mma_flops = 2 * heads * pairs * static_cast<double>(p.D),
          .exponentials = heads * pairs,
          .bytes = heads * static_cast<double>(rows.end - first_seeing) * row_bytes +
                   key_heads * seen_keys * row_bytes +
                   heads * static_cast<double>(given_rows) * sizeof(float)};
}

/// Sequence `i` of a ragged problem; empty where nothing is reduced.
std::optional<ColReduce::Part> sequence(const Problem& p, std::int64_t i) {
  const auto index = static_cast<std::size_t>(i);
  ColReduce::Part part{.problem = p};
  Problem& own = part.problem;
  own.B = 1;
  if (p.is_packed()) {
    part.q_first = p.cu_q[index];
    part.k_first = p.cu_k[index];
    own.M = p.cu_q[index + 1] - part.q_first;
    own.N = p.cu_k[index + 1] - part.k_first;
  } else {
    part.batch = i;
    if (!p.q_len.empty()) own.M = p.q_len[index];
    if (!p.kv_len.empty()) own.N = p.kv_len[index];
  }
  for (auto* list : {&own.q_len, &own.kv_len, &own.cu_q, &own.cu_k}) list->clear();
  own.query_begin = p.query_begin < 0 ? std::max<std::int64_t>(own.M + p.query_begin, 0)
                                      : std::min(p.query_begin, own.M);
  own.query_end = p.query_end < 0 ? own.M : std::min(p.query_end, own.M);
  if (own.query_begin >= own.query_end || own.N == 0) return std::nullopt;
  return part;
}

std::int64_t sequences(const Problem& p) {
  return p.is_packed() ? static_cast<std::int64_t>(p.cu_q.size()) - 1 : p.B;
}

}  // namespace

std::int64_t ColReduce::Problem::out_heads() const {
  if (heads == Heads::kEach) return H;
  return heads == Heads::kGroup ? key_heads() : 1;
}

double ColReduce::Problem::scale_value() const {
  return std::isnan(scale) ? 1.0 / std::sqrt(static_cast<double>(D)) : scale;
}

RowRange ColReduce::Problem::contributing() const {
  const std::int64_t begin = query_begin < 0 ? query_begin + M : query_begin;
  return {begin, query_end < 0 ? M : query_end};
}

AttentionMask ColReduce::Problem::contributing_mask() const {
  const RowRange queries = contributing();
  AttentionMask mask = attention_mask();
  mask.M = queries.count();
  mask.diagonal += queries.begin;
  mask.left += queries.begin;
  return mask;
}

RowRange ColReduce::Problem::contributing(std::int64_t n) const {
  const RowRange all = contributing();
  const AttentionMask mask = attention_mask();
  const std::int64_t begin = std::clamp(mask.query_begin(n), all.begin, all.end);
  return {begin, std::clamp(mask.query_end(n), begin, all.end)};
}

double ColReduce::Problem::divisor(std::int64_t n) const {
  const auto averaged = static_cast<double>(heads == Heads::kMean ? H : 1);
  if (reduction != Reduction::kMean) return averaged;
  const RowRange counted = mean_over == MeanOver::kAll ? contributing() : contributing(n);
  const std::int64_t count = counted.count();
  return averaged * static_cast<double>(std::max<std::int64_t>(count, 1));
}

std::vector<TensorSpec> ColReduce::tensor_specs(const Problem& p) {
  TensorSpec out{.name = "out",
                 .role = TensorRole::kOutput,
                 .dtype = p.out_dtype,
                 .shape = {p.B, p.out_heads(), p.N, 1},
                 .strides = {p.out_heads() * p.N, p.N, 1, 1}};
  out.storage_elements = out.elements();
  std::vector<TensorSpec> specs = {input_spec(p, TensorRole::kQuery),
                                   input_spec(p, TensorRole::kKey), out};
  if (p.lse != Lse::kNone)
    specs.push_back({.name = "lse",
                     .role = p.lse == Lse::kIn ? TensorRole::kGiven : TensorRole::kOutput,
                     .shape = {p.B, p.H, p.M, 1},
                     .strides = {p.H * p.M, p.M, 1, 1},
                     .storage_elements = p.B * p.H * p.M});
  return specs;
}

ColReduce::Tensors ColReduce::bind(const Problem& p, std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Tensors tensors{specs[0].bind(storage[0]), specs[1].bind(storage[1]), specs[2].bind(storage[2])};
  if (p.lse != Lse::kNone) tensors.lse = specs[3].bind(storage[3]);
  return tensors;
}

std::vector<ColReduce::Part> ColReduce::parts(const Problem& p) {
  std::vector<Part> parts;
  if (!p.is_ragged()) {
    parts.emplace_back().problem = p;
    return parts;
  }
  for (std::int64_t i = 0; i < sequences(p); ++i) {
    if (auto part = sequence(p, i)) parts.push_back(std::move(*part));
  }
  return parts;
}

std::optional<ColReduce::Part> ColReduce::part_of(const Problem& p,
                                                  std::int64_t batch,
                                                  std::int64_t n) {
  if (!p.is_packed()) return sequence(p, batch);
  // The last sequence that begins at n or before: sequences without keys come before those with.
  return sequence(p, std::upper_bound(p.cu_k.begin(), p.cu_k.end(), n) - p.cu_k.begin() - 1);
}

ColReduce::Tensors ColReduce::Part::slice(const Tensors& whole) const {
  const auto rows = [&](TensorView view, std::int64_t first, std::int64_t count) {
    if (!view.data) return view;
    const std::int64_t bytes =
        view.offset(batch, 0, first) * static_cast<std::int64_t>(size_of(view.dtype));
    view.data = static_cast<char*>(view.data) + bytes;
    view.shape[0] = problem.B;
    view.shape[2] = count;
    return view;
  };
  return {rows(whole.q, q_first, problem.M), rows(whole.k, k_first, problem.N),
          rows(whole.out, k_first, problem.N), rows(whole.lse, q_first, problem.M)};
}

Work ColReduce::work(const Problem& p) {
  const double out_elements = static_cast<double>(p.B * p.out_heads()) * static_cast<double>(p.N);
  const double lse_rows = p.lse == Lse::kOut ? static_cast<double>(p.B * p.H * p.M) : 0;
  Work total{.bytes = out_elements * static_cast<double>(size_of(p.out_dtype)) +
                      lse_rows * sizeof(float)};
  for (const Part& part : parts(p)) {
    const Work work = work_of_part(part.problem);
    total.mma_flops += work.mma_flops;
    total.exponentials += work.exponentials;
    total.bytes += work.bytes;
  }
  return total;
}

}  // namespace attn
