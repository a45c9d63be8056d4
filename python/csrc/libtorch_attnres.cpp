// The operators attnbench::attnres_mix, attnres_phase1 and attnres_merge.
//
// A call describes the problem by the contract, allocates its results and, from the device's caching
// allocator, the workspace, and enqueues one launch of a backend on the current stream. Shapes without data
// take the same way up to the launch.
#include "python/csrc/libtorch_attnres.h"

#include <ATen/DeviceGuard.h>
#include <ATen/ops/add.h>
#include <torch/library.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "reference/attnres_merge/contract.h"
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_phase1/contract.h"

namespace attn {
namespace {

using at::Tensor;
using attnres::Option;
using OptionalTensor = std::optional<Tensor>;
using Reads = std::tuple<Tensor, Tensor, Tensor>;

/// A mix of N sources or a merge, with the normaliser. `last` is the source that an update is added to;
/// `bind` gets the problem, its tensors and the dense last source, and returns what must outlive the launch.
template <class Op, class Bind>
Reads read_once(const Like& like,
                std::size_t N,
                const Tensor& last,
                const OptionalTensor& update,
                const QueryOptions& options,
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

#define ATTN_READ_OPTIONS                                             \
  "Tensor? update=None, Tensor? gamma=None, float norm_eps=1e-6) -> " \
  "(Tensor out, Tensor lse, Tensor sum)"

TORCH_LIBRARY_FRAGMENT(attnbench, library) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  library.def("attnres_mix(Tensor[] sources, Tensor wt, float eps=1e-6, *, " ATTN_READ_OPTIONS,
              tags);
  library.def(
      "attnres_phase1(Tensor[] sources, Tensor wt, float eps=1e-6) -> (Tensor reads, Tensor lse)",
      tags);
  library.def(
      "attnres_merge(Tensor partial, Tensor wt, Tensor read, Tensor z, float eps=1e-6, "
      "*, " ATTN_READ_OPTIONS,
      tags);
}

void register_kernels(torch::Library& library) {
  library.impl("attnres_mix", TORCH_FN(mix));
  library.impl("attnres_phase1", TORCH_FN(phase1));
  library.impl("attnres_merge", TORCH_FN(merge));
}

TORCH_LIBRARY_IMPL(attnbench, CPU, library) { register_kernels(library); }
TORCH_LIBRARY_IMPL(attnbench, CUDA, library) { register_kernels(library); }
TORCH_LIBRARY_IMPL(attnbench, Meta, library) { register_kernels(library); }

}  // namespace
}  // namespace attn
