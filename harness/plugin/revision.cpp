// Asks tools/build_revision.sh for a revision's plugin.
#include "harness/plugin/revision.h"

#include <filesystem>

#include "attn_build_info.h"
#include "harness/child.h"
#include "harness/plugin/name_list.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

/// Path of the plugin, whose name is the commit.
std::string plugin_of(const std::string& revision) {
  constexpr double kBuildSeconds = 3600;
  std::string answer;
  try {
    Child builder("/usr/bin/env",
                  {"bash", ATTN_SOURCE_DIR "/tools/build_revision.sh", revision, ATTN_BINARY_DIR});
    answer = builder.receive(kBuildSeconds);
  } catch (const ProcessFailure& failure) {
    throw UsageError("cannot build revision '" + revision + "': " + failure.what());
  }
  if (answer.empty() || answer.front() != '/') throw UsageError(answer);
  return answer;
}

}  // namespace

std::string with_revisions(const std::string& backends, std::vector<std::string>& plugins) {
  constexpr std::size_t kShort = 7;  // digits of a commit in names
  return replace_names(backends, [&](const std::string& name) {
    const std::size_t at = name.find('@');
    if (at == std::string::npos) return name;
    plugins.push_back(plugin_of(name.substr(at + 1)));
    const std::string commit = std::filesystem::path(plugins.back()).stem();
    return name.substr(0, at + 1) + commit.substr(0, kShort);
  });
}

}  // namespace attn
