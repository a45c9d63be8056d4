// Loads plugins, checks what they say of themselves, and calls them.
#include "harness/plugin/plugin_backend.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <regex>
#include <stdexcept>
#include <utility>

#include "harness/plugin/callable.h"
#include "harness/plugin/plugin_problem.h"
#include "harness/seed.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

std::string contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

NumericsClass numerics_of(const char* name,
                          const AttnbenchBackend& backend,
                          std::string_view file) {
  const auto* const known =
      std::find(kNumericsNames.begin(), kNumericsNames.end(), std::string_view(name));
  if (known == kNumericsNames.end())
    throw UsageError(fmt::format("{}: backend '{}' has numerics '{}', not one of {}", file,
                                 backend.id, name, fmt::join(kNumericsNames, ", ")));
  return static_cast<NumericsClass>(known - kNumericsNames.begin());
}

/// A launch with all that its C struct points to.
struct PlannedLaunch {
  PlannedLaunch(const AttnbenchBackend& owner,
                const AnyProblem& any,
                std::span<void* const> tensors,
                Workspace workspace,
                const DeviceInfo& where)
      : backend(owner),
        problem(owner.op, any, tensors),
        device_info(where),
        device(plugin_device(device_info)),
        launch{.size = sizeof(AttnbenchLaunch),
               .problem = problem.get(),
               .device = &device,
               .workspace = workspace.data,
               .workspace_bytes = workspace.bytes,
               .state = nullptr,
               .note = nullptr,
               .numerics = nullptr} {}
  ~PlannedLaunch() {
    if (backend.release && planned) backend.release(&backend, &launch);
  }
  PlannedLaunch(const PlannedLaunch&) = delete;
  PlannedLaunch& operator=(const PlannedLaunch&) = delete;

  const AttnbenchBackend& backend;
  PluginProblem problem;
  DeviceInfo device_info;
  AttnbenchDevice device;
  AttnbenchLaunch launch;
  bool planned = false;
};

void check(const char* complaint) {
  if (!complaint) return;
  if (std::string_view(complaint) == ATTNBENCH_OUT_OF_MEMORY) throw std::bad_alloc();
  throw std::runtime_error(complaint);
}

/// The backends of what a plugin's entry returned. UsageError where it is not of this version.
std::vector<PluginBackend> backends_of(const AttnbenchPlugin* plugin, PluginFile from) {
  const std::string& name = from.name;
  if (!plugin) throw UsageError(name + ": attnbench_plugin returned NULL");
  if (plugin->abi_version != ATTNBENCH_PLUGIN_ABI)
    throw UsageError(fmt::format("{} was built for version {} of the plugin interface, not {}",
                                 name, plugin->abi_version, ATTNBENCH_PLUGIN_ABI));
  if (plugin->size < sizeof *plugin || plugin->backend_count == 0)
    throw UsageError(name + " holds no backend");
  const auto file = std::make_shared<const PluginFile>(std::move(from));
  std::vector<PluginBackend> backends;
  for (std::size_t i = 0; i < plugin->backend_count; ++i)
    backends.emplace_back(*plugin->backends[i], file);
  return backends;
}

std::vector<PluginBackend> load_callable(const std::string& name,
                                         const AttnbenchEmbedding* embedding) {
  if (!embedding)
    throw UsageError(
        fmt::format("'{}' is a function of Python: 'python -m attnbench' takes it", name));
  AttnbenchLoaded loaded{.size = sizeof loaded, .plugin = nullptr, .hash = nullptr};
  if (const char* complaint = embedding->load(name.c_str(), &loaded)) throw UsageError(complaint);
  return backends_of(loaded.plugin, {.path = name, .name = name, .hash = loaded.hash});
}

}  // namespace

