// The operators of this build.
#pragma once

#include <memory>
#include <vector>

#include "harness/core/operator.h"

namespace attn {

std::vector<std::shared_ptr<const AnyOperator>> operators();

}  // namespace attn
