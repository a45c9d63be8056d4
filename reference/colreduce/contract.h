// The column reduction of attention weights: R[b,h,n] = reduce over m of softmax(scale q k^T)[m,n].
// Contract, work model and error bound; README.md beside this file derives them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "harness/core/backend.h"
#include "harness/core/fields.h"
#include "harness/core/operator_adapter.h"
#include "harness/core/work.h"
#include "reference/attention_mask.h"

namespace attn {

enum class Reduction : std::uint8_t { kSum, kMean, kMax };
inline constexpr std::array<std::string_view, 3> kReductionNames = {"sum", "mean", "max"};

/// Divisor of the mean at key n: the contributing queries that see n, or all contributing queries.
enum class MeanOver : std::uint8_t { kVisible, kAll };
inline constexpr std::array<std::string_view, 2> kMeanOverNames = {"visible", "all"};

/// Where q and k lie: [B,H,rows,D]; [B,rows,H,D]; or a slice of a fused projection [B,rows,3,H,D],
/// q at slot 0 and k at slot 1, so that rows are 3 H D apart and k starts at an offset.
enum class Layout : std::uint8_t { kHeadMajor, kRowMajor, kFusedSlice };
inline constexpr std::array<std::string_view, 3> kLayoutNames = {"bhsd", "bshd", "qkv_slice"};

/// Over query heads, after the reduction over the queries: every head by itself, over all heads, or
/// the sum over those that share a key head.
enum class Heads : std::uint8_t { kEach, kMean, kSum, kMax, kGroup };
inline constexpr std::array<std::string_view, 5> kHeadsNames = {"each", "mean", "sum", "max",
                                                                "group"};

/// The row normaliser ln sum exp(score): not an argument, given as an input, or a second output.
enum class Lse : std::uint8_t { kNone, kIn, kOut };
inline constexpr std::array<std::string_view, 3> kLseNames = {"none", "in", "out"};

struct ColReduce {
  static constexpr std::string_view kName = "colreduce";

  struct Problem {
    std::int64_t B = 1;     ///< batch
    std::int64_t H = 1;     ///< query heads
    std::int64_t H_kv = 0;  ///< key heads, shared by H / H_kv query heads each; 0 means H
    std::int64_t M = 1024;  ///< queries a head
    std::int64_t N = 1024;  ///< keys a head
    std::int64_t D = 128;   ///< head dimension
    DType dtype = DType::kF16;
    Reduction reduction = Reduction::kSum;
    Mask mask = Mask::kNone;
    MeanOver mean_over = MeanOver::kVisible;
    double scale = kAuto;  ///< auto: 1 / sqrt(D)
    Layout layout = Layout::kHeadMajor;
    Extents q_strides{};  ///< explicit b:h:row:d strides in elements; zeros: those of `layout`
    Extents k_strides{};
    DType out_dtype = DType::kF32;  ///< f32 or the input type; rounded once, at the very end
    std::int64_t query_begin = 0;   ///< first contributing query; negative: counted from the end
    std::int64_t query_end = -1;    ///< behind the last contributing query; -1: the end
    std::int64_t window = -1;       ///< left extent of a sliding window; -1: unlimited
    double softcap = 0;             ///< c > 0: scores become c tanh(score / c); 0: off
    Lse lse = Lse::kNone;
    Heads heads = Heads::kEach;
    /// Padded batches: lengths of each batch's sequence, in [0, M] and [0, N]; empty: M and N. What
    /// lies beyond does not exist.
    std::vector<std::int64_t> q_len{};
    std::vector<std::int64_t> kv_len{};
    /// Packed batches: sequence i has rows [cu_q[i], cu_q[i + 1]) of q and [cu_k[i], cu_k[i + 1]) of k,
    /// in tensors of one batch with M and N rows in all; empty: not packed.
    std::vector<std::int64_t> cu_q{};
    std::vector<std::int64_t> cu_k{};

    std::int64_t key_heads() const { return H_kv == 0 ? H : H_kv; }
    /// The key head that query head h attends to.
    std::int64_t key_head(std::int64_t h) const { return h / (H / key_heads()); }
    /// Heads of the output, and how many query heads each of them combines; they lie side by side.
    std::int64_t out_heads() const;
    std::int64_t combined_heads() const { return H / out_heads(); }
    double scale_value() const;
    /// Whether sequences differ in length: what they make of the problem then are its parts.
    bool is_ragged() const { return is_packed() || !q_len.empty() || !kv_len.empty(); }
    bool is_packed() const { return !cu_q.empty(); }
    /// Of a problem that is not ragged, as everything below.
    AttentionMask attention_mask() const { return AttentionMask::make(mask, M, N, window); }
    /// The queries that contribute; no others are reduced or need be computed. Never empty.
    RowRange contributing() const;
    /// Between the contributing queries, counted from the first, and the keys.
    AttentionMask contributing_mask() const;
    /// The contributing queries that see key n; begin = end where none does.
    RowRange contributing(std::int64_t n) const;
    /// What the total of key n is divided by, over queries and heads: 1 without a mean; never 0.
    double divisor(std::int64_t n) const;

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor&& visit) {
      visit.size("B", "batch", self.B);
      visit.size("H", "query heads", self.H);
      visit.size("H_kv", "key heads; 0 means H", self.H_kv, self.key_heads());
      visit.size("M", "queries per head", self.M);
      visit.size("N", "keys per head", self.N);
      visit.size("D", "head dimension", self.D);
      visit.choice("dtype", "type of q and k", self.dtype, kDTypeNames);
      visit.choice("reduction", "over the queries", self.reduction, kReductionNames);
      visit.choice("mask", "visible keys", self.mask, kMaskNames);
      visit.choice("mean_over", "divisor of a mean", self.mean_over, kMeanOverNames);
      visit.real("scale", "factor of the scores; auto is 1/sqrt(D)", self.scale);
      visit.choice("layout", "where q and k lie", self.layout, kLayoutNames);
      visit.strides("q_strides", "b:h:row:d in elements; auto is the layout's", self.q_strides);
      visit.strides("k_strides", "b:h:row:d in elements; auto is the layout's", self.k_strides);
      visit.choice("out_dtype", "type of the result", self.out_dtype, kDTypeNames);
      visit.integer("query_begin", "first contributing query; -32: the last 32", self.query_begin);
      visit.integer("query_end", "behind the last contributing query; -1: all", self.query_end);
      visit.integer("window", "keys left of the diagonal that are seen; -1: all", self.window);
      visit.real("softcap", "c of c tanh(score / c); 0 is off", self.softcap);
      visit.choice("lse", "normaliser of the rows: an input, or an output", self.lse, kLseNames);
      visit.choice("heads", "over the query heads", self.heads, kHeadsNames);
      visit.list("q_len", "queries of each batch, such as 5:3:8; none: M", self.q_len);
      visit.list("kv_len", "keys of each batch; none: N", self.kv_len);
      visit.list("cu_q", "where packed sequences begin and end in q, as 0:5:8; none", self.cu_q);
      visit.list("cu_k", "the same in k", self.cu_k);
    }
  };