PluginBackend::PluginBackend(const AttnbenchBackend& backend,
                             std::shared_ptr<const PluginFile> file)
    : backend_(&backend), file_(std::move(file)) {
  static const std::regex kId("[a-z][a-z0-9_]*(@[0-9a-f]{7,40})?");
  const auto refuse = [&](std::string_view what) {
    throw UsageError(fmt::format(
        "{}: backend '{}' {}", file_->name,
        backend.size >= offsetof(AttnbenchBackend, trim) && backend.id ? backend.id : "", what));
  };
  if (backend.size < offsetof(AttnbenchBackend, trim)) refuse("is smaller than this version's");
  if (!backend.id || !std::regex_match(backend.id, kId))
    refuse("needs an id of lower-case letters, digits and '_'");
  for (const auto& [name, text] : {std::pair{"op", backend.op},
                                   {"summary", backend.summary},
                                   {"math", backend.math},
                                   {"numerics", backend.numerics}}) {
    if (!text || !*text) refuse(fmt::format("does not describe itself: {} is missing", name));
  }
  if (backend.memory < ATTNBENCH_HOST || backend.memory > ATTNBENCH_ANY)
    refuse("names no memory space");
  if (!backend.enqueue) refuse("has no function enqueue");
  info_ = {.id = backend.id,
           .summary = backend.summary,
           .memory = static_cast<MemorySpace>(backend.memory),
           .math = backend.math,
           .numerics = numerics_of(backend.numerics, backend, file_->name),
           .deterministic = backend.deterministic != 0};
}

Support PluginBackend::supports(const AnyProblem& any, const DeviceInfo& device) const {
  if (!backend_->supports) return Support::yes();
  const PluginProblem problem(op(), any, {});
  const AttnbenchDevice where = plugin_device(device);
  const char* reason = backend_->supports(backend_, problem.get(), &where);
  return reason ? Support::no(reason) : Support::yes();
}

std::size_t PluginBackend::workspace_bytes(const AnyProblem& any, const DeviceInfo& device) const {
  if (!backend_->workspace_bytes) return 0;
  const PluginProblem problem(op(), any, {});
  const AttnbenchDevice where = plugin_device(device);
  return backend_->workspace_bytes(backend_, problem.get(), &where);
}

Launch PluginBackend::plan(const AnyProblem& any,
                           std::span<void* const> tensors,
                           Workspace workspace,
                           const DeviceInfo& device) const {
  const auto planned = std::make_shared<PlannedLaunch>(*backend_, any, tensors, workspace, device);
  if (backend_->plan) check(backend_->plan(backend_, &planned->launch));
  planned->planned = true;
  const char* note = planned->launch.note;
  const char* numerics = planned->launch.numerics;
  Launch launch;
  launch.enqueue = [planned](Stream stream) {
    check(planned->backend.enqueue(&planned->backend, &planned->launch, stream.handle));
  };
  if (note) launch.note = note;
  if (numerics) launch.numerics = numerics_of(numerics, *backend_, file_->name);
  return launch;
}

std::function<void()> PluginBackend::trim() const {
  const AttnbenchBackend* backend = backend_;
  if (backend->size <= offsetof(AttnbenchBackend, trim) || !backend->trim) return {};
  return [backend] { backend->trim(backend); };
}

std::vector<PluginBackend> load_plugin(const std::string& path,
                                       const AttnbenchEmbedding* embedding) {
  namespace fs = std::filesystem;
  if (names_callable(path)) return load_callable(path, embedding);
  if (!fs::is_regular_file(path)) throw UsageError("there is no plugin '" + path + "'");
  const std::string name = fs::path(path).filename();
  // Its symbols stay its own, so that two builds of the same backends can be in one process.
  void* handle = dlopen(fs::absolute(path).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) throw UsageError(fmt::format("cannot load the plugin '{}': {}", path, dlerror()));
  using Entry = const AttnbenchPlugin* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(handle, "attnbench_plugin"));
  if (!entry) throw UsageError(name + " is no plugin: it exports no attnbench_plugin");
  return backends_of(entry(), {.path = path, .name = name, .hash = hex(fnv1a(contents_of(path)))});
}

}  // namespace attn
