// What a problem of the column reduction must hold, one clear sentence each.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "reference/colreduce/contract.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;

/// product *= factor; false when it leaves int64.
bool multiply(std::int64_t& product, std::int64_t factor) {
  return !__builtin_mul_overflow(product, factor, &product);
}

/// Whether shape and strides of a tensor keep every byte offset inside int64, with room to spare.
bool addressable(const Extents& shape, const Extents& strides) {
  std::int64_t span = 16;  // bytes per element, generously
  std::int64_t elements = 16;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    std::int64_t reach = 16;
    if (!multiply(elements, shape[axis]) || !multiply(reach, shape[axis]) ||
        !multiply(reach, std::max<std::int64_t>(strides[axis], 1)) ||
        __builtin_add_overflow(span, reach, &span))
      return false;
  }
  return true;
}

/// Whether no two elements share memory, apart from repeats along axes of stride 0.
bool disjoint(const Extents& shape, const Extents& strides) {
  std::array<std::pair<std::int64_t, std::int64_t>, kMaxRank> axes;  // stride, extent
  for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = {strides[i], shape[i]};
  std::sort(axes.begin(), axes.end());
  std::int64_t occupied = 1;
  for (const auto& [stride, extent] : axes) {
    if (stride == 0 || extent == 1) continue;
    if (stride < occupied) return false;
    occupied = stride * extent;
  }
  return true;
}

Support validate_strides(std::string_view name, const Extents& shape, const Extents& strides) {
  if (strides == Extents{}) return Support::yes();
  if (strides[3] != 1)
    return Support::no(std::string(name) + " must have a D stride of 1, not " +
                       std::to_string(strides[3]));
  if (std::any_of(strides.begin(), strides.end(), [](std::int64_t s) { return s < 0; }))
    return Support::no(std::string(name) + " must not be negative");
  if (!addressable(shape, strides))
    return Support::no(std::string(name) + " overflows 64-bit addresses");
  if (!disjoint(shape, strides))
    return Support::no(std::string(name) + " must not make elements overlap (0 repeats an axis)");
  return Support::yes();
}

bool sizes_fit(const Problem& p) {
  std::int64_t pairs = 1;
  std::int64_t row = 3;
  if (!multiply(pairs, p.B) || !multiply(pairs, p.H) || !multiply(pairs, p.M) ||
      !multiply(pairs, p.N) || !multiply(row, p.H) || !multiply(row, p.D))
    return false;
  for (const std::int64_t rows : {p.M, p.N}) {  // a row of the widest layout bounds every stride
    std::int64_t batch = row;
    if (!multiply(batch, rows)) return false;
    if (!addressable({p.B, p.H, rows, p.D}, {batch, batch, row, 1})) return false;
  }
  return true;
}

Support validate_query_range(const Problem& p) {
  if (p.query_begin < -p.M || p.query_begin >= p.M)
    return Support::no("query_begin must be at least -M and below M, not " +
                       std::to_string(p.query_begin));
  if (p.query_end != -1 && (p.query_end < 1 || p.query_end > p.M))
    return Support::no("query_end must be -1 or lie between 1 and M, not " +
                       std::to_string(p.query_end));
  const RowRange rows = p.contributing();
  if (rows.begin >= rows.end)
    return Support::no("query_begin must be below query_end, not " + std::to_string(rows.begin) +
                       " and " + std::to_string(rows.end));
  return Support::yes();
}

/// Lengths of padded batches: one a batch, each from 0 to `rows`.
Support validate_lengths(const std::string& name,
                         const std::vector<std::int64_t>& lengths,
                         std::int64_t batches,
                         std::string_view rows_name,
                         std::int64_t rows) {
  if (lengths.empty()) return Support::yes();
  if (static_cast<std::int64_t>(lengths.size()) != batches)
    return Support::no(name + " must have one length per batch, not " +
                       std::to_string(lengths.size()) + " for B = " + std::to_string(batches));
  for (const std::int64_t length : lengths) {
    if (length < 0 || length > rows)
      return Support::no(name + " must lie between 0 and " + std::string(rows_name) + ", not " +
                         std::to_string(length));
  }
  return Support::yes();
}

