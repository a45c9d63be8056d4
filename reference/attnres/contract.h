// What the operators of attention residuals share: a read over depth, lists of source planes, the
// fp64 answer with its error bound. README.md beside this file has the maths.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "harness/core/operator_adapter.h"

namespace attn::attnres {

inline constexpr std::int64_t kMaxSources = 128;
inline constexpr std::int64_t kMaxQueries = 64;
inline constexpr std::int64_t kMaxWidth = 16384;

/// A type that follows the sources' unless it is chosen.
enum class TypeChoice : std::uint8_t { kAuto, kF16, kBF16, kF32 };
inline constexpr std::array<std::string_view, 4> kTypeChoiceNames = {"auto", "f16", "bf16", "f32"};
DType resolve(TypeChoice, DType automatic);

/// Sources as one tensor [N, B, T, D], or as a list of N tensors [B, T, D] anywhere in memory.
enum class Sources : std::uint8_t { kList, kStacked };
inline constexpr std::array<std::string_view, 2> kSourcesNames = {"list", "stacked"};

/// Whether a result replaces what its tensor holds or is added to it.
enum class Store : std::uint8_t { kWrite, kAdd };
inline constexpr std::array<std::string_view, 2> kStoreNames = {"write", "add"};

/// An optional argument.
enum class Option : std::uint8_t { kOff, kOn };
inline constexpr std::array<std::string_view, 2> kOptionNames = {"off", "on"};

/// Whether the RMS norm of an output is written: not at all, instead of the output, or beside it.
enum class OutputNorm : std::uint8_t { kOff, kInstead, kBoth };
inline constexpr std::array<std::string_view, 3> kOutputNormNames = {"off", "instead", "both"};

/// The fields that every operator of the family has.
struct PlaneProblem {
  std::int64_t B = 1;     ///< batch
  std::int64_t T = 1024;  ///< sequence length
  std::int64_t D = 2048;  ///< hidden width
  DType dtype = DType::kBF16;

  std::int64_t tokens() const { return B * T; }
};

/// Those of operators that ask sources a query.
struct TokenProblem : PlaneProblem {
  TypeChoice query_dtype = TypeChoice::kAuto;
  TypeChoice out_dtype = TypeChoice::kAuto;  ///< of the mixed values, and of their gradients
  double eps = 0x1p-20;                      ///< of the RMS norm of a source

  DType query_type() const { return resolve(query_dtype, dtype); }
  DType out_type() const { return resolve(out_dtype, dtype); }
};

template <class Self, class Visitor>
void visit_sizes(Self& self, Visitor&& visit) {
  visit.size("B", "batch", self.B);
  visit.size("T", "sequence length", self.T);
  visit.size("D", "hidden width", self.D);
}

template <class Self, class Visitor>
void visit_types(Self& self, Visitor&& visit) {
  visit.choice("dtype", "type of the sources", self.dtype, kDTypeNames);
  visit.choice("query_dtype", "of the queries; auto: dtype", self.query_dtype, kTypeChoiceNames);
  visit.choice("out_dtype", "of what is mixed; auto: dtype", self.out_dtype, kTypeChoiceNames);
  visit.real("eps", "added to the mean square of a source", self.eps);
}

/// The norm of an output, of operators that have one: normed = h rho gamma with
/// rho = (|h|^2 / D + norm_eps)^(-1/2), where h has been rounded to the output's type, written or not.
struct NormFields {
  OutputNorm norm = OutputNorm::kOff;
  double norm_eps = 0x1p-20;

  bool has_norm() const { return norm != OutputNorm::kOff; }
  bool has_out() const { return norm != OutputNorm::kInstead; }
  std::int64_t rows() const { return norm == OutputNorm::kBoth ? 2 : 1; }  ///< written a token
};

template <class Self, class Visitor>
void visit_norm(Self& self, Visitor&& visit) {
  visit.choice("norm", "the output's RMS norm: off, instead of it, or both", self.norm,
               kOutputNormNames);
  visit.real("norm_eps", "added to the mean square of the output", self.norm_eps);
}

/// Of backwards through it.
template <class Self, class Visitor>
void visit_norm_gradient(Self& self, Visitor&& visit) {
  visit.choice("dgamma", "the gradient of the norm's weight is written or added", self.dgamma,
               kStoreNames);
}

/// N sources, to be read.
struct SourceProblem : TokenProblem {
  std::int64_t N = 4;  ///< sources
  Sources sources = Sources::kList;
  std::int64_t token_stride = 0;  ///< elements between tokens of a source; 0: D

