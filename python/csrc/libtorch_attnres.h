// How tensors of attention residuals become the contract's problems: what the operators of single reads, their
// backwards and networks share.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/SymInt.h>
#include <c10/util/SmallVector.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "impls/attnres/choose_backend.h"
#include "python/csrc/libtorch_call.h"
#include "reference/attnres/contract.h"

namespace attn {

/// The tensor as backends take it; copied where it is not.
inline at::Tensor dense(const at::Tensor& tensor) { return loadable(tensor.contiguous()); }

/// Sizes and types of planes [..., D], all of whose leading axes are tokens, and of queries.
inline void describe(attnres::TokenProblem& p,
                     const at::Tensor& plane,
                     at::ScalarType query_type,
                     double eps) {
  const at::IntArrayRef sizes = plane.sizes();
  p.D = sizes.back();
  p.T = 1;
  for (const std::int64_t size : sizes.slice(0, sizes.size() - 1)) p.T *= size;
  p.dtype = *dtype_of(plane.scalar_type());
  p.query_dtype = query_type == at::kHalf       ? attnres::TypeChoice::kF16
                  : query_type == at::kBFloat16 ? attnres::TypeChoice::kBF16
                                                : attnres::TypeChoice::kF32;
  p.eps = eps;
}

using Shape = c10::SmallVector<c10::SymInt, 5>;

/// What all tensors of a call are compared with: a plane [..., D], and the query's type. Shapes may be
/// symbolic.
struct Like {
  const char* op;
  const at::Tensor& plane;
  at::ScalarType query_type;

  c10::SymInt width() const { return plane.sym_size(-1); }
  Shape scalars() const {
    const c10::SymIntArrayRef sizes = plane.sym_sizes();
    return {sizes.begin(), sizes.end() - 1};
  }
  Shape planes() const { return {plane.sym_sizes().begin(), plane.sym_sizes().end()}; }

  void expect(const char* name,
              const at::Tensor& tensor,
              at::ScalarType type,
              const Shape& s) const {
    const c10::SymIntArrayRef shape(s);
    TORCH_CHECK_VALUE(tensor.sym_sizes() == shape && tensor.scalar_type() == type &&
                          tensor.device() == plane.device(),
                      op, ": ", name, " must be ", type, " ", shape, " on ", plane.device(),
                      ", not ", tensor.scalar_type(), " ", tensor.sym_sizes(), " on ",
                      tensor.device());
  }
  void expect_plane(const char* name, const at::Tensor& tensor) const {
    expect(name, tensor, plane.scalar_type(), planes());
  }
  at::Tensor allocate(at::ScalarType type, const Shape& shape) const {
    return at::empty_symint(shape, plane.options().dtype(type));
  }
  at::Tensor allocate_plane() const { return allocate(plane.scalar_type(), planes()); }
  at::Tensor nothing() const { return allocate(plane.scalar_type(), {0}); }
};

inline Like like_of(const char* op, const at::Tensor& plane, const at::Tensor& wt) {
  TORCH_CHECK_VALUE(plane.dim() >= 1 && dtype_of(plane.scalar_type()), op,
                    ": sources must be [..., D] in float16, bfloat16 or float32, not ",
                    plane.scalar_type(), " ", plane.sym_sizes());
  TORCH_CHECK_VALUE(dtype_of(wt.scalar_type()), op,
                    ": wt must be float16, bfloat16 or float32, not ", wt.scalar_type());
  return {op, plane, wt.scalar_type()};
}

inline Like like_of(const char* op, at::TensorList sources, const at::Tensor& wt) {
  TORCH_CHECK_VALUE(!sources.empty() && sources.size() <= attnres::kMaxSources, op,
                    ": sources must be 1 to ", attnres::kMaxSources, " tensors, not ",
                    sources.size());
  const Like like = like_of(op, sources.front(), wt);
  for (const at::Tensor& source : sources) like.expect_plane("every source", source);
  return like;
}

/// S of queries [S, D].
inline c10::SymInt queries_in(const Like& like, const at::Tensor& wt) {
  TORCH_CHECK_VALUE(wt.dim() == 2, like.op, ": wt must be [S, D], not ", wt.sym_sizes());
  return wt.sym_size(0);
}

/// [S, ...]
inline Shape of_queries(const at::Tensor& wt, Shape shape) {
  shape.insert(shape.begin(), wt.sym_size(0));
  return shape;
}

inline std::vector<at::Tensor> all_dense(at::TensorList list) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& tensor : list) all.push_back(dense(tensor));
  return all;
}

