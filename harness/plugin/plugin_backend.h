// A backend of a plugin as the harness drives it, and the plugins' files.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/operator.h"
#include "harness/plugin/attnbench_embed.h"

namespace attn {

/// One backend of a loaded plugin. What its functions complain about while they plan or run becomes
/// a std::runtime_error.
class PluginBackend {
 public:
  /// Throws UsageError in one sentence for a backend that does not describe itself.
  PluginBackend(const AttnbenchBackend& backend, std::shared_ptr<const PluginFile> file);

  std::string_view op() const { return backend_->op; }
  const BackendInfo& info() const { return info_; }
  const PluginFile& file() const { return *file_; }
  Support supports(const AnyProblem& problem, const DeviceInfo& device) const;
  std::size_t workspace_bytes(const AnyProblem& problem, const DeviceInfo& device) const;
  Launch plan(const AnyProblem& problem,
              std::span<void* const> tensors,
              Workspace workspace,
              const DeviceInfo& device) const;
  /// Of AnyBackend; empty where the plugin has none.
  std::function<void()> trim() const;

 private:
  const AttnbenchBackend* backend_;
  std::shared_ptr<const PluginFile> file_;
  BackendInfo info_;
};

/// Loads the shared object, which stays loaded, or takes a function of the program around this one,
/// "module:function". UsageError in one sentence where that cannot be, or where it is no plugin of
/// this version.
std::vector<PluginBackend> load_plugin(const std::string& path,
                                       const AttnbenchEmbedding* embedding);

}  // namespace attn
