// Validation, memory layout, work model and error bound of the column reduction.
#include "reference/colreduce/contract.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace attn {
namespace {

using Problem = ColReduce::Problem;

constexpr double kFp32Roundoff = 0x1p-24;
constexpr double kFp32Normal = 0x1p-126;
/// Standard deviations of a random walk of roundings that a correct backend may reach.
constexpr double kWalk = 4;
/// Where weights pass through fp16: the reference of a row's exponentials makes the largest of a
/// tile this, so that what falls below fp16's normal numbers is small beside it.
constexpr double kLargestHalf = 0x1p8;

/// product *= factor; false when it leaves int64.
bool multiply(std::int64_t& product, std::int64_t factor) {
  return !__builtin_mul_overflow(product, factor, &product);
}

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

/// Sum over the queries m of `rows` of m + shift, cut to [0, N].
double sum_of_bounds(RowRange rows, std::int64_t shift, std::int64_t N) {
  const std::int64_t rising = std::clamp(-shift, rows.begin, rows.end);  // before: 0
  const std::int64_t full = std::clamp(N - shift, rising, rows.end);     // from here: N
  const double count = static_cast<double>(full - rising);
  const double first = static_cast<double>(rising + shift);
  return (count > 0 ? count * (first + (count - 1) / 2) : 0) +
         static_cast<double>(rows.end - full) * static_cast<double>(N);
}

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// Sum or maximum of `count` values from `first` on, `step` apart. NaN enters and stays.
template <class T>
T combine(const std::vector<T>& values,
          std::int64_t first,
          std::int64_t step,
          std::int64_t count,
          bool is_max) {
  T total = values[at(first)];
  for (std::int64_t i = 1; i < count; ++i) {
    const T value = values[at(first + i * step)];
    if (!is_max) {
      total += value;
    } else if (!(value <= total) && !std::isnan(total)) {
      total = value;
    }
  }
  return total;
}

/// Of an element of an lse output, whose own rounding is to fp32.
double lse_tolerance(const Problem& p,
                     const ColReduce::Reference& reference,
                     std::size_t index,
                     NumericsClass numerics) {
  const double magnitude = std::abs(reference.value[index]);
  const double output = unit_roundoff(DType::kF32) * magnitude + half_subnormal(DType::kF32);
  if (numerics == NumericsClass::kFp64) return output + 0x1p-40 * magnitude;
  double bound = reference.drift[index];
  if (numerics == NumericsClass::kStored) bound += unit_roundoff(p.dtype) * reference.stored[index];
  return output + bound;
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

ColReduce::Reference ColReduce::Reference::of_heads(const Problem& p, Reference heads) {
  const std::int64_t combined = p.combined_heads();
  const bool is_max = p.heads == Heads::kMax;
  const std::int64_t elements = p.B * p.out_heads() * p.N;
  for (std::int64_t i = 0; i < elements; ++i) {
    const std::int64_t first = i / p.N * combined * p.N + i % p.N;  // not before i: in place
    heads.value[at(i)] = combine(heads.value, first, p.N, combined, is_max) / p.divisor(i % p.N);
    heads.drift[at(i)] = combine(heads.drift, first, p.N, combined, is_max);
    heads.stored[at(i)] = combine(heads.stored, first, p.N, combined, is_max);
    heads.square[at(i)] = combine(heads.square, first, p.N, combined, is_max);
  }
  const auto close_up = [&](auto& values) {
    values.erase(values.begin() + elements, values.begin() + p.B * p.H * p.N);
  };
  close_up(heads.value);
  close_up(heads.drift);
  close_up(heads.stored);
  close_up(heads.square);
  return heads;
}

void ColReduce::Reference::set_lse(std::size_t at,
                                   double lse,
                                   double row_drift,
                                   double mean_score) {
  value[at] = lse;
  // Without weight, drift is 0 and the value -inf. The normaliser's drift is that of its logarithm.
  const double magnitude = std::isinf(lse) ? 0 : std::abs(lse);
  drift[at] = static_cast<float>(row_drift + 4 * kFp32Roundoff * magnitude);
  stored[at] = static_cast<float>(mean_score);
}

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
  if (!(p.softcap >= 0) || std::isinf(p.softcap))
    return Support::no("softcap must be finite and at least 0 (0 is off)");
  if (p.out_dtype != DType::kF32 && p.out_dtype != p.dtype)
    return Support::no("out_dtype must be f32 or the input type");
  if (!sizes_fit(p)) return Support::no("the shape overflows 64-bit addresses");
  if (Support s = validate_query_range(p); !s) return s;
  if (p.window < -1)
    return Support::no("window must be -1 or at least 0, not " + std::to_string(p.window));
  if (Support s = validate_strides("q_strides", {p.B, p.H, p.M, p.D}, p.q_strides); !s) return s;
  return validate_strides("k_strides", {p.B, p.key_heads(), p.N, p.D}, p.k_strides);
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

Work ColReduce::work(const Problem& p) {
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
  const std::int64_t lse_rows = p.lse == Lse::kNone  ? 0
                                : p.lse == Lse::kOut ? p.M
                                                     : rows.end - first_seeing;
  return {.mma_flops = 2 * heads * pairs * static_cast<double>(p.D),
          .exponentials = heads * pairs,
          .bytes = heads * static_cast<double>(rows.end - first_seeing) * row_bytes +
                   key_heads * seen_keys * row_bytes +
                   heads * static_cast<double>(lse_rows) * sizeof(float) +
                   static_cast<double>(p.B * p.out_heads()) * static_cast<double>(p.N) *
                       static_cast<double>(size_of(p.out_dtype))};
}

double ColReduce::tolerance(const Problem& p,
                            const Reference& reference,
                            std::size_t index,
                            NumericsClass numerics) {
  if (index >= static_cast<std::size_t>(p.B * p.out_heads() * p.N))
    return lse_tolerance(p, reference, index, numerics);
  const double value = reference.value[index];
  const double divisor = p.divisor(static_cast<std::int64_t>(index) % p.N);
  const double output = unit_roundoff(p.out_dtype) * std::abs(value) + half_subnormal(p.out_dtype);
  if (numerics == NumericsClass::kFp64) return output + 0x1p-40 * std::abs(value);

  // Terms that are added for one element: queries where they are summed, times heads likewise.
  const bool sums_queries = p.reduction != Reduction::kMax;
  const bool sums_heads = p.heads != Heads::kMax && p.combined_heads() > 1;
  const bool is_one = !sums_queries && !sums_heads;  // one weight, the largest
  const double terms = static_cast<double>(sums_queries ? p.contributing().count() : 1) *
                       static_cast<double>(sums_heads ? p.combined_heads() : 1);
  const double sum = value * divisor;
  double bound = reference.drift[index] + terms * kFp32Normal;
  if (!is_one) bound += sum * kWalk * std::sqrt(terms) * kFp32Roundoff;
  if (numerics == NumericsClass::kHalfWeights && p.dtype != DType::kF32) {
    const double walk = is_one ? 1 : kWalk;  // rounded once
    bound += unit_roundoff(DType::kF16) * walk * std::sqrt(reference.square[index]) +
             terms * half_subnormal(DType::kF16) / kLargestHalf;
  }
  if (numerics == NumericsClass::kStored && p.dtype != DType::kF32) {
    const double roundoff = unit_roundoff(p.dtype);
    bound += roundoff * (reference.stored[index] + kWalk * std::sqrt(reference.square[index])) +
             terms * half_subnormal(p.dtype);
  }
  return output + bound / divisor;
}

}  // namespace attn
