// The backwards of the single reads, operators too: attnbench::attnres_mix_bwd, attnres_phase1_bwd and
// attnres_merge_bwd. They have no derivative of their own.
#include <ATen/DeviceGuard.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "python/csrc/libtorch_attnres.h"
#include "reference/attnres_merge_bwd/contract.h"
#include "reference/attnres_mix_bwd/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {
namespace {

using at::Tensor;
using attnres::Store;
using OptionalTensor = std::optional<Tensor>;

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
                              const QueryOptions& options,
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

#define ATTN_INCOMING "float eps=1e-6, *, Tensor? dlse=None"
#define ATTN_NORM "Tensor? dsum=None, Tensor? gamma=None, float norm_eps=1e-6"

TORCH_LIBRARY_FRAGMENT(attnbench, library) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  library.def("attnres_mix_bwd(Tensor[] sources, Tensor wt, Tensor dout, " ATTN_INCOMING
              ", " ATTN_NORM ") -> (Tensor[] dsources, Tensor dwt, Tensor dgamma)",
              tags);
  library.def("attnres_phase1_bwd(Tensor[] sources, Tensor wt, Tensor dreads, " ATTN_INCOMING
              ") -> (Tensor[] dsources, Tensor dwt)",
              tags);
  library.def(
      "attnres_merge_bwd(Tensor partial, Tensor wt, Tensor read, Tensor z, Tensor "
      "dout, " ATTN_INCOMING ", " ATTN_NORM
      ") -> (Tensor dpartial, Tensor dwt, Tensor dread, Tensor dz, Tensor dgamma)",
      tags);
}

void register_kernels(torch::Library& library) {
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
