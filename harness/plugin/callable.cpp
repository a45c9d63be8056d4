// Names of callables in lists of backends.
#include "harness/plugin/callable.h"

#include <regex>
#include <sstream>

#include "harness/plugin/plugin_backend.h"

namespace attn {

bool names_callable(const std::string& name) {
  static const std::regex kForm(R"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)");
  return std::regex_match(name, kForm);
}

std::string with_callables(const std::string& backends,
                           std::vector<std::string>& plugins,
                           const AttnbenchEmbedding* embedding) {
  std::string names;
  std::istringstream list(backends);
  for (std::string name; std::getline(list, name, ',');) {
    if (!names.empty()) names += ',';
    if (!names_callable(name)) {
      names += name;
      continue;
    }
    plugins.push_back(name);
    names += load_plugin(name, embedding).front().info().id;
  }
  return names;
}

}  // namespace attn
