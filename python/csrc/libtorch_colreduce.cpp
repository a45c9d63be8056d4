// The operators attnbench::colreduce and attnbench::colreduce_with_lse.
//
// A call describes the problem by the contract, allocates the result and, from the device's caching
// allocator, the workspace, and enqueues one launch of the backend on the current stream: nothing
// waits, so that it can be captured in a CUDA graph. The results have no gradient.
#include <ATen/DeviceGuard.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "impls/colreduce/auto_choice.h"
#include "python/csrc/colreduce.h"
#include "python/csrc/libtorch_call.h"
#include "reference/colreduce/contract.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;
using Lengths = at::OptionalIntArrayRef;
using OptionalTensor = std::optional<at::Tensor>;
constexpr const char* kName = "colreduce";

/// The sizes of a call. Int is SymInt where only shapes are asked for, which may be symbolic.
template <class Int>
struct Sizes {
  bool packed;
  Int B, H, H_kv, M, N, D;
};

/// Reads and checks what tensors say without their data.
template <class Int>
Sizes<Int> sizes_of(const at::Tensor& query, const at::Tensor& key, bool packed) {
  const std::int64_t axes = packed ? 3 : 4;
  TORCH_CHECK_VALUE(query.dim() == axes && key.dim() == axes, "colreduce: query and key must have ",
                    packed ? "3 axes, [rows, heads, D], where cu_q and cu_k pack sequences"
                           : "4 axes, [B, H, rows, D]",
                    ", not ", query.dim(), " and ", key.dim());
  TORCH_CHECK_VALUE(query.scalar_type() == key.scalar_type() && dtype_of(query.scalar_type()),
                    "colreduce: query and key must both be float16, bfloat16 or float32, not ",
                    query.scalar_type(), " and ", key.scalar_type());
  TORCH_CHECK_VALUE(query.device() == key.device(),
                    "colreduce: query and key must be on one device, not ", query.device(), " and ",
                    key.device());
  const auto size = [](const at::Tensor& tensor, std::int64_t axis) -> Int {
    if constexpr (std::is_same_v<Int, c10::SymInt>) {
      return tensor.sym_size(axis);
    } else {
      return tensor.sizes()[static_cast<std::size_t>(axis)];
    }
  };
  const std::int64_t heads = 1;  // their axis, packed or not
  const std::int64_t rows = packed ? 0 : 2;
  Sizes<Int> sizes{packed,
                   packed ? Int(1) : size(query, 0),
                   size(query, heads),
                   size(key, heads),
                   size(query, rows),
                   size(key, rows),
                   size(query, axes - 1)};
  TORCH_CHECK_VALUE(packed || size(key, 0) == sizes.B,
                    "colreduce: query and key must have the same batch size, not ", sizes.B,
                    " and ", size(key, 0));
  TORCH_CHECK_VALUE(size(key, axes - 1) == sizes.D,
                    "colreduce: query and key must have the same head dimension, not ", sizes.D,
                    " and ", size(key, axes - 1));
  TORCH_CHECK_VALUE(sizes.H_kv > 0 && sizes.H % sizes.H_kv == 0,
                    "colreduce: the heads of query must be a multiple of those of key, not ",
                    sizes.H, " and ", sizes.H_kv);
  return sizes;
}

/// Shape of the result by what becomes of the heads; `rows` are the keys, or the queries of an lse.
template <class Int>
c10::SmallVector<Int, 3> shape_of(const Sizes<Int>& sizes, Heads heads, const Int& rows) {
  c10::SmallVector<Int, 3> shape;
  if (!sizes.packed) shape.push_back(sizes.B);
  if (heads == Heads::kEach || heads == Heads::kGroup)
    shape.push_back(heads == Heads::kEach ? sizes.H : sizes.H_kv);
  shape.push_back(rows);
  return shape;
}

template <class Int>
at::Tensor allocate(const c10::SmallVector<Int, 3>& shape,
                    const at::Tensor& like,
                    at::ScalarType type) {
  const at::TensorOptions options = like.options().dtype(type);
  if constexpr (std::is_same_v<Int, c10::SymInt>) {
    return at::empty_symint(shape, options);
  } else if (like.is_cuda()) {
    return empty_on_gpu(shape, type, like.device());
  } else {
    return at::empty(shape, options);
  }
}

