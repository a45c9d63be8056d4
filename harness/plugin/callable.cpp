// Names of callables in lists of backends.
#include "harness/plugin/callable.h"

#include <regex>

#include "harness/plugin/name_list.h"
#include "harness/plugin/plugin_backend.h"

namespace attn {

bool names_callable(const std::string& name) {
  static const std::regex kForm(R"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)");
  return std::regex_match(name, kForm);
}

std::string with_callables(const std::string& backends,
                           std::vector<std::string>& plugins,
                           const AttnbenchEmbedding* embedding) {
  return replace_names(backends, [&](const std::string& name) {
    if (!names_callable(name)) return name;
    plugins.push_back(name);
    return std::string(load_plugin(name, embedding).front().info().id);
  });
}

}  // namespace attn
