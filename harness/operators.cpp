// The operator list: one line each.
#include "harness/operators.h"

#include "harness/core/operator_adapter.h"
#include "reference/colreduce/contract.h"

namespace attn {

Operators operators() {
  return {
      std::make_shared<OperatorAdapter<ColReduce>>(),
  };
}

}  // namespace attn