  struct Tensors {
    TensorView q;    // [B, H, M, D], D contiguous
    TensorView k;    // [B, H_kv, N, D], D contiguous
    TensorView out;  // [B, H, N] dense, or [B, 1, N], [B, H_kv, N] by `heads`; empty columns are 0
    /// [B, H, M] dense, fp32, natural log; unless lse is none. Out: -inf for a query that sees no key
    /// or does not contribute. In: the query's own, of which +-inf gives it weight 0 and NaN poisons
    /// it; those of queries that do not contribute are not read.
    TensorView lse{};
  };

  /// One sequence of a ragged problem as a problem of its own, with one batch and no lengths; or a
  /// whole problem that is not ragged.
  struct Part {
    Problem problem;
    std::int64_t batch = 0;    ///< of the tensors
    std::int64_t q_first = 0;  ///< its first row of q there
    std::int64_t k_first = 0;

    /// Views of its own elements.
    Tensors slice(const Tensors& whole) const;
  };
  /// The parts that have queries to reduce and keys. No other element of an output is any part's: it
  /// is 0 in `out`, and -inf in an lse.
  static std::vector<Part> parts(const Problem&);
  /// Of a ragged problem: the part that column n of a batch is in, or ends before; empty where there
  /// is none.
  static std::optional<Part> part_of(const Problem&, std::int64_t batch, std::int64_t n);

  /// The fp64 answer with the sums that every error bound is made of, per output element: those of
  /// `out`, then those of an lse output, whose `drift` and `stored` are those of its logarithm. For sum and mean `value` is the reduction and the others are sums over the queries before the
  /// division; for max they are the largest term.
  struct Reference {
    std::vector<double> value;
    std::vector<float> drift;   ///< p_ij rel_ij: error of scores, exponential and normaliser
    std::vector<float> stored;  ///< p_ij (|s_ij| + sum_k p_ik |s_ik|): per unit of score rounding
    std::vector<float> square;  ///< p_ij^2: random walk of roundings of p

    /// Of the size of the outputs, as if nothing had any weight.
    explicit Reference(const Problem&);
    /// Of [B, H, N] columns, before of_heads.
    static Reference of_columns(const Problem&);
    /// Takes the answer of a part of the problem.
    void insert(const Problem&, const Part&, const Reference&);
    Reference(std::int64_t outputs, std::int64_t lses);
    /// What the problem makes of its heads' columns: `value` [B, H, N] before any division, and the
    /// other sums likewise; what lies behind, of an lse, stays behind the smaller output.
    static Reference of_heads(const Problem&, Reference heads);
    /// Element `at` is the lse of a row: its exact value, the drift of its weights, its mean |score|.
    void set_lse(std::size_t at, double lse, double row_drift, double mean_score);
  };

  static Support validate(const Problem&);
  /// The same of tensors that a caller brings for a valid problem, on the host: their types, shapes
  /// and strides, and that a given lse holds no NaN.
  static Support validate(const Problem&, const Tensors&);
  static DType input_dtype(const Problem& problem) { return problem.dtype; }
  static std::vector<TensorSpec> tensor_specs(const Problem&);
  static Tensors bind(const Problem&, std::span<void* const> storage);
  static Work work(const Problem&);
  /// Writes the given inputs, in fp64 from the others: an lse. Tensors on the host, or on the GPU.
  static void write_given(const Problem&, const Tensors&);
  static void write_given_on_device(const Problem&, const Tensors&);

  /// The answer in fp64 on the CPU, from tensors on the host.
  static Reference oracle(const Problem&, const Tensors&);
  /// The same on the GPU, from tensors there; empty in a build without CUDA.
  static std::optional<Reference> oracle_on_device(const Problem&, const Tensors&);
  /// Largest error that a correct backend of the class may make at element `index`.
  static double tolerance(const Problem&, const Reference&, std::size_t index, NumericsClass);

  static std::vector<Suite<Problem>> suites();
  static std::vector<Feature<Problem>> features();
  static std::span<const BackendSlot<ColReduce>> backends();
};

}  // namespace attn
