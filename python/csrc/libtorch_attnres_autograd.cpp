// Gradients of the single reads, and the functions of attnres.h that are calls of the operators.
//
// A backward is an operator too. It computes weights and normalisers again from the sources, which it must
// read anyway: nothing is saved but what came in, and the sum where an update was added.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cstddef>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "python/csrc/attnres.h"

namespace attn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<Tensor>;
using Reads = std::tuple<Tensor, Tensor, Tensor>;

using Mix = Reads(
    at::TensorList, const Tensor&, double, const OptionalTensor&, const OptionalTensor&, double);
using MixBwd = std::tuple<std::vector<Tensor>, Tensor, Tensor>(at::TensorList,
                                                               const Tensor&,
                                                               const Tensor&,
                                                               double,
                                                               const OptionalTensor&,
                                                               const OptionalTensor&,
                                                               const OptionalTensor&,
                                                               double);
using Phase1 = std::tuple<Tensor, Tensor>(at::TensorList, const Tensor&, double);
using Phase1Bwd = std::tuple<std::vector<Tensor>, Tensor>(
    at::TensorList, const Tensor&, const Tensor&, double, const OptionalTensor&);
using Merge = Reads(const Tensor&,
                    const Tensor&,
                    const Tensor&,
                    const Tensor&,
                    double,
                    const OptionalTensor&,
                    const OptionalTensor&,
                    double);
using MergeBwd = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>(const Tensor&,
                                                                    const Tensor&,
                                                                    const Tensor&,
                                                                    const Tensor&,
                                                                    const Tensor&,
                                                                    double,
                                                                    const OptionalTensor&,
                                                                    const OptionalTensor&,
                                                                    const OptionalTensor&,
                                                                    double);

template <class Signature>
c10::TypedOperatorHandle<Signature> find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

const auto& mix_op() {
  static const auto op = find<Mix>("attnbench::attnres_mix");
  return op;
}
const auto& phase1_op() {
  static const auto op = find<Phase1>("attnbench::attnres_phase1");
  return op;
}
const auto& merge_op() {
  static const auto op = find<Merge>("attnbench::attnres_merge");
  return op;
}

OptionalTensor given(const Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

/// An output that nothing depends on has no gradient, though others may have one.
Tensor or_zeros(const Tensor& gradient, c10::SymIntArrayRef shape, const Tensor& like) {
  return gradient.defined() ? gradient : at::zeros_symint(shape, like.options());
}

/// What a read by one query keeps besides tensors, and how its outputs and gradients come back.
struct OneQuery {
  static variable_list outputs(
      AutogradContext* ctx, const Reads& reads, bool has_sum, double eps, double norm_eps) {
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["norm_eps"] = norm_eps;
    ctx->saved_data["update"] = has_sum;
    ctx->set_materialize_grads(false);
    const auto& [out, lse, sum] = reads;
    if (!has_sum) ctx->mark_non_differentiable({sum});
    return {out, lse, sum};
  }
  /// The gradient of gamma, and of an update, which is that of the last source.
  static Tensor of_gamma(const Tensor& gamma, const Tensor& dgamma) {
    return gamma.defined() ? dgamma.to(gamma.scalar_type()) : Tensor();
  }
};

class MixFunction : public torch::autograd::Function<MixFunction> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               at::TensorList sources,
                               const Tensor& wt,
                               double eps,
                               const OptionalTensor& update,
                               const OptionalTensor& gamma,
                               double norm_eps) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Reads reads = mix_op().call(sources, wt, eps, update, gamma, norm_eps);
    variable_list saved = sources.vec();
    if (update) saved.back() = std::get<2>(reads);
    saved.push_back(wt);
    saved.push_back(gamma.value_or(Tensor()));
    ctx->save_for_backward(std::move(saved));
    return OneQuery::outputs(ctx, reads, update.has_value(), eps, norm_eps);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = find<MixBwd>("attnbench::attnres_mix_bwd");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor& gamma = saved.back();
    const Tensor& wt = saved[saved.size() - 2];
    const at::TensorList sources = at::TensorList(saved).slice(0, saved.size() - 2);
    auto [dsources, dwt, dgamma] =
        op.call(sources, wt, or_zeros(grads[0], sources[0].sym_sizes(), sources[0]),
                ctx->saved_data["eps"].toDouble(), given(grads[1]), given(grads[2]), given(gamma),
                ctx->saved_data["norm_eps"].toDouble());
    variable_list result = std::move(dsources);
    const Tensor dlast = result.back();
    result.push_back(dwt.to(wt.scalar_type()));
    result.emplace_back();  // eps
    result.push_back(ctx->saved_data["update"].toBool() ? dlast : Tensor());
    result.push_back(OneQuery::of_gamma(gamma, dgamma));
    result.emplace_back();  // norm_eps
    return result;
  }
};

