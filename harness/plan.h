// From a selection on the command line to the list of cells; launches nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "harness/core/operator.h"
#include "harness/plugin/attnbench_embed.h"

namespace attn {

/// What the user asked for, as text.
struct Selection {
  std::string op;
  std::string suite;  ///< empty: one default problem, changed by the axes
  std::vector<std::pair<std::string, std::string>> axes;  ///< field, values: "128,256", "1k:64k:x2"
  std::vector<std::string> shapes;                        ///< "B4H8M4096N4096D128"
  std::string where;                                      ///< "M<=N && B==1"
  std::string backends = "*";                             ///< "mma*,!naive"
  std::string families;                                   ///< "normal,peaked"; empty: the suite's
  std::vector<std::string> plugins;                       ///< files and callables: more backends
  const AttnbenchEmbedding* embedding = nullptr;          ///< knows the callables
};

/// One cell: a problem with its data, for one backend.
struct PlanItem {
  std::shared_ptr<const AnyOperator> op;
  std::shared_ptr<const AnyProblem> problem;
  std::string case_id;
  std::string suite;  ///< empty when the axes alone made it
  InputFamily family = InputFamily::kNormal;
  std::size_t backend = 0;  ///< index in op->backends()

  std::string_view backend_id() const { return op->backends()[backend].id; }
  /// "colreduce/mma_sm80/B1_H2_..._causal/normal"
  std::string name() const;
};

/// The flags that load the item's backend: "--plugin", "./libmine.so"; none for the program's own
/// and for a revision's, whose id "mma_sm80@1a2b3c4" says it all.
std::vector<std::string> plugin_flags(const PlanItem& item);

/// The flags that select the item's problem and data, and load its backend: "--M", "131", ...,
/// "--data", "normal".
std::vector<std::string> problem_flags(const PlanItem& item);

/// Index of the backend with exactly this id. UsageError names what there is instead.
std::size_t find_backend(const AnyOperator& op, const std::string& id);

/// Cells grouped by problem and data, backends in reading order. Throws UsageError in one sentence
/// for an unknown operator, suite, field, family or backend, and for a problem that is not valid.
std::vector<PlanItem> make_plan(const Selection& selection);

/// The values of an axis: "128,256", "1k:64k:x2" (geometric), "64:256:+64" (arithmetic).
std::vector<std::string> expand_axis(const std::string& field, const std::string& text);

}  // namespace attn
