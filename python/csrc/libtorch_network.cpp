// attnbench::attnres_network: the block runner around sublayers of the caller's, as one node of autograd.
//
// The node has the parameters of all sublayers as inputs. Each sublayer has a graph of its own, from what it
// reads and its parameters to what it returns: kept from the forward where nothing is recomputed, else built
// again in the backward. Reads, sums and gradients of blocks are the runner's, in the planes' type.
#include <ATen/DeviceGuard.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>
#include <torch/library.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "impls/attnres/block_runner.h"
#include "python/csrc/attnres.h"
#include "python/csrc/libtorch_attnres.h"
#include "python/csrc/libtorch_sublayer.h"

namespace attn {
namespace {

using at::Tensor;
using attnbench::Sublayer;
using attnres::BlockRunner;
using attnres::RunnerConfig;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kName = "attnres_network";
constexpr std::array<std::string_view, 3> kScheduleNames = {"auto", "one_shot", "two_phase"};
constexpr std::array<std::string_view, 3> kRecomputeNames = {"none", "keep_o1", "block"};

/// A network and what its forward leaves for its backward besides the blocks' sums.
struct Network : torch::CustomClassHolder {
  RunnerConfig config;
  DeviceInfo device;
  std::vector<Sublayer> sublayers;  ///< with the parameters that have a gradient, once each
  at::TensorOptions options;
  std::vector<std::int64_t> sizes;         ///< of a plane
  std::shared_ptr<Scratch> saved;          ///< of the runner
  std::vector<Graph> graphs;               ///< [L]
  std::vector<Surroundings> surroundings;  ///< [L] of the forward, where sublayers run again
  bool is_used_up = false;                 ///< by a backward, even one that has thrown

  Tensor planes(std::int64_t count) const {
    std::vector<std::int64_t> shape = {count};
    shape.insert(shape.end(), sizes.begin(), sizes.end());
    return at::empty(shape, options);
  }
  /// Memory of others as a plane.
  template <class Owner>
  Tensor view(const void* data, Owner owner) const {
    return at::from_blob(
        const_cast<void*>(data), sizes, [owner = std::move(owner)](void*) {}, options,
        options.device());
  }
};

/// One run of the runner, forward or backward, and what its sublayers hand out meanwhile.
class Pass {
 public:
  Pass(Network& network, const Tensor& embedding, const Tensor& wt, const Tensor& blocks)
      : network_(network),
        embedding_(dense(embedding)),
        wt_(dense(wt)),
        blocks_(blocks),
        workspace_(std::make_shared<Scratch>(
            BlockRunner::workspace_bytes(network.config, network.device), embedding.device())) {}

  Tensor forward() {
    const Tensor out = at::empty(network_.sizes, network_.options);
    attnres::RunnerMemory memory = this->memory();
    memory.out = out.data_ptr();
    runner(memory).forward();
    return out;
  }

  struct Gradients {
    Tensor embedding;
    Tensor wt;
    variable_list parameters;
  };
  Gradients backward(const Tensor& dout) {
    is_backward_ = true;
    const Tensor given = dense(dout);
    dblocks_ = network_.planes(1 + network_.config.network.blocks());
    Gradients gradients;
    gradients.wt = at::empty(wt_.sizes(), wt_.options().dtype(at::kFloat));
    of_sublayers_.resize(network_.sublayers.size());
    attnres::RunnerMemory memory = this->memory();
    memory.dout = given.const_data_ptr();
    memory.dblocks = dblocks_.data_ptr();
    memory.dwt = gradients.wt.data_ptr<float>();
    runner(memory).backward();
    gradients.embedding = dblocks_.select(0, 0).clone();  // the others' memory goes back
    for (const variable_list& list : of_sublayers_)
      gradients.parameters.insert(gradients.parameters.end(), list.begin(), list.end());
    return gradients;
  }

 private:
  attnres::RunnerMemory memory() const {
    return {.embedding = embedding_.const_data_ptr(),
            .wt = wt_.const_data_ptr(),
            .blocks = blocks_.data_ptr(),
            .saved = network_.saved->workspace().data,
            .workspace = workspace_->workspace()};
  }
  BlockRunner runner(const attnres::RunnerMemory& memory) {
    const Stream stream = stream_of(embedding_.device());
    return {network_.config,
            network_.device,
            memory,
            {.place =
                 [this](std::int64_t) {
                   place_ = at::empty(network_.sizes, network_.options);
                   return place_.data_ptr();
                 },
             .forward = [this](std::int64_t i, const void* h) { return forward_of(i, h); },
             .backward = [this](std::int64_t i, const void* du) { return backward_of(i, du); }},
            [stream](const Launch& launch) { launch.enqueue(stream); }};
  }

