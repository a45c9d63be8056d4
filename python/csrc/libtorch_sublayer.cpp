// Runs sublayers and checks what they do.
#include "python/csrc/libtorch_sublayer.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <mutex>
#include <set>

#include "python/csrc/libtorch_attnres.h"

namespace attn {
namespace {

using at::Tensor;
using torch::autograd::Node;
using torch::autograd::variable_list;

/// Autocast keeps cast weights: those of a run without gradients would serve one with gradients.
class NoAutocastCache {
 public:
  NoAutocastCache() : before_(at::autocast::is_autocast_cache_enabled()) {
    at::autocast::set_autocast_cache_enabled(false);
  }
  ~NoAutocastCache() { at::autocast::set_autocast_cache_enabled(before_); }
  NoAutocastCache(const NoAutocastCache&) = delete;
  NoAutocastCache& operator=(const NoAutocastCache&) = delete;

 private:
  bool before_;
};

/// Whether u depends on no tensor with a gradient but `inputs`.
bool depends_on_nothing_else(const Tensor& u, const variable_list& inputs) {
  if (!u.requires_grad()) return true;
  using torch::autograd::Edge;
  std::vector<Edge> ends;  // which keep the nodes of leaves alive
  for (const Tensor& input : inputs) ends.push_back(torch::autograd::impl::gradient_edge(input));
  std::vector<Edge> todo = {torch::autograd::impl::gradient_edge(u)};
  std::set<Node*> seen;
  while (!todo.empty()) {
    const Edge edge = todo.back();
    todo.pop_back();
    if (!edge.is_valid() || std::find(ends.begin(), ends.end(), edge) != ends.end()) continue;
    Node* node = edge.function.get();
    if (dynamic_cast<const torch::autograd::AccumulateGrad*>(node)) return false;
    if (seen.insert(node).second)
      todo.insert(todo.end(), node->next_edges().begin(), node->next_edges().end());
  }
  return true;
}

}  // namespace

Surroundings::Surroundings(c10::Device device) {
  add(c10::Device(at::kCPU));
  if (!device.is_cpu()) add(device);
}

void Surroundings::add(c10::Device device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(generator.mutex());
  all_.push_back({device.type(), generator, generator.get_state(),
                  at::autocast::is_autocast_enabled(device.type()),
                  at::autocast::get_autocast_dtype(device.type())});
}

void Surroundings::restore() const {
  for (const One& one : all_) {
    at::Generator generator = one.generator;
    const std::lock_guard lock(generator.mutex());
    generator.set_state(one.state);
    at::autocast::set_autocast_enabled(one.type, one.autocast);
    at::autocast::set_autocast_dtype(one.type, one.autocast_type);
  }
}

Graph run_sublayer(const char* op,
                   const attnbench::Sublayer& sublayer,
                   std::int64_t index,
                   const Tensor& plane,
                   bool with_graph) {
  const at::AutoGradMode mode(with_graph);
  const NoAutocastCache no_cache;
  Tensor h = plane.detach();
  if (with_graph) h.set_requires_grad(true);
  const auto version = [&h] { return h.is_inference() ? 0 : h._version(); };
  const auto before = version();
  const Tensor u = sublayer.forward(h);
  TORCH_CHECK_VALUE(u.defined(), op, ": sublayer ", index, " must return a tensor");
  TORCH_CHECK_VALUE(
      u.sizes() == h.sizes() && u.scalar_type() == h.scalar_type() && u.device() == h.device(), op,
      ": sublayer ", index, " must return ", h.scalar_type(), " ", h.sizes(), " on ", h.device(),
      " as it reads, not ", u.scalar_type(), " ", u.sizes(), " on ", u.device());
  TORCH_CHECK_VALUE(version() == before, op, ": sublayer ", index, " must not write what it reads");
  variable_list inputs = sublayer.parameters;
  inputs.push_back(h);
  TORCH_CHECK_VALUE(!with_graph || depends_on_nothing_else(u, inputs), op, ": sublayer ", index,
                    " uses a tensor that has a gradient and is not among its parameters");
  return {h, dense(u)};
}

}  // namespace attn