class MergeFunction : public torch::autograd::Function<MergeFunction> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               const Tensor& partial,
                               const Tensor& wt,
                               const Tensor& read,
                               const Tensor& z,
                               double eps,
                               const OptionalTensor& update,
                               const OptionalTensor& gamma,
                               double norm_eps) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Reads reads = merge_op().call(partial, wt, read, z, eps, update, gamma, norm_eps);
    ctx->save_for_backward(
        {update ? std::get<2>(reads) : partial, wt, read, z, gamma.value_or(Tensor())});
    return OneQuery::outputs(ctx, reads, update.has_value(), eps, norm_eps);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = find<MergeBwd>("attnbench::attnres_merge_bwd");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor& partial = saved[0];
    const Tensor& wt = saved[1];
    const Tensor& gamma = saved[4];
    const auto [dpartial, dwt, dread, dz, dgamma] =
        op.call(partial, wt, saved[2], saved[3], or_zeros(grads[0], partial.sym_sizes(), partial),
                ctx->saved_data["eps"].toDouble(), given(grads[1]), given(grads[2]), given(gamma),
                ctx->saved_data["norm_eps"].toDouble());
    return {dpartial,
            dwt.to(wt.scalar_type()),
            dread,
            dz,
            Tensor(),  // eps
            ctx->saved_data["update"].toBool() ? dpartial : Tensor(),
            OneQuery::of_gamma(gamma, dgamma),
            Tensor()};  // norm_eps
  }
};

class Phase1Function : public torch::autograd::Function<Phase1Function> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               at::TensorList sources,
                               const Tensor& wt,
                               double eps) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const auto [reads, lse] = phase1_op().call(sources, wt, eps);
    variable_list saved = sources.vec();
    saved.push_back(wt);
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["eps"] = eps;
    ctx->set_materialize_grads(false);
    return {reads, lse};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = find<Phase1Bwd>("attnbench::attnres_phase1_bwd");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor& wt = saved.back();
    const at::TensorList sources = at::TensorList(saved).slice(0, saved.size() - 1);
    std::vector<c10::SymInt> shape = {wt.sym_size(0)};
    for (const c10::SymInt& size : sources[0].sym_sizes()) shape.push_back(size);
    auto [result, dwt] = op.call(sources, wt, or_zeros(grads[0], shape, sources[0]),
                                 ctx->saved_data["eps"].toDouble(), given(grads[1]));
    result.push_back(dwt.to(wt.scalar_type()));
    result.emplace_back();  // eps
    return result;
  }
};

Reads reads_of(const variable_list& list) { return {list[0], list[1], list[2]}; }

Reads mix(at::TensorList sources,
          const Tensor& wt,
          double eps,
          const OptionalTensor& update,
          const OptionalTensor& gamma,
          double norm_eps) {
  return reads_of(MixFunction::apply(sources, wt, eps, update, gamma, norm_eps));
}

Reads merge(const Tensor& partial,
            const Tensor& wt,
            const Tensor& read,
            const Tensor& z,
            double eps,
            const OptionalTensor& update,
            const OptionalTensor& gamma,
            double norm_eps) {
  return reads_of(MergeFunction::apply(partial, wt, read, z, eps, update, gamma, norm_eps));
}

std::tuple<Tensor, Tensor> phase1(at::TensorList sources, const Tensor& wt, double eps) {
  const variable_list list = Phase1Function::apply(sources, wt, eps);
  return {list[0], list[1]};
}

TORCH_LIBRARY_IMPL(attnbench, Autograd, library) {
  library.impl("attnres_mix", TORCH_FN(mix));
  library.impl("attnres_phase1", TORCH_FN(phase1));
  library.impl("attnres_merge", TORCH_FN(merge));
}

}  // namespace
}  // namespace attn

namespace attnbench {

Read attnres_mix(at::TensorList sources, const at::Tensor& wt, const ReadOptions& o) {
  auto [out, lse, sum] = attn::mix_op().call(sources, wt, o.eps, o.update, o.gamma, o.norm_eps);
  return {out, lse, sum};
}

std::tuple<at::Tensor, at::Tensor> attnres_phase1(at::TensorList sources,
                                                  const at::Tensor& wt,
                                                  double eps) {
  return attn::phase1_op().call(sources, wt, eps);
}

Read attnres_merge(const at::Tensor& partial,
                   const at::Tensor& wt,
                   const at::Tensor& read,
                   const at::Tensor& z,
                   const ReadOptions& o) {
  auto [out, lse, sum] =
      attn::merge_op().call(partial, wt, read, z, o.eps, o.update, o.gamma, o.norm_eps);
  return {out, lse, sum};
}

}  // namespace attnbench