  Tensor plane_at(const void* data) const {
    if (place_.defined() && data == place_.const_data_ptr()) return place_;
    if (data == embedding_.const_data_ptr()) return embedding_;
    const Workspace saved = network_.saved->workspace();
    const auto offset =
        reinterpret_cast<std::uintptr_t>(data) - reinterpret_cast<std::uintptr_t>(saved.data);
    return network_.view(data, offset < saved.bytes ? network_.saved : workspace_);
  }

  const void* forward_of(std::int64_t i, const void* h) {
    const RunnerConfig& config = network_.config;
    const auto index = static_cast<std::size_t>(i);
    std::optional<Past> past;
    if (is_backward_) {
      past.emplace(network_.surroundings[index], embedding_.device());
    } else if (config.recomputes()) {
      network_.surroundings.emplace_back(embedding_.device());
    }
    const bool with_graph = is_backward_ || config.keeps_sums();
    const Graph graph = run_sublayer(kName, network_.sublayers[index], i, plane_at(h), with_graph);
    if (with_graph) network_.graphs[index] = graph;
    // As long as the runner may read it: the first of a block until the block is done.
    (i % config.network.S == 0 ? first_update_ : updates_[i % 2]) = graph.u;
    return graph.u.const_data_ptr();
  }

  const void* backward_of(std::int64_t i, const void* data) {
    const auto index = static_cast<std::size_t>(i);
    const Graph graph = std::exchange(network_.graphs[index], {});
    const Tensor du = network_.view(data, dblocks_);
    variable_list inputs = network_.sublayers[index].parameters;
    inputs.push_back(graph.h);
    variable_list gradients(inputs.size());
    if (graph.u.requires_grad())
      gradients = torch::autograd::grad({graph.u}, inputs, {du}, /*retain_graph=*/std::nullopt,
                                        /*create_graph=*/false, /*allow_unused=*/true);
    for (Tensor& gradient : gradients) {  // du changes afterwards
      if (gradient.defined() && gradient.is_alias_of(du)) gradient = gradient.clone();
    }
    dh_ = gradients.back().defined() ? dense(gradients.back()) : at::zeros_like(du);
    gradients.pop_back();
    of_sublayers_[index] = std::move(gradients);
    return dh_.const_data_ptr();
  }

  Network& network_;
  Tensor embedding_;
  Tensor wt_;
  Tensor blocks_;
  std::shared_ptr<Scratch> workspace_;
  bool is_backward_ = false;
  Tensor place_;  // what the next sublayer reads
  Tensor first_update_;
  std::array<Tensor, 2> updates_;
  Tensor dblocks_;
  Tensor dh_;
  std::vector<variable_list> of_sublayers_;
};

class NetworkFunction : public torch::autograd::Function<NetworkFunction> {
 public:
  static Tensor forward(AutogradContext* ctx,
                        const Tensor& embedding,
                        const Tensor& wt,
                        at::TensorList /*parameters*/,
                        const c10::intrusive_ptr<Network>& network) {
    const Tensor blocks = network->planes(network->config.network.blocks());
    Tensor out = Pass(*network, embedding, wt, blocks).forward();
    ctx->save_for_backward({embedding, wt, blocks});
    ctx->saved_data["network"] = c10::IValue::make_capsule(network);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), kName, ": there is no second derivative");
    const auto network =
        c10::static_intrusive_pointer_cast<Network>(ctx->saved_data["network"].toCapsule());
    const bool may_repeat = network->config.recompute == attnres::Recompute::kBlock;
    TORCH_CHECK(may_repeat || !network->is_used_up, kName,
                ": a second backward needs recompute='block'");
    network->is_used_up = true;
    const variable_list saved = ctx->get_saved_variables();
    const Tensor& wt = saved[1];
    const c10::OptionalDeviceGuard guard(wt.device());
    Pass::Gradients gradients = Pass(*network, saved[0], wt, saved[2]).backward(grads[0]);
    if (!may_repeat) network->saved.reset();  // though the output may live on
    variable_list result = {gradients.embedding, gradients.wt.to(wt.scalar_type())};
    result.insert(result.end(), gradients.parameters.begin(), gradients.parameters.end());
    result.emplace_back();  // network
    return result;
  }
};