/// A given lse must be [B, H, M] or, of packed sequences, [H, M].
template <class Int>
void check_lse(const at::Tensor& lse, const at::Tensor& query, const Sizes<Int>& sizes) {
  const c10::SmallVector<Int, 3> shape = shape_of(sizes, Heads::kEach, sizes.M);
  bool fits = lse.dim() == static_cast<std::int64_t>(shape.size());
  for (std::size_t axis = 0; fits && axis < shape.size(); ++axis)
    fits = lse.sym_size(static_cast<std::int64_t>(axis)) == shape[axis];
  TORCH_CHECK_VALUE(fits, "colreduce: lse must have a number for each query, [",
                    sizes.packed ? "" : "B, ", "H, M], not the shape ", lse.sym_sizes());
  TORCH_CHECK_VALUE(lse.scalar_type() == at::kFloat, "colreduce: lse must be float32, not ",
                    lse.scalar_type());
  TORCH_CHECK_VALUE(lse.device() == query.device(), "colreduce: lse must be on ", query.device(),
                    ", not ", lse.device());
}

/// [B, heads, rows, D] of query or key.
TensorView input_view(const at::Tensor& tensor, const Sizes<std::int64_t>& sizes, DType dtype) {
  TensorView view{.data = const_cast<void*>(tensor.const_data_ptr()), .dtype = dtype};
  const auto shape = tensor.sizes();
  const auto strides = tensor.strides();
  if (sizes.packed) {
    view.shape = {1, shape[1], shape[0], shape[2]};
    view.strides = {0, strides[1], strides[0], strides[2]};
  } else {
    view.shape = {shape[0], shape[1], shape[2], shape[3]};
    view.strides = {strides[0], strides[1], strides[2], strides[3]};
  }
  // Along an axis of one element nothing moves, whatever its stride says: as in a dense tensor.
  if (sizes.D == 1) view.strides[3] = 1;
  for (std::size_t axis = 3; axis-- > 0;)
    if (view.shape[axis] == 1) view.strides[axis] = view.strides[axis + 1] * view.shape[axis + 1];
  return view;
}

/// [B, heads, rows, 1] of a dense result or lse.
TensorView dense_view(
    const at::Tensor& tensor, DType dtype, std::int64_t B, std::int64_t heads, std::int64_t rows) {
  return {tensor.data_ptr(), dtype, {B, heads, rows, 1}, {heads * rows, rows, 1, 1}};
}

/// Enqueues the reduction where the tensors are: what backend `auto` does, but that it chooses once for
/// the workspace and the launch.
void launch_chosen(const Problem& p, const ColReduce::Tensors& tensors, c10::Device where) {
  const DeviceInfo device = device_of(where);
  const colreduce::AutoChoice choice = colreduce::choose_backend(p, device);
  TORCH_CHECK_NOT_IMPLEMENTED(choice.backend, "colreduce: ", choice.support.reason);
  launch(*choice.backend, p, tensors, device, where);
}

