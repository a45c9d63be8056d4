// The operator list: one line each.
#include "harness/operators.h"

#include "harness/core/operator_adapter.h"
#include "reference/colreduce/contract.h"

namespace attn {

std::vector<std::shared_ptr<const AnyOperator>> operators() {
  return {
      std::make_shared<OperatorAdapter<ColReduce>>(),
  };
}

}  // namespace attn
