// An operator whose last backends are plugins': everything else it hands on.
#include "harness/plugin/plugin_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "harness/plugin/plugin_backend.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

/// Backends beyond the operator's own, the first of which has index `first`.
struct MoreBackends {
  std::size_t first = 0;
  std::vector<PluginBackend> list;

  /// Null where the operator's own is meant.
  const PluginBackend* find(std::size_t index) const {
    return index < first ? nullptr : &list.at(index - first);
  }
};
using More = std::shared_ptr<const MoreBackends>;

class ExtendedProblem final : public AnyProblem {
 public:
  ExtendedProblem(std::unique_ptr<AnyProblem> own, More more)
      : own_(std::move(own)), more_(std::move(more)) {}

  std::vector<FieldValue> fields() const override { return own_->fields(); }
  std::string set(std::string_view field, std::string_view text) override {
    return own_->set(field, text);
  }
  std::unique_ptr<AnyProblem> clone() const override {
    return std::make_unique<ExtendedProblem>(own_->clone(), more_);
  }
  Support validate() const override { return own_->validate(); }
  DType input_dtype() const override { return own_->input_dtype(); }
  std::vector<TensorSpec> tensor_specs() const override { return own_->tensor_specs(); }
  Work work() const override { return own_->work(); }
  void write_given(std::span<void* const> tensors, MemorySpace space) const override {
    own_->write_given(tensors, space);
  }
  std::unique_ptr<AnyReference> reference(std::span<void* const> tensors,
                                          MemorySpace space) const override {
    return own_->reference(tensors, space);
  }
  Support supports(std::size_t backend, const DeviceInfo& device) const override {
    const PluginBackend* plugin = more_->find(backend);
    return plugin ? plugin->supports(*own_, device) : own_->supports(backend, device);
  }
  std::size_t workspace_bytes(std::size_t backend, const DeviceInfo& device) const override {
    const PluginBackend* plugin = more_->find(backend);
    return plugin ? plugin->workspace_bytes(*own_, device) : own_->workspace_bytes(backend, device);
  }
  Launch plan(std::size_t backend,
              std::span<void* const> tensors,
              Workspace workspace,
              const DeviceInfo& device) const override {
    const PluginBackend* plugin = more_->find(backend);
    return plugin ? plugin->plan(*own_, tensors, workspace, device)
                  : own_->plan(backend, tensors, workspace, device);
  }

 private:
  std::unique_ptr<AnyProblem> own_;
  More more_;
};

class ExtendedOperator final : public AnyOperator {
 public:
  ExtendedOperator(std::shared_ptr<const AnyOperator> own, std::vector<PluginBackend> backends)
      : own_(std::move(own)),
        more_(std::make_shared<MoreBackends>(
            MoreBackends{.first = own_->backends().size(), .list = std::move(backends)})) {}

  std::string_view name() const override { return own_->name(); }
  std::vector<AnyBackend> backends() const override {
    std::vector<AnyBackend> all = own_->backends();
    for (const PluginBackend& one : more_->list)
      all.push_back(
          {.id = one.info().id, .info = &one.info(), .trim = one.trim(), .plugin = &one.file()});
    return all;
  }
  std::vector<AnySuite> suites() const override {
    std::vector<AnySuite> all = own_->suites();
    for (AnySuite& suite : all) {
      for (SuiteCase& one : suite.cases) one.problem = extended(one.problem->clone());
    }
    return all;
  }
  std::vector<AnyFeature> features() const override {
    std::vector<AnyFeature> all = own_->features();
    for (AnyFeature& feature : all) feature.problem = extended(feature.problem->clone());
    return all;
  }
  std::unique_ptr<AnyProblem> default_problem() const override {
    return extended(own_->default_problem());
  }

 private:
  std::unique_ptr<AnyProblem> extended(std::unique_ptr<AnyProblem> problem) const {
    return std::make_unique<ExtendedProblem>(std::move(problem), more_);
  }

  std::shared_ptr<const AnyOperator> own_;
  More more_;
};

/// Those of `backends` that are the operator's. UsageError where an id is taken.
std::vector<PluginBackend> backends_for(const AnyOperator& op,
                                        const std::vector<PluginBackend>& backends) {
  std::set<std::string_view> ids;
  for (const AnyBackend& own : op.backends()) ids.insert(own.id);
  std::vector<PluginBackend> found;
  for (const PluginBackend& backend : backends) {
    if (backend.op() != op.name()) continue;
    if (!ids.insert(backend.info().id).second)
      throw UsageError(fmt::format("{}: there is a backend '{}' already", backend.file().name,
                                   backend.info().id));
    found.push_back(backend);
  }
  return found;
}

}  // namespace

Operators with_plugins(Operators operators,
                       const std::vector<std::string>& plugins,
                       const AttnbenchEmbedding* embedding) {
  std::vector<PluginBackend> backends;
  for (const std::string& plugin : std::set(plugins.begin(), plugins.end()))
    std::ranges::move(load_plugin(plugin, embedding), std::back_inserter(backends));
  for (const PluginBackend& backend : backends) {
    if (std::ranges::none_of(operators, [&](auto& op) { return op->name() == backend.op(); }))
      throw UsageError(fmt::format("{}: backend '{}' is for '{}', which is no operator here",
                                   backend.file().name, backend.info().id, backend.op()));
  }
  for (auto& op : operators) {
    if (std::vector<PluginBackend> more = backends_for(*op, backends); !more.empty())
      op = std::make_shared<ExtendedOperator>(op, std::move(more));
  }
  return operators;
}

}  // namespace attn