template <class Problem>
Problem problem_of(const Like& like, double eps, std::int64_t N = 1) {
  Problem p;
  describe(p, like.plane, like.query_type, eps);
  if constexpr (requires { p.N; }) p.N = N;
  return p;
}

inline attnres::Option option(const std::optional<at::Tensor>& tensor) {
  return tensor ? attnres::Option::kOn : attnres::Option::kOff;
}

inline attnres::Planes list_of(const attnres::PlaneProblem& p,
                               const std::vector<at::Tensor>& planes) {
  attnres::Planes list{.stride = p.D, .dtype = p.dtype};
  for (std::size_t n = 0; n < planes.size(); ++n)
    list.data[n] = const_cast<void*>(planes[n].const_data_ptr());
  return list;
}

/// Of a dense tensor, by what it is to the contract.
inline TensorView bound(const TensorSpec& spec, const at::Tensor& tensor) {
  return spec.bind(const_cast<void*>(tensor.const_data_ptr()));
}
inline TensorView planes_of(const attnres::PlaneProblem& p,
                            const at::Tensor& tensor,
                            std::int64_t count = 1) {
  return bound(attnres::dense("", TensorRole::kKey, p.dtype, count, p, p.D), tensor);
}
inline TensorView scalars_of(const attnres::PlaneProblem& p,
                             const at::Tensor& tensor,
                             std::int64_t count = 1) {
  return bound(attnres::dense("", TensorRole::kKey, DType::kF32, count, p, 1), tensor);
}
inline TensorView queries_of(const attnres::TokenProblem& p,
                             const at::Tensor& wt,
                             std::int64_t S = 1) {
  return bound(attnres::queries(p, S), wt);
}
inline TensorView gradient_of(const attnres::TokenProblem& p,
                              const at::Tensor& dwt,
                              std::int64_t S = 1) {
  return bound(attnres::query_gradient(p, S, attnres::Store::kWrite), dwt);
}

/// Null where no backend takes the problem; it must be valid.
template <class Op>
const Backend<Op>* backend_for(const Like& like,
                               const typename Op::Problem& p,
                               const DeviceInfo& device) {
  const Support valid = Op::validate(p);
  TORCH_CHECK_VALUE(valid.ok, like.op, ": ", valid.reason);
  return attnres::choose_backend<Op>(p, device);
}

template <class Op>
void run(const Like& like,
         const typename Op::Problem& p,
         const typename Op::Tensors& t,
         const DeviceInfo& device) {
  const Backend<Op>* backend = backend_for<Op>(like, p, device);
  TORCH_CHECK_NOT_IMPLEMENTED(backend, like.op, ": no backend of this build takes the call on ",
                              like.plane.device());
  launch(*backend, p, t, device, like.plane.device());
}

/// What reads by one query have beside their sources.
struct QueryOptions {
  const at::Tensor& wt;
  double eps;
  const std::optional<at::Tensor>& gamma;
  double norm_eps;

  void check(const Like& like) const {
    like.expect("wt", wt, like.query_type, {like.width()});
    if (gamma) like.expect("gamma", *gamma, like.query_type, {like.width()});
  }
  void describe(attnres::NormFields& p) const {
    if (!gamma) return;
    p.norm = attnres::OutputNorm::kInstead;
    p.norm_eps = norm_eps;
  }
};

}  // namespace attn
