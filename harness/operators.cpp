// The operator list: one line each.
#include "harness/operators.h"

#include "harness/core/operator_adapter.h"
#include "reference/attnres_merge/contract.h"
#include "reference/attnres_merge_bwd/contract.h"
#include "reference/attnres_merge_pair/contract.h"
#include "reference/attnres_merge_pair_bwd/contract.h"
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_mix_bwd/contract.h"
#include "reference/attnres_network/contract.h"
#include "reference/attnres_network_bwd/contract.h"
#include "reference/attnres_phase1/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"
#include "reference/colreduce/contract.h"

namespace attn {

Operators operators() {
  return {
      std::make_shared<OperatorAdapter<ColReduce>>(),
      std::make_shared<OperatorAdapter<AttnResPhase1>>(),
      std::make_shared<OperatorAdapter<AttnResPhase1Bwd>>(),
      std::make_shared<OperatorAdapter<AttnResMerge>>(),
      std::make_shared<OperatorAdapter<AttnResMergeBwd>>(),
      std::make_shared<OperatorAdapter<AttnResMergePair>>(),
      std::make_shared<OperatorAdapter<AttnResMergePairBwd>>(),
      std::make_shared<OperatorAdapter<AttnResMix>>(),
      std::make_shared<OperatorAdapter<AttnResMixBwd>>(),
      std::make_shared<OperatorAdapter<AttnResNetwork>>(),
      std::make_shared<OperatorAdapter<AttnResNetworkBwd>>(),
  };
}

}  // namespace attn
