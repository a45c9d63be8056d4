// Kernel names as people write them.
#pragma once

#include <string>

namespace attn {

/// "row_pass<__half, 8>" of a mangled kernel name: demangled, without namespaces, return type and
/// parameters. A name that cannot be demangled comes back as it is.
std::string short_kernel_name(const char* mangled);

}  // namespace attn
