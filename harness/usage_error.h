// What a user did wrong, in one sentence; main prints it and exits with 2.
#pragma once

#include <stdexcept>

namespace attn {

class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace attn