RunnerConfig config_of(const Tensor& embedding,
                       const Tensor& wt,
                       std::size_t sublayers,
                       const attnbench::NetworkOptions& options) {
  TORCH_CHECK_VALUE(embedding.dim() >= 1 && dtype_of(embedding.scalar_type()) &&
                        (embedding.is_cpu() || embedding.is_cuda()),
                    kName,
                    ": embedding must be [..., D] in float16, bfloat16 or float32 on a CPU or "
                    "a GPU, not ",
                    embedding.scalar_type(), " ", embedding.sizes(), " on ", embedding.device());
  const auto L = static_cast<std::int64_t>(sublayers);
  const std::array<std::int64_t, 2> shape = {L + 1, embedding.size(-1)};
  TORCH_CHECK_VALUE(wt.sizes() == at::IntArrayRef(shape) && dtype_of(wt.scalar_type()) &&
                        wt.device() == embedding.device(),
                    kName, ": queries must be [L + 1, D] = ", at::IntArrayRef(shape),
                    " in float16, bfloat16 or float32 on ", embedding.device(), ", not ",
                    wt.scalar_type(), " ", wt.sizes(), " on ", wt.device());
  RunnerConfig config;
  config.schedule =
      choice<attnres::Schedule>(kName, "schedule", text_of(options.schedule), kScheduleNames);
  config.recompute =
      choice<attnres::Recompute>(kName, "recompute", text_of(options.recompute), kRecomputeNames);
  describe(config.network, embedding, wt.scalar_type(), options.eps);
  config.network.L = L;
  config.network.S = options.block_size;
  const Support valid = attnres::validate_network(config.network);
  TORCH_CHECK_VALUE(valid.ok, kName, ": ", valid.reason);
  return config;
}

/// Those with a gradient, once each.
std::vector<Tensor> with_gradient(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> list;
  std::set<const void*> seen;
  for (const Tensor& tensor : parameters) {
    if (tensor.requires_grad() && seen.insert(tensor.unsafeGetTensorImpl()).second)
      list.push_back(tensor);
  }
  return list;
}

using CallSublayer = Tensor(const Tensor&, const Tensor&, std::int64_t);

/// Of Python, whose sublayers hang on a tensor: what holds the tensor keeps them alive.
Tensor network_of_python(const Tensor& embedding,
                         const Tensor& wt,
                         const Tensor& sublayers,
                         at::TensorList parameters,
                         at::IntArrayRef counts,
                         std::int64_t block_size,
                         c10::string_view schedule,
                         c10::string_view recompute,
                         double eps) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("attnbench::attnres_sublayer", "")
                             .typed<CallSublayer>();
  std::vector<Sublayer> list;
  std::size_t first = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    const auto count = static_cast<std::size_t>(counts[i]);
    list.push_back({[sublayers, index](const Tensor& h) { return op.call(h, sublayers, index); },
                    parameters.slice(first, count).vec()});
    first += count;
  }
  return attnbench::attnres_network(embedding, wt, std::move(list),
                                    {.block_size = block_size,
                                     .schedule = {schedule.data(), schedule.size()},
                                     .recompute = {recompute.data(), recompute.size()},
                                     .eps = eps});
}

TORCH_LIBRARY_FRAGMENT(attnbench, library) {
  library.def(
      "attnres_network(Tensor embedding, Tensor wt, Tensor sublayers, Tensor[] parameters, "
      "int[] counts, int block_size=8, str schedule='auto', str recompute='block', "
      "float eps=1e-6) -> Tensor");
  library.def("attnres_sublayer(Tensor h, Tensor sublayers, int index) -> Tensor");
  library.impl("attnres_network", torch::dispatch(c10::DispatchKey::CompositeImplicitAutograd,
                                                  TORCH_FN(network_of_python)));
}

}  // namespace
}  // namespace attn

namespace attnbench {

at::Tensor attnres_network(const at::Tensor& embedding,
                           const at::Tensor& wt,
                           std::vector<Sublayer> sublayers,
                           const NetworkOptions& options) {
  auto network = c10::make_intrusive<attn::Network>();
  network->config = attn::config_of(embedding, wt, sublayers.size(), options);
  network->device = attn::device_of(embedding.device());
  std::vector<at::Tensor> parameters;
  for (Sublayer& sublayer : sublayers) {
    sublayer.parameters = attn::with_gradient(sublayer.parameters);
    parameters.insert(parameters.end(), sublayer.parameters.begin(), sublayer.parameters.end());
  }
  const bool has_gradient = embedding.requires_grad() || wt.requires_grad() || !parameters.empty();
  network->config.gradient = has_gradient && at::GradMode::is_enabled();
  const attn::Support support = attn::BlockRunner::supports(network->config, network->device);
  TORCH_CHECK_NOT_IMPLEMENTED(support.ok, attn::kName, ": ", support.reason);
  network->sublayers = std::move(sublayers);
  network->options = embedding.options().requires_grad(false);
  network->sizes = embedding.sizes().vec();
  network->graphs.resize(network->sublayers.size());
  const c10::OptionalDeviceGuard guard(embedding.device());
  network->saved = std::make_shared<attn::Scratch>(attn::BlockRunner::saved_bytes(network->config),
                                                   embedding.device());
  if (network->config.gradient)
    return attn::NetworkFunction::apply(embedding, wt, at::TensorList(parameters), network);
  const at::Tensor blocks = network->planes(network->config.network.blocks());
  return attn::Pass(*network, embedding, wt, blocks).forward();
}

}  // namespace attnbench
