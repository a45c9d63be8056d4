// Kernel names as people write them.
#include "harness/kernel_name.h"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <regex>

namespace attn {

std::string short_kernel_name(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> demangled(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  if (status != 0) return mangled;
  static const std::regex kNamespace(R"((\w+|\(anonymous namespace\))::)");
  static const std::regex kUnnamed(R"(_GLOBAL__N__\w+::)");  // nvcc's unnamed namespaces
  std::string name = std::regex_replace(demangled.get(), kUnnamed, "");
  name = std::regex_replace(name, kNamespace, "");
  if (const std::size_t parameters = name.rfind('('); parameters != std::string::npos)
    name.resize(parameters);
  const std::size_t space = name.find(' ');  // a template's name starts with its return type
  if (space != std::string::npos && space < name.find('<')) name.erase(0, space + 1);
  return name;
}

}  // namespace attn
