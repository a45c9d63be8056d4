// Comma-separated lists of backends' names.
#pragma once

#include <sstream>
#include <string>

namespace attn {

/// The list with replace(name) in place of every name.
template <class Replace>
std::string replace_names(const std::string& list, Replace&& replace) {
  std::string replaced;
  std::istringstream names(list);
  for (std::string name; std::getline(names, name, ',');) {
    if (!replaced.empty()) replaced += ',';
    replaced += replace(name);
  }
  return replaced;
}

}  // namespace attn
