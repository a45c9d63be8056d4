// The operators attnbench::attnres_mix, attnres_phase1 and attnres_merge, and their backwards.
//
// A call describes the problem by the contract, allocates its results and, from the device's caching
// allocator, the workspace, and enqueues one launch of a backend on the current stream. Shapes without data
// take the same way up to the launch.
#include "python/csrc/libtorch_attnres.h"

#include <ATen/DeviceGuard.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "impls/attnres/choose_backend.h"
#include "reference/attnres_merge/contract.h"
#include "reference/attnres_merge_bwd/contract.h"
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_mix_bwd/contract.h"
#include "reference/attnres_phase1/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {
namespace {

using at::Tensor;
using attnres::Option;
using attnres::OutputNorm;
using attnres::Store;
using OptionalTensor = std::optional<Tensor>;
using Shape = c10::SmallVector<c10::SymInt, 5>;

/// What all tensors of a call are compared with: a plane [..., D], and the query's type.
struct Like {
  const char* op;
  const Tensor& plane;
  at::ScalarType query_type;

  c10::SymInt width() const { return plane.sym_size(-1); }
  Shape scalars() const {
    const c10::SymIntArrayRef sizes = plane.sym_sizes();
    return {sizes.begin(), sizes.end() - 1};
  }
  Shape planes() const { return {plane.sym_sizes().begin(), plane.sym_sizes().end()}; }

