// The answer of the column reduction and its error bound: how sums over heads and over the parts of
// a ragged problem are put together, and how far a correct backend may be from them.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "reference/colreduce/contract.h"

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

std::int64_t lse_elements(const Problem& p) { return p.lse == Lse::kOut ? p.B * p.H * p.M : 0; }

/// What an element of `out` was reduced from.
struct Counted {
  double queries;
  double divisor;
};

/// Of element `index` of `out`; empty where no part of the problem has it.
std::optional<Counted> counted_at(const Problem& p, std::int64_t index) {
  const auto counted = [](const Problem& of, std::int64_t n) {
    return Counted{static_cast<double>(of.contributing().count()), of.divisor(n)};
  };
  const std::int64_t n = index % p.N;
  if (!p.is_ragged()) return counted(p, n);
  const auto part = ColReduce::part_of(p, index / p.N / p.out_heads(), n);
  if (!part || n >= part->k_first + part->problem.N) return std::nullopt;
  return counted(part->problem, n - part->k_first);
}

}  // namespace

ColReduce::Reference::Reference(std::int64_t outputs, std::int64_t lses)
    : value(at(outputs + lses)),
      drift(at(outputs + lses)),
      stored(at(outputs + lses)),
      square(at(outputs + lses)) {
  std::fill(value.begin() + outputs, value.end(), -std::numeric_limits<double>::infinity());
}

ColReduce::Reference::Reference(const Problem& p)
    : Reference(p.B * p.out_heads() * p.N, lse_elements(p)) {}

ColReduce::Reference ColReduce::Reference::of_columns(const Problem& p) {
  return {p.B * p.H * p.N, lse_elements(p)};
}

void ColReduce::Reference::insert(const Problem& p, const Part& part, const Reference& of_part) {
  const auto copy_rows = [&](std::int64_t heads, std::int64_t rows, std::int64_t from,
                             std::int64_t to, std::int64_t pitch) {
    for (std::int64_t h = 0; h < heads; ++h, from += rows, to += pitch) {
      std::copy_n(of_part.value.begin() + from, rows, value.begin() + to);
      std::copy_n(of_part.drift.begin() + from, rows, drift.begin() + to);
      std::copy_n(of_part.stored.begin() + from, rows, stored.begin() + to);
      std::copy_n(of_part.square.begin() + from, rows, square.begin() + to);
    }
  };
  const std::int64_t out_heads = p.out_heads();
  copy_rows(out_heads, part.problem.N, 0, part.batch * out_heads * p.N + part.k_first, p.N);
  if (p.lse != Lse::kOut) return;
  copy_rows(p.H, part.problem.M, out_heads * part.problem.N,
            (p.B * out_heads) * p.N + part.batch * p.H * p.M + part.q_first, p.M);
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

double ColReduce::tolerance(const Problem& p,
                            const Reference& reference,
                            std::size_t index,
                            NumericsClass numerics) {
  if (index >= static_cast<std::size_t>(p.B * p.out_heads() * p.N))
    return lse_tolerance(p, reference, index, numerics);
  const double value = reference.value[index];
  const double output = unit_roundoff(p.out_dtype) * std::abs(value) + half_subnormal(p.out_dtype);
  if (numerics == NumericsClass::kFp64) return output + 0x1p-40 * std::abs(value);
  const std::optional<Counted> counted = counted_at(p, static_cast<std::int64_t>(index));
  if (!counted) return output;  // nothing is reduced there: 0

  // Terms that are added for one element: queries where they are summed, times heads likewise.
  const bool sums_queries = p.reduction != Reduction::kMax;
  const bool sums_heads = p.heads != Heads::kMax && p.combined_heads() > 1;
  const bool is_one = !sums_queries && !sums_heads;  // one weight, the largest
  const double terms = (sums_queries ? counted->queries : 1) *
                       static_cast<double>(sums_heads ? p.combined_heads() : 1);
  const double sum = value * counted->divisor;
  double bound = reference.drift[index] + terms * kFp32Normal;
  if (!is_one) bound += sum * kWalk * std::sqrt(terms) * kFp32Roundoff;
  if (numerics == NumericsClass::kHalfWeights && p.dtype != DType::kF32) {
    const double walk = is_one ? 1 : kWalk;  // rounded once
    bound += unit_roundoff(DType::kF16) * walk * std::sqrt(reference.square[index]) +
             terms * half_subnormal(DType::kF16) / kLargestHalf;
  }
  if (numerics == NumericsClass::kStored && p.dtype != DType::kF32) {
    const double roundoff = unit_roundoff(p.dtype);
    // At scale 0 all weights of a row are one number, and so are their roundings: no walk.
    const double walk = p.scale == 0 ? sum : kWalk * std::sqrt(reference.square[index]);
    bound += roundoff * (reference.stored[index] + walk) + terms * half_subnormal(p.dtype);
  }
  return output + bound / counted->divisor;
}

}  // namespace attn