/// Both operators: Int is SymInt for the shapes alone, int64_t to compute; kWithLse returns one.
template <class Int, bool kWithLse>
std::tuple<at::Tensor, at::Tensor> reduce(const at::Tensor& query,
                                          const at::Tensor& key,
                                          c10::string_view reduction,
                                          c10::string_view mask,
                                          c10::string_view mean_over,
                                          c10::string_view heads,
                                          std::optional<double> scale,
                                          double softcap,
                                          const Int& window,
                                          const Int& query_begin,
                                          const Int& query_end,
                                          Lengths q_len,
                                          Lengths kv_len,
                                          Lengths cu_q,
                                          Lengths cu_k,
                                          const OptionalTensor& lse,
                                          std::optional<at::ScalarType> out_dtype) {
  const Sizes<Int> sizes = sizes_of<Int>(query, key, cu_q.has_value() || cu_k.has_value());
  if (lse) check_lse(*lse, query, sizes);
  const DType dtype = *dtype_of(query.scalar_type());
  const at::ScalarType out_type = out_dtype.value_or(at::kFloat);
  TORCH_CHECK_VALUE(out_type == at::kFloat || out_type == query.scalar_type(),
                    "colreduce: out_dtype must be float32 or the type of query, not ", out_type);
  Problem p{.dtype = dtype,
            .reduction = choice<Reduction>(kName, "reduction", reduction, kReductionNames),
            .mask = choice<Mask>(kName, "mask", mask, kMaskNames),
            .mean_over = choice<MeanOver>(kName, "mean_over", mean_over, kMeanOverNames),
            .scale = scale.value_or(kAuto),
            .out_dtype = *dtype_of(out_type),
            .softcap = softcap,
            .lse = kWithLse ? Lse::kOut
                   : lse    ? Lse::kIn
                            : Lse::kNone,
            .heads = choice<Heads>(kName, "heads", heads, kHeadsNames)};
  const bool is_finite = !scale || *scale - *scale == 0;  // NaN means auto in the contract
  TORCH_CHECK_VALUE(is_finite, "colreduce: scale must be finite");

  if constexpr (std::is_same_v<Int, c10::SymInt>) {
    return {allocate(shape_of(sizes, p.heads, sizes.N), query, out_type),
            kWithLse ? allocate(shape_of(sizes, Heads::kEach, sizes.M), query, at::kFloat)
                     : at::Tensor()};
  } else {
    const c10::OptionalDeviceGuard guard(query.device());
    const at::Tensor q = loadable(query);
    const at::Tensor k = loadable(key);
    ColReduce::Tensors tensors{input_view(q, sizes, dtype), input_view(k, sizes, dtype), {}};
    p.B = sizes.B;
    p.H = sizes.H;
    p.H_kv = sizes.H_kv;
    p.M = sizes.M;
    p.N = sizes.N;
    p.D = sizes.D;
    p.q_strides = tensors.q.strides;
    p.k_strides = tensors.k.strides;
    p.window = window;
    p.query_begin = query_begin;
    p.query_end = query_end;
    if (q_len) p.q_len = q_len->vec();
    if (kv_len) p.kv_len = kv_len->vec();
    if (cu_q) p.cu_q = cu_q->vec();
    if (cu_k) p.cu_k = cu_k->vec();
    const Support valid = ColReduce::validate(p);
    TORCH_CHECK_VALUE(valid.ok, "colreduce: ", valid.reason);

    const at::Tensor out = allocate(shape_of(sizes, p.heads, sizes.N), query, out_type);
    tensors.out = dense_view(out, p.out_dtype, p.B, p.out_heads(), p.N);
    at::Tensor normalisers;
    if (kWithLse) normalisers = allocate(shape_of(sizes, Heads::kEach, sizes.M), query, at::kFloat);
    if (lse) normalisers = lse->contiguous();
    if (p.lse != Lse::kNone) tensors.lse = dense_view(normalisers, DType::kF32, p.B, p.H, p.M);
    launch_chosen(p, tensors, query.device());
    return {out, normalisers};
  }
}

template <class Int>
at::Tensor scores(const at::Tensor& query,
                  const at::Tensor& key,
                  c10::string_view reduction,
                  c10::string_view mask,
                  c10::string_view mean_over,
                  c10::string_view heads,
                  std::optional<double> scale,
                  double softcap,
                  Int window,
                  Int query_begin,
                  Int query_end,
                  Lengths q_len,
                  Lengths kv_len,
                  Lengths cu_q,
                  Lengths cu_k,
                  const OptionalTensor& lse,
                  std::optional<at::ScalarType> out_dtype) {
  return std::get<0>(reduce<Int, false>(query, key, reduction, mask, mean_over, heads, scale,
                                        softcap, window, query_begin, query_end, q_len, kv_len,
                                        cu_q, cu_k, lse, out_dtype));
}