  std::int64_t source_stride() const { return token_stride == 0 ? D : token_stride; }
};

/// S queries read N sources.
struct ReadProblem : SourceProblem {
  std::int64_t S = 8;  ///< queries
};

/// The read of one query.
ReadProblem one_query(const SourceProblem& p);

/// The fields of an operator that reads sources, by as many queries as there are where it has several.
template <class Self, class Visitor>
void visit_read(Self& self, Visitor&& visit) {
  visit.size("N", "sources", self.N);
  if constexpr (std::is_base_of_v<ReadProblem, std::remove_const_t<Self>>)
    visit.size("S", "queries", self.S);
  visit_sizes(self, visit);
  visit_types(self, visit);
  visit.choice("sources", "a list of planes, or one tensor", self.sources, kSourcesNames);
  visit.integer("token_stride", "elements between tokens of a source; 0: D", self.token_stride);
}

/// A list of planes [B T, D] with D contiguous, `stride` elements between tokens.
struct Planes {
  std::array<void*, kMaxSources> data{};
  std::int64_t stride = 0;
  DType dtype = DType::kF32;

  /// Plane n as a tensor [1, 1, tokens, D].
  TensorView view(std::int64_t n, const PlaneProblem&) const;
};

/// One tensor of rows [planes, B, T, width], dense.
TensorSpec dense(std::string_view name,
                 TensorRole role,
                 DType dtype,
                 std::int64_t planes,
                 const PlaneProblem& p,
                 std::int64_t width);
/// One source plane [B, T, D] whose tokens are p.source_stride() apart.
TensorSpec source_plane(const SourceProblem& p);
/// The queries [S, D], scaled by a power of two so that logits have the size of 1.
TensorSpec queries(const TokenProblem& p, std::int64_t S);
/// The queries' gradient [S, D] in fp32.
TensorSpec query_gradient(const TokenProblem& p, std::int64_t S, Store store);
/// The weight of the output's norm, gamma [D] in the queries' type, and its gradient in fp32.
TensorSpec norm_weight(const TokenProblem& p);
TensorSpec norm_weight_gradient(const TokenProblem& p, Store store);
/// Appends N planes [B, T, D], one tensor or N of them.
void append_planes(std::vector<TensorSpec>& specs, TensorSpec plane, const SourceProblem& p);
/// The planes that append_planes has specified at `first`, and moves `first` behind them.
Planes bind_planes(std::span<const TensorSpec> specs,
                   std::span<void* const> storage,
                   const SourceProblem& p,
                   std::size_t& first);

/// One dense tensor, and where bind puts its view.
struct BoundSpec {
  TensorSpec spec;
  TensorView* view;
};
void append_specs(std::vector<TensorSpec>& specs, const std::vector<BoundSpec>& tensors);
/// Binds them to the storage from `first` on, and moves `first` behind them.
void bind_specs(const std::vector<BoundSpec>& tensors,
                std::span<void* const> storage,
                std::size_t& first);

Support validate_planes(const PlaneProblem& p);
Support validate_tokens(const TokenProblem& p);
Support validate_sources(const SourceProblem& p);
Support validate_read(const ReadProblem& p);
Support validate_norm(const NormFields& p);

/// Bytes of `planes` planes of a type, and of `scalars` fp32 numbers a token.
double plane_bytes(const PlaneProblem& p, std::int64_t planes, DType dtype);
double scalar_bytes(const PlaneProblem& p, std::int64_t scalars);

/// Bytes of the queries, and of their gradient: read too where it is added to.
double query_bytes(const TokenProblem& p, std::int64_t S);
double query_gradient_bytes(const TokenProblem& p, std::int64_t S, Store store);

/// The fp64 answer, and the largest error of fp32 arithmetic before the output is rounded.
struct Reference {
  struct Output {
    std::size_t end = 0;  ///< behind its last element, among all elements
    DType dtype = DType::kF32;
    bool is_gradient = false;  ///< the norm of its error is bounded too
  };
  /// Sums over the elements of an output that are no NaN.
  struct Squares {
    double values = 0;
    double errors = 0;
  };
  std::vector<double> value;
  std::vector<float> error;
  std::vector<Output> outputs;
  /// Where values and errors are when the GPU's oracle has left them there, and their squares; the
  /// vectors above are empty then.
  std::shared_ptr<const DeviceAnswer> on_device;
  std::vector<Squares> squares_on_device;

  /// Zeros for every written tensor of `specs`; those from index `first_gradient` are gradients.
  Reference(std::span<const TensorSpec> specs, std::size_t first_gradient);
  /// An answer to outputs_of(...) that stays on the GPU.
  Reference(std::vector<Output> of, std::shared_ptr<const DeviceAnswer>, std::vector<Squares>);
  static std::vector<Output> outputs_of(std::span<const TensorSpec>, std::size_t first_gradient);

  /// Where the elements of output `index` begin.
  std::size_t begin(std::size_t index) const { return index == 0 ? 0 : outputs[index - 1].end; }
  Squares squares(std::size_t output) const;
  void set(std::size_t at, double exact, double bound) {
    value[at] = exact;
    error[at] = static_cast<float>(bound);
  }
};

double tolerance(const Reference&, std::size_t index, NumericsClass);
double norm_tolerance(const Reference&, std::size_t output);

}  // namespace attn::attnres
