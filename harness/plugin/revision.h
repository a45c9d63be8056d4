// Backends as a git revision has them.
#pragma once

#include <string>
#include <vector>

namespace attn {

/// Of a list such as "cpu_fused,fused_simt@HEAD~1": builds those revisions' backends with the options
/// of this build, unless that has been done, adds their plugins to `plugins` and returns the list with
/// the names that they have there, "cpu_fused,fused_simt@1a2b3c4". UsageError in one sentence where
/// there is no such revision or it cannot be built. The revisions are those of the source tree, or of
/// the repository that the environment variable ATTN_REPOSITORY names.
std::string with_revisions(const std::string& backends, std::vector<std::string>& plugins);

}  // namespace attn