/// Prefix sums of packed sequences: from 0 to `rows`, never falling.
Support validate_prefix_sums(const std::string& name,
                             const std::vector<std::int64_t>& sums,
                             std::string_view rows_name,
                             std::int64_t rows) {
  if (sums.size() < 2 || sums.front() != 0)
    return Support::no(name + " must begin with 0 and have one more number per sequence");
  if (!std::is_sorted(sums.begin(), sums.end())) return Support::no(name + " must never fall");
  if (sums.back() != rows)
    return Support::no(name + " must end with " + std::string(rows_name) + ", not " +
                       std::to_string(sums.back()));
  return Support::yes();
}

/// Whether a tensor is what the problem says of it.
Support validate_view(const TensorSpec& spec, const TensorView& view) {
  const std::string name(spec.name);
  if (!view.data) return Support::no(name + " must have data");
  if (view.dtype != spec.dtype)
    return Support::no(name + " must be of type " +
                       std::string(kDTypeNames[static_cast<std::size_t>(spec.dtype)]));
  if (view.shape != spec.shape)
    return Support::no(name + " must have the shape " + strides_text(spec.shape) + ", not " +
                       strides_text(view.shape));
  if (view.strides != spec.strides)
    return Support::no(name + " must have the strides " + strides_text(spec.strides) + ", not " +
                       strides_text(view.strides));
  return Support::yes();
}

Support validate_packing(const Problem& p) {
  if (p.cu_q.empty() && p.cu_k.empty()) return Support::yes();
  if (p.cu_q.size() != p.cu_k.size())
    return Support::no("cu_q and cu_k must have as many numbers, not " +
                       std::to_string(p.cu_q.size()) + " and " + std::to_string(p.cu_k.size()));
  if (!p.q_len.empty() || !p.kv_len.empty())
    return Support::no("q_len and kv_len must be none where cu_q and cu_k pack sequences");
  if (p.B != 1)
    return Support::no("B must be 1 where cu_q and cu_k pack sequences, not " +
                       std::to_string(p.B));
  if (Support s = validate_prefix_sums("cu_q", p.cu_q, "M", p.M); !s) return s;
  return validate_prefix_sums("cu_k", p.cu_k, "N", p.N);
}

}  // namespace

Support ColReduce::validate(const Problem& p) {
  const std::pair<const char*, std::int64_t> sizes[] = {
      {"B", p.B}, {"H", p.H}, {"M", p.M}, {"N", p.N}, {"D", p.D}};
  for (const auto& [name, value] : sizes) {
    if (value < 1)
      return Support::no(std::string(name) + " must be at least 1, not " + std::to_string(value));
  }
  if (p.H_kv < 0 || p.H % p.key_heads() != 0)
    return Support::no("H must be a multiple of H_kv, not " + std::to_string(p.H) + " and " +
                       std::to_string(p.H_kv));
  if (std::isinf(p.scale)) return Support::no("scale must be finite");
  // Beyond, fp32 holds no quotient of a score and the cap.
  if (p.softcap != 0 && !(p.softcap >= 0x1p-60 && p.softcap <= 0x1p60))
    return Support::no("softcap must be 0 (off) or lie between 2^-60 and 2^60");
  if (p.out_dtype != DType::kF32 && p.out_dtype != p.dtype)
    return Support::no("out_dtype must be f32 or the input type");
  if (!sizes_fit(p)) return Support::no("the shape overflows 64-bit addresses");
  if (Support s = validate_query_range(p); !s) return s;
  if (p.window < -1)
    return Support::no("window must be -1 or at least 0, not " + std::to_string(p.window));
  if (Support s = validate_lengths("q_len", p.q_len, p.B, "M", p.M); !s) return s;
  if (Support s = validate_lengths("kv_len", p.kv_len, p.B, "N", p.N); !s) return s;
  if (Support s = validate_packing(p); !s) return s;
  if (Support s = validate_strides("q_strides", {p.B, p.H, p.M, p.D}, p.q_strides); !s) return s;
  return validate_strides("k_strides", {p.B, p.key_heads(), p.N, p.D}, p.k_strides);
}

Support ColReduce::validate(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  const TensorView* views[] = {&tensors.q, &tensors.k, &tensors.out, &tensors.lse};
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (Support s = validate_view(specs[i], *views[i]); !s) return s;
  }
  const auto* lse = static_cast<const float*>(tensors.lse.data);
  if (p.lse == Lse::kIn && std::any_of(lse, lse + p.B * p.H * p.M, [](float x) { return x != x; }))
    return Support::no("lse must not hold NaN");
  return Support::yes();
}

}  // namespace attn
