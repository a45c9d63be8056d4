// Problems drawn at random over all fields of the column reduction.
#pragma once

#include "reference/colreduce/contract.h"

namespace attn {

/// 20,000 valid problems, the same in every build; every prefix of the list is a sample of it.
Suite<ColReduce::Problem> random_suite();

}  // namespace attn
