// Layout, checks and tolerances that the operators of the family share.
#include "reference/attnres/contract.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace attn::attnres {

DType resolve(TypeChoice choice, DType automatic) {
  if (choice == TypeChoice::kAuto) return automatic;
  return static_cast<DType>(static_cast<int>(choice) - 1);
}

ReadProblem one_query(const SourceProblem& p) {
  ReadProblem read;
  static_cast<SourceProblem&>(read) = p;
  read.S = 1;
  return read;
}

TensorView Planes::view(std::int64_t n, const PlaneProblem& p) const {
  return {data[static_cast<std::size_t>(n)], dtype, {1, 1, p.tokens(), p.D}, {0, 0, stride, 1}};
}

TensorSpec dense(std::string_view name,
                 TensorRole role,
                 DType dtype,
                 std::int64_t planes,
                 const PlaneProblem& p,
                 std::int64_t width) {
  return {.name = name,
          .role = role,
          .dtype = dtype,
          .shape = {planes, p.B, p.T, width},
          .strides = {p.tokens() * width, p.T * width, width, 1},
          .storage_elements = planes * p.tokens() * width};
}

TensorSpec source_plane(const SourceProblem& p) {
  TensorSpec plane = dense("v", TensorRole::kKey, p.dtype, 1, p, p.D);
  const std::int64_t stride = p.source_stride();
  plane.strides = {p.tokens() * stride, p.T * stride, stride, 1};
  plane.storage_elements = p.tokens() == 0 ? 0 : (p.tokens() - 1) * stride + p.D;
  return plane;
}

TensorSpec queries(const TokenProblem& p, std::int64_t S) {
  const int exponent = std::ilogb(static_cast<double>(p.D) - 0.5) + 1;  // 2^exponent >= D
  return {.name = "wt",
          .role = TensorRole::kQuery,
          .dtype = p.query_type(),
          .shape = {1, 1, S, p.D},
          .strides = {S * p.D, S * p.D, p.D, 1},
          .storage_elements = S * p.D,
          .scale = std::ldexp(1.0f, -(exponent + 1) / 2)};
}

TensorSpec query_gradient(const TokenProblem& p, std::int64_t S, Store store) {
  TensorSpec spec = queries(p, S);
  spec.name = "dwt";
  spec.role = store == Store::kAdd ? TensorRole::kInOut : TensorRole::kOutput;
  spec.dtype = DType::kF32;
  return spec;
}

TensorSpec norm_weight(const TokenProblem& p) {
  TensorSpec spec = queries(p, 1);
  spec.name = "gamma";
  spec.scale = 1;
  return spec;
}

TensorSpec norm_weight_gradient(const TokenProblem& p, Store store) {
  TensorSpec spec = query_gradient(p, 1, store);
  spec.name = "dgamma";
  return spec;
}

void append_planes(std::vector<TensorSpec>& specs, TensorSpec plane, const SourceProblem& p) {
  if (p.sources == Sources::kList) {
    for (std::int64_t n = 0; n < p.N; ++n) {
      plane.plane = n;
      specs.push_back(plane);
    }
    return;
  }
  plane.shape[0] = p.N;
  plane.strides[0] = plane.storage_elements;
  plane.storage_elements *= p.N;
  specs.push_back(plane);
}

Planes bind_planes(std::span<const TensorSpec> specs,
                   std::span<void* const> storage,
                   const SourceProblem& p,
                   std::size_t& first) {
  Planes planes{.stride = specs[first].strides[2], .dtype = specs[first].dtype};
  for (std::int64_t n = 0; n < p.N; ++n) {
    const bool list = p.sources == Sources::kList;
    const std::size_t tensor = first + static_cast<std::size_t>(list ? n : 0);
    const std::int64_t offset = list ? 0 : n * specs[tensor].strides[0];
    planes.data[static_cast<std::size_t>(n)] =
        static_cast<char*>(specs[tensor].bind(storage[tensor]).data) +
        offset * static_cast<std::int64_t>(size_of(planes.dtype));
  }
  first += p.sources == Sources::kList ? static_cast<std::size_t>(p.N) : 1;
  return planes;
}

void append_specs(std::vector<TensorSpec>& specs, const std::vector<BoundSpec>& tensors) {
  for (const BoundSpec& tensor : tensors) specs.push_back(tensor.spec);
}

void bind_specs(const std::vector<BoundSpec>& tensors,
                std::span<void* const> storage,
                std::size_t& first) {
  for (const BoundSpec& tensor : tensors) *tensor.view = tensor.spec.bind(storage[first++]);
}

