// The operators of this build.
#pragma once

#include <memory>
#include <vector>

#include "harness/core/operator.h"

namespace attn {

using Operators = std::vector<std::shared_ptr<const AnyOperator>>;

Operators operators();

}  // namespace attn
