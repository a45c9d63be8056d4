// What every command that writes rows shares: where they go, and how its words are kept and repeated.
#pragma once

#include <string>
#include <vector>

#include "harness/environment.h"

namespace attn {

/// The newest directory under results/<device> whose rows this very binary wrote, else a new one.
std::string choose_directory(const Machine& machine);

/// The arguments as the run record keeps them: where the rows lie says nothing of how they were
/// made, and may hold a user's name.
std::vector<std::string> without_directory(const std::vector<std::string>& arguments);

/// The words as a shell reads them back.
std::string command_text(const std::vector<std::string>& words);

}  // namespace attn