template <class Int>
std::tuple<at::Tensor, at::Tensor> scores_and_lse(const at::Tensor& query,
                                                  const at::Tensor& key,
                                                  c10::string_view reduction,
                                                  c10::string_view mask,
                                                  c10::string_view mean_over,
                                                  c10::string_view heads,
                                                  std::optional<double> scale,
                                                  double softcap,
                                                  Int window,
                                                  Int query_begin,
                                                  Int query_end,
                                                  Lengths q_len,
                                                  Lengths kv_len,
                                                  Lengths cu_q,
                                                  Lengths cu_k,
                                                  std::optional<at::ScalarType> out_dtype) {
  return reduce<Int, true>(query, key, reduction, mask, mean_over, heads, scale, softcap, window,
                           query_begin, query_end, q_len, kv_len, cu_q, cu_k, std::nullopt,
                           out_dtype);
}

#define ATTN_OPTIONS                                                                     \
  "str reduction='sum', *, str mask='none', str mean_over='visible', str heads='each', " \
  "float? scale=None, float softcap=0.0, SymInt window=-1, SymInt query_begin=0, "       \
  "SymInt query_end=-1, int[]? q_len=None, int[]? kv_len=None, int[]? cu_q=None, int[]? cu_k=None"

TORCH_LIBRARY(attnbench, library) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  library.def("colreduce(Tensor query, Tensor key, " ATTN_OPTIONS
              ", Tensor? lse=None, ScalarType? out_dtype=None) -> Tensor",
              tags);
  library.def("colreduce_with_lse(Tensor query, Tensor key, " ATTN_OPTIONS
              ", ScalarType? out_dtype=None) -> (Tensor, Tensor)",
              tags);
}

void register_kernels(torch::Library& library) {
  library.impl("colreduce", TORCH_FN(scores<std::int64_t>));
  library.impl("colreduce_with_lse", TORCH_FN(scores_and_lse<std::int64_t>));
}

TORCH_LIBRARY_IMPL(attnbench, CPU, library) { register_kernels(library); }
TORCH_LIBRARY_IMPL(attnbench, CUDA, library) { register_kernels(library); }

TORCH_LIBRARY_IMPL(attnbench, Meta, library) {
  library.impl("colreduce", TORCH_FN(scores<c10::SymInt>));
  library.impl("colreduce_with_lse", TORCH_FN(scores_and_lse<c10::SymInt>));
}

// No gradient: results do not require one, whatever the inputs do.
TORCH_LIBRARY_IMPL(attnbench, Autograd, library) {
  library.impl("colreduce", torch::CppFunction::makeFallthrough());
  library.impl("colreduce_with_lse", torch::CppFunction::makeFallthrough());
}

/// Optional lengths as the operators take them.
Lengths view_of(const std::optional<std::vector<std::int64_t>>& lengths) {
  return lengths ? Lengths(at::IntArrayRef(*lengths)) : Lengths();
}

}  // namespace
}  // namespace attn

namespace attnbench {

at::Tensor colreduce(const at::Tensor& query, const at::Tensor& key, const ColReduceOptions& o) {
  using attn::text_of, attn::view_of;
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("attnbench::colreduce", "")
                             .typed<decltype(attn::scores<c10::SymInt>)>();
  return op.call(query, key, text_of(o.reduction), text_of(o.mask), text_of(o.mean_over),
                 text_of(o.heads), o.scale, o.softcap, o.window, o.query_begin, o.query_end,
                 view_of(o.q_len), view_of(o.kv_len), view_of(o.cu_q), view_of(o.cu_k), o.lse,
                 o.out_dtype);
}

std::tuple<at::Tensor, at::Tensor> colreduce_with_lse(const at::Tensor& query,
                                                      const at::Tensor& key,
                                                      const ColReduceOptions& o) {
  using attn::text_of, attn::view_of;
  TORCH_CHECK_VALUE(!o.lse, "colreduce_with_lse: lse must be empty where it is returned");
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("attnbench::colreduce_with_lse", "")
                             .typed<decltype(attn::scores_and_lse<c10::SymInt>)>();
  return op.call(query, key, text_of(o.reduction), text_of(o.mask), text_of(o.mean_over),
                 text_of(o.heads), o.scale, o.softcap, o.window, o.query_begin, o.query_end,
                 view_of(o.q_len), view_of(o.kv_len), view_of(o.cu_q), view_of(o.cu_k),
                 o.out_dtype);
}

}  // namespace attnbench