Support validate_planes(const PlaneProblem& p) {
  constexpr std::int64_t kMaxTokens = std::int64_t{1} << 40;
  if (p.B < 0 || p.T < 0) return Support::no("B and T must be at least 0");
  if (p.D < 1 || p.D > kMaxWidth) return Support::no("D must be between 1 and 16384");
  if (p.B > kMaxTokens || p.T > kMaxTokens / std::max<std::int64_t>(p.B, 1))
    return Support::no("B * T must be at most 2^40");
  return Support::yes();
}

Support validate_tokens(const TokenProblem& p) {
  if (Support planes = validate_planes(p); !planes) return planes;
  if (!(p.eps > 0)) return Support::no("eps must be above 0");
  return Support::yes();
}

Support validate_sources(const SourceProblem& p) {
  if (Support tokens = validate_tokens(p); !tokens) return tokens;
  if (p.N < 1 || p.N > kMaxSources) return Support::no("N must be between 1 and 128");
  if (p.source_stride() < p.D || p.source_stride() > 2 * kMaxWidth)
    return Support::no("token_stride must be 0 or between D and 32768");
  return Support::yes();
}

Support validate_read(const ReadProblem& p) {
  if (p.S < 1 || p.S > kMaxQueries) return Support::no("S must be between 1 and 64");
  return validate_sources(p);
}

Support validate_norm(const NormFields& p) {
  if (!(p.norm_eps > 0)) return Support::no("norm_eps must be above 0");
  return Support::yes();
}

double plane_bytes(const PlaneProblem& p, std::int64_t planes, DType dtype) {
  return static_cast<double>(planes) * static_cast<double>(p.tokens()) * static_cast<double>(p.D) *
         static_cast<double>(size_of(dtype));
}

double scalar_bytes(const PlaneProblem& p, std::int64_t scalars) {
  return static_cast<double>(scalars) * static_cast<double>(p.tokens()) * sizeof(float);
}

double query_bytes(const TokenProblem& p, std::int64_t S) {
  return static_cast<double>(S * p.D) * static_cast<double>(size_of(p.query_type()));
}

double query_gradient_bytes(const TokenProblem& p, std::int64_t S, Store store) {
  return static_cast<double>(S * p.D) * sizeof(float) * (store == Store::kAdd ? 2 : 1);
}

std::vector<Reference::Output> Reference::outputs_of(std::span<const TensorSpec> specs,
                                                     std::size_t first_gradient) {
  std::vector<Output> outputs;
  std::size_t elements = 0;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (!is_written(specs[i].role)) continue;
    elements += static_cast<std::size_t>(specs[i].elements());
    outputs.push_back({elements, specs[i].dtype, i >= first_gradient});
  }
  return outputs;
}

Reference::Reference(std::span<const TensorSpec> specs, std::size_t first_gradient)
    : outputs(outputs_of(specs, first_gradient)) {
  value.resize(outputs.back().end);
  error.resize(outputs.back().end);
}

Reference::Reference(std::vector<Output> of,
                     std::shared_ptr<const DeviceAnswer> answer,
                     std::vector<Squares> squares)
    : outputs(std::move(of)), on_device(std::move(answer)), squares_on_device(std::move(squares)) {}

Reference::Squares Reference::squares(std::size_t output) const {
  if (on_device) return squares_on_device[output];
  Squares sums;
  for (std::size_t i = begin(output); i < outputs[output].end; ++i) {
    if (std::isnan(value[i])) continue;
    sums.values += value[i] * value[i];
    sums.errors += double{error[i]} * error[i];
  }
  return sums;
}

double tolerance(const Reference& reference, std::size_t index, NumericsClass numerics) {
  const auto output = std::upper_bound(
      reference.outputs.begin(), reference.outputs.end(), index,
      [](std::size_t at, const Reference::Output& candidate) { return at < candidate.end; });
  const double rounding = unit_roundoff(output->dtype) * std::abs(reference.value[index]) +
                          half_subnormal(output->dtype);
  return rounding + (numerics == NumericsClass::kFp64 ? 0 : double{reference.error[index]});
}

double norm_tolerance(const Reference& reference, std::size_t output) {
  const Reference::Output& own = reference.outputs[output];
  if (!own.is_gradient) return std::numeric_limits<double>::infinity();
  const Reference::Squares squares = reference.squares(output);
  // The rounding of 16-bit results is uniform in half an ulp: its norm is 0.3 to 0.6 of the largest.
  const double share =
      own.dtype == DType::kF32 ? 168 * unit_roundoff(DType::kF32) : 0.75 * unit_roundoff(own.dtype);
  const double subnormal =
      half_subnormal(own.dtype) * std::sqrt(static_cast<double>(own.end - reference.begin(output)));
  return std::max(share * std::sqrt(squares.values), std::sqrt(squares.errors)) + subnormal;
}

}  // namespace attn::attnres