  void expect(const char* name, const Tensor& tensor, at::ScalarType type, const Shape& s) const {
    const c10::SymIntArrayRef shape(s);
    TORCH_CHECK_VALUE(tensor.sym_sizes() == shape && tensor.scalar_type() == type &&
                          tensor.device() == plane.device(),
                      op, ": ", name, " must be ", type, " ", shape, " on ", plane.device(),
                      ", not ", tensor.scalar_type(), " ", tensor.sym_sizes(), " on ",
                      tensor.device());
  }
  void expect_plane(const char* name, const Tensor& tensor) const {
    expect(name, tensor, plane.scalar_type(), planes());
  }
  Tensor allocate(at::ScalarType type, const Shape& shape) const {
    return at::empty_symint(shape, plane.options().dtype(type));
  }
  Tensor allocate_plane() const { return allocate(plane.scalar_type(), planes()); }
  Tensor nothing() const { return allocate(plane.scalar_type(), {0}); }
};

Like like_of(const char* op, const Tensor& plane, const Tensor& wt) {
  TORCH_CHECK_VALUE(plane.dim() >= 1 && dtype_of(plane.scalar_type()), op,
                    ": sources must be [..., D] in float16, bfloat16 or float32, not ",
                    plane.scalar_type(), " ", plane.sym_sizes());
  TORCH_CHECK_VALUE(dtype_of(wt.scalar_type()), op,
                    ": wt must be float16, bfloat16 or float32, not ", wt.scalar_type());
  return {op, plane, wt.scalar_type()};
}

Like like_of(const char* op, at::TensorList sources, const Tensor& wt) {
  TORCH_CHECK_VALUE(!sources.empty() && sources.size() <= attnres::kMaxSources, op,
                    ": sources must be 1 to ", attnres::kMaxSources, " tensors, not ",
                    sources.size());
  const Like like = like_of(op, sources.front(), wt);
  for (const Tensor& source : sources) like.expect_plane("every source", source);
  return like;
}

/// S of queries [S, D].
c10::SymInt queries_in(const Like& like, const Tensor& wt) {
  TORCH_CHECK_VALUE(wt.dim() == 2, like.op, ": wt must be [S, D], not ", wt.sym_sizes());
  return wt.sym_size(0);
}

/// [S, ...]
Shape of_queries(const Tensor& wt, Shape shape) {
  shape.insert(shape.begin(), wt.sym_size(0));
  return shape;
}

std::vector<Tensor> all_dense(at::TensorList list) {
  std::vector<Tensor> all;
  for (const Tensor& tensor : list) all.push_back(dense(tensor));
  return all;
}

template <class Problem>
Problem problem_of(const Like& like, double eps, std::int64_t N = 1) {
  Problem p;
  describe(p, like.plane, like.query_type, eps);
  if constexpr (requires { p.N; }) p.N = N;
  return p;
}

Option option(const OptionalTensor& tensor) { return tensor ? Option::kOn : Option::kOff; }

attnres::Planes list_of(const attnres::PlaneProblem& p, const std::vector<Tensor>& planes) {
  attnres::Planes list{.stride = p.D, .dtype = p.dtype};
  for (std::size_t n = 0; n < planes.size(); ++n)
    list.data[n] = const_cast<void*>(planes[n].const_data_ptr());
  return list;
}

/// Of a dense tensor, by what it is to the contract.
TensorView bound(const TensorSpec& spec, const Tensor& tensor) {
  return spec.bind(const_cast<void*>(tensor.const_data_ptr()));
}
TensorView planes_of(const attnres::PlaneProblem& p, const Tensor& tensor, std::int64_t count = 1) {
  return bound(attnres::dense("", TensorRole::kKey, p.dtype, count, p, p.D), tensor);
}
TensorView scalars_of(const attnres::PlaneProblem& p,
                      const Tensor& tensor,
                      std::int64_t count = 1) {
  return bound(attnres::dense("", TensorRole::kKey, DType::kF32, count, p, 1), tensor);
}
TensorView queries_of(const attnres::TokenProblem& p, const Tensor& wt, std::int64_t S = 1) {
  return bound(attnres::queries(p, S), wt);
}
TensorView gradient_of(const attnres::TokenProblem& p, const Tensor& dwt, std::int64_t S = 1) {
  return bound(attnres::query_gradient(p, S, Store::kWrite), dwt);
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
struct Options {
  const Tensor& wt;
  double eps;
  const OptionalTensor& gamma;
  double norm_eps;

  void check(const Like& like) const {
    like.expect("wt", wt, like.query_type, {like.width()});
    if (gamma) like.expect("gamma", *gamma, like.query_type, {like.width()});
  }
  void describe(attnres::NormFields& p) const {
    if (!gamma) return;
    p.norm = OutputNorm::kInstead;
    p.norm_eps = norm_eps;
  }
};

using Reads = std::tuple<Tensor, Tensor, Tensor>;

/// A mix of N sources or a merge, with the normaliser. `last` is the source that an update is added to;
/// `bind` gets the problem, its tensors and the dense last source, and returns what must outlive the launch.
template <class Op, class Bind>
Reads read_once(const Like& like,
                std::size_t N,
                const Tensor& last,
                const OptionalTensor& update,
                const Options& options,
                Bind&& bind) {
  options.check(like);
  if (update) like.expect_plane("update", *update);
  const Tensor out = like.allocate_plane();
  const Tensor lse = like.allocate(at::kFloat, like.scalars());
  Tensor sum = update ? like.allocate_plane() : like.nothing();
  if (out.is_meta()) return {out, lse, sum};

  const c10::OptionalDeviceGuard guard(out.device());
  const DeviceInfo device = device_of(out.device());
  auto p = problem_of<typename Op::Problem>(like, options.eps, static_cast<std::int64_t>(N));
  p.lse = Option::kOn;
  p.update = option(update);
  options.describe(p);
  Tensor source = dense(last);
  if (update && !backend_for<Op>(like, p, device)) {  // none adds it on its way
    p.update = Option::kOff;
    at::add_out(sum, source, *update);
    source = sum;
  }
  typename Op::Tensors t;
  const auto held = bind(p, t, source);
  const Tensor query = dense(options.wt);
  t.wt = queries_of(p, query);
  t.lse = scalars_of(p, lse);
  (options.gamma ? t.normed : t.out) = planes_of(p, out);
  const Tensor added = p.update == Option::kOn ? dense(*update) : Tensor();
  if (added.defined()) {
    t.update = planes_of(p, added);
    t.sum = planes_of(p, sum);
  }
  const Tensor weight = options.gamma ? dense(*options.gamma) : Tensor();
  if (weight.defined()) t.gamma = bound(attnres::norm_weight(p), weight);
  run<Op>(like, p, t, device);
  return {out, lse, sum};
}

Reads mix(at::TensorList sources,
          const Tensor& wt,
          double eps,
          const OptionalTensor& update,
          const OptionalTensor& gamma,
          double norm_eps) {
  const Like like = like_of("attnres_mix", sources, wt);
  return read_once<AttnResMix>(
      like, sources.size(), sources.back(), update, {wt, eps, gamma, norm_eps},
      [&](const auto& p, AttnResMix::Tensors& t, const Tensor& last) {
        std::vector<Tensor> v = all_dense(sources.slice(0, sources.size() - 1));
        v.push_back(last);
        t.v = list_of(p, v);
        return v;
      });
}

Reads merge(const Tensor& partial,
            const Tensor& wt,
            const Tensor& read,
            const Tensor& z,
            double eps,
            const OptionalTensor& update,
            const OptionalTensor& gamma,
            double norm_eps) {
  const Like like = like_of("attnres_merge", partial, wt);
  like.expect_plane("read", read);
  like.expect("z", z, at::kFloat, like.scalars());
  return read_once<AttnResMerge>(like, 1, partial, update, {wt, eps, gamma, norm_eps},
                                 [&](const auto& p, AttnResMerge::Tensors& t, const Tensor& last) {
                                   const std::vector<Tensor> all = {last, dense(read), dense(z)};
                                   t.partial = planes_of(p, all[0]);
                                   t.read = planes_of(p, all[1]);
                                   t.z = scalars_of(p, all[2]);
                                   return all;
                                 });
}

std::tuple<Tensor, Tensor> phase1(at::TensorList sources, const Tensor& wt, double eps) {
  const Like like = like_of("attnres_phase1", sources, wt);
  like.expect("wt", wt, like.query_type, {queries_in(like, wt), like.width()});
  const Tensor reads = like.allocate(like.plane.scalar_type(), of_queries(wt, like.planes()));
  const Tensor lse = like.allocate(at::kFloat, of_queries(wt, like.scalars()));
  if (reads.is_meta()) return {reads, lse};

  const c10::OptionalDeviceGuard guard(reads.device());
  auto p = problem_of<AttnResPhase1::Problem>(like, eps, static_cast<std::int64_t>(sources.size()));
  p.S = wt.size(0);
  const std::vector<Tensor> v = all_dense(sources);
  const Tensor queries = dense(wt);
  AttnResPhase1::Tensors t{.v = list_of(p, v),
                           .wt = queries_of(p, queries, p.S),
                           .out = planes_of(p, reads, p.S),
                           .lse = scalars_of(p, lse, p.S)};
  run<AttnResPhase1>(like, p, t, device_of(reads.device()));
  return {reads, lse};
}

/// What comes in for the outputs of a read by one query; `dout` is that of its norm where it has one.
struct Incoming {
  const Tensor& dout;
  const OptionalTensor& dlse;
  const OptionalTensor& dsum;
};

using QueryGradients = std::tuple<Tensor, Tensor, Tensor>;  // of the last source, the query, gamma

/// The backward of a mix or a merge. `bind` gets the problem, its tensors and the last source's gradient,
/// which is added to if dsum is in it already, and returns what must outlive the launch.
template <class Op, class Bind>
QueryGradients gradients_once(const Like& like,
                              std::size_t N,
                              const Incoming& incoming,
                              const Options& options,
                              Bind&& bind) {
  options.check(like);
  like.expect_plane("dout", incoming.dout);
  if (incoming.dlse) like.expect("dlse", *incoming.dlse, at::kFloat, like.scalars());
  if (incoming.dsum) like.expect_plane("dsum", *incoming.dsum);
  const Tensor dlast = like.allocate_plane();
  const Tensor dwt = like.allocate(at::kFloat, {like.width()});
  const Tensor dgamma = options.gamma ? like.allocate(at::kFloat, {like.width()}) : like.nothing();
  if (dlast.is_meta()) return {dlast, dwt, dgamma};

  const c10::OptionalDeviceGuard guard(dlast.device());
  auto p = problem_of<typename Op::Problem>(like, options.eps, static_cast<std::int64_t>(N));
  p.dlse = option(incoming.dlse);
  options.describe(p);
  if (incoming.dsum) dlast.copy_(*incoming.dsum);
  typename Op::Tensors t;
  const auto held = bind(p, t, dlast);
  const Tensor query = dense(options.wt);
  t.wt = queries_of(p, query);
  const Tensor dout = dense(incoming.dout);
  (options.gamma ? t.dnormed : t.dout) = planes_of(p, dout);
  const Tensor dlse = incoming.dlse ? dense(*incoming.dlse) : Tensor();
  if (dlse.defined()) t.dlse = scalars_of(p, dlse);
  t.dwt = gradient_of(p, dwt);
  const Tensor weight = options.gamma ? dense(*options.gamma) : Tensor();
  if (weight.defined()) {
    t.gamma = bound(attnres::norm_weight(p), weight);
    t.dgamma = bound(attnres::norm_weight_gradient(p, Store::kWrite), dgamma);
  }
  run<Op>(like, p, t, device_of(dlast.device()));
  return {dlast, dwt, dgamma};
}

std::tuple<std::vector<Tensor>, Tensor, Tensor> mix_bwd(at::TensorList sources,
                                                        const Tensor& wt,
                                                        const Tensor& dout,
                                                        double eps,
                                                        const OptionalTensor& dlse,
                                                        const OptionalTensor& dsum,
                                                        const OptionalTensor& gamma,
                                                        double norm_eps) {
  const Like like = like_of("attnres_mix_bwd", sources, wt);
  std::vector<Tensor> dsources;
  for (std::size_t n = 1; n < sources.size(); ++n) dsources.push_back(like.allocate_plane());
  auto [dlast, dwt, dgamma] = gradients_once<AttnResMixBwd>(
      like, sources.size(), {dout, dlse, dsum}, {wt, eps, gamma, norm_eps},
      [&](AttnResMixBwd::Problem& p, AttnResMixBwd::Tensors& t, const Tensor& last) {
        if (dsum) p.add_to = {p.N - 1};
        std::vector<Tensor> v = all_dense(sources);
        std::vector<Tensor> dv = dsources;
        dv.push_back(last);
        t.v = list_of(p, v);
        t.dv = list_of(p, dv);
        return v;
      });
  dsources.push_back(dlast);
  return {dsources, dwt, dgamma};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> merge_bwd(const Tensor& partial,
                                                             const Tensor& wt,
                                                             const Tensor& read,
                                                             const Tensor& z,
                                                             const Tensor& dout,
                                                             double eps,
                                                             const OptionalTensor& dlse,
                                                             const OptionalTensor& dsum,
                                                             const OptionalTensor& gamma,
                                                             double norm_eps) {
  const Like like = like_of("attnres_merge_bwd", partial, wt);
  like.expect_plane("read", read);
  like.expect("z", z, at::kFloat, like.scalars());
  const Tensor dread = like.allocate_plane();
  const Tensor dz = like.allocate(at::kFloat, like.scalars());
  const auto [dpartial, dwt, dgamma] = gradients_once<AttnResMergeBwd>(
      like, 1, {dout, dlse, dsum}, {wt, eps, gamma, norm_eps},
      [&](AttnResMergeBwd::Problem& p, AttnResMergeBwd::Tensors& t, const Tensor& last) {
        if (dsum) p.dpartial = Store::kAdd;
        const std::vector<Tensor> all = {dense(partial), dense(read), dense(z)};
        t.partial = planes_of(p, all[0]);
        t.read = planes_of(p, all[1]);
        t.z = scalars_of(p, all[2]);
        t.dpartial = planes_of(p, last);
        t.dread = planes_of(p, dread);
        t.dz = scalars_of(p, dz);
        return all;
      });
  return {dpartial, dwt, dread, dz, dgamma};
}

std::tuple<std::vector<Tensor>, Tensor> phase1_bwd(at::TensorList sources,
                                                   const Tensor& wt,
                                                   const Tensor& dreads,
                                                   double eps,
                                                   const OptionalTensor& dlse) {
  const Like like = like_of("attnres_phase1_bwd", sources, wt);
  like.expect("wt", wt, like.query_type, {queries_in(like, wt), like.width()});
  like.expect("dreads", dreads, like.plane.scalar_type(), of_queries(wt, like.planes()));
  if (dlse) like.expect("dlse", *dlse, at::kFloat, of_queries(wt, like.scalars()));
  std::vector<Tensor> dsources;
  for (std::size_t n = 0; n < sources.size(); ++n) dsources.push_back(like.allocate_plane());
  const Tensor dwt = like.allocate(at::kFloat, {wt.sym_size(0), like.width()});
  if (dwt.is_meta()) return {dsources, dwt};

  const c10::OptionalDeviceGuard guard(dwt.device());
  auto p =
      problem_of<AttnResPhase1Bwd::Problem>(like, eps, static_cast<std::int64_t>(sources.size()));
  p.S = wt.size(0);
  p.dlse = option(dlse);
  const std::vector<Tensor> v = all_dense(sources);
  const std::vector<Tensor> all = {dense(wt), dense(dreads), dlse ? dense(*dlse) : Tensor()};
  AttnResPhase1Bwd::Tensors t;
  t.v = list_of(p, v);
  t.wt = queries_of(p, all[0], p.S);
  t.dout = planes_of(p, all[1], p.S);
  if (dlse) t.dlse = scalars_of(p, all[2], p.S);
  t.dv = list_of(p, dsources);
  t.dwt = gradient_of(p, dwt, p.S);
  run<AttnResPhase1Bwd>(like, p, t, device_of(dwt.device()));
  return {dsources, dwt};
}

#define ATTN_READ_OPTIONS "Tensor? gamma=None, float norm_eps=1e-6"
#define ATTN_INCOMING "float eps=1e-6, *, Tensor? dlse=None"

TORCH_LIBRARY_FRAGMENT(attnbench, library) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  library.def(
      "attnres_mix(Tensor[] sources, Tensor wt, float eps=1e-6, *, Tensor? "
      "update=None, " ATTN_READ_OPTIONS ") -> (Tensor out, Tensor lse, Tensor sum)",
      tags);
  library.def(
      "attnres_phase1(Tensor[] sources, Tensor wt, float eps=1e-6) -> (Tensor reads, Tensor lse)",
      tags);
  library.def(
      "attnres_merge(Tensor partial, Tensor wt, Tensor read, Tensor z, float eps=1e-6, *, "
      "Tensor? update=None, " ATTN_READ_OPTIONS ") -> (Tensor out, Tensor lse, Tensor sum)",
      tags);
  library.def("attnres_mix_bwd(Tensor[] sources, Tensor wt, Tensor dout, " ATTN_INCOMING
              ", Tensor? dsum=None, " ATTN_READ_OPTIONS
              ") -> (Tensor[] dsources, Tensor dwt, Tensor dgamma)",
              tags);
  library.def("attnres_phase1_bwd(Tensor[] sources, Tensor wt, Tensor dreads, " ATTN_INCOMING
              ") -> (Tensor[] dsources, Tensor dwt)",
              tags);
  library.def(
      "attnres_merge_bwd(Tensor partial, Tensor wt, Tensor read, Tensor z, Tensor "
      "dout, " ATTN_INCOMING ", Tensor? dsum=None, " ATTN_READ_OPTIONS
      ") -> (Tensor dpartial, Tensor dwt, Tensor dread, Tensor dz, Tensor dgamma)",
      tags);
}

void register_kernels(torch::Library& library) {
  library.impl("attnres_mix", TORCH_FN(mix));
  library.impl("attnres_phase1", TORCH_FN(phase1));
  library.impl("attnres_merge", TORCH_FN(merge));
  library.impl("attnres_mix_bwd", TORCH_FN(mix_bwd));
  library.impl("attnres_phase1_bwd", TORCH_FN(phase1_bwd));
  library.impl("attnres_merge_bwd", TORCH_FN(merge_bwd));
}

TORCH_LIBRARY_IMPL(attnbench, CPU, library) { register_kernels(library); }
TORCH_LIBRARY_IMPL(attnbench, CUDA, library) { register_kernels(library); }
TORCH_LIBRARY_IMPL(attnbench, Meta, library) { register_kernels(library); }

TORCH_LIBRARY_IMPL(attnbench, Autograd, library) {
  for (const char* op : {"attnres_mix_bwd", "attnres_phase1_bwd", "attnres_merge_bwd"})
    library.impl(op, torch::autograd::autogradNotImplementedFallback());
}

}  // namespace
}  // namespace attn
