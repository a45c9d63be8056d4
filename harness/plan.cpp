// Selections to cells.
#include "harness/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <optional>
#include <regex>
#include <set>

#include "harness/operators.h"
#include "harness/plugin/plugin_operator.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

using Problems = std::vector<std::shared_ptr<const AnyProblem>>;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end = 0; end != std::string::npos; begin = end + 1) {
    end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end == std::string::npos ? end : end - begin));
  }
  return parts;
}

/// Index of the element of `list` called `name`; UsageError names what there is instead.
template <class List, class NameOf>
std::size_t find_named(const List& list,
                       const std::string& name,
                       std::string_view kind,
                       NameOf&& name_of) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (name_of(list[i]) == name) return i;
  }
  std::vector<std::string> known;
  known.reserve(list.size());
  for (const auto& one : list) known.emplace_back(name_of(one));
  throw UsageError(
      fmt::format("there is no {} '{}'; known: {}", kind, name, fmt::join(known, ", ")));
}

std::shared_ptr<const AnyProblem> with_field(const AnyProblem& problem,
                                             const std::string& field,
                                             const std::string& value) {
  std::unique_ptr<AnyProblem> changed = problem.clone();
  if (const std::string error = changed->set(field, value); !error.empty()) throw UsageError(error);
  return changed;
}

std::shared_ptr<const AnyProblem> with_shape(std::shared_ptr<const AnyProblem> problem,
                                             const std::string& text) {
  static const std::regex kPair("([A-Za-z_]+)([0-9]+)");
  std::size_t consumed = 0;
  for (std::sregex_iterator it(text.begin(), text.end(), kPair), end; it != end; ++it) {
    if (static_cast<std::size_t>(it->position()) != consumed) break;
    problem = with_field(*problem, (*it)[1], (*it)[2]);
    consumed += static_cast<std::size_t>(it->length());
  }
  if (consumed != text.size() || text.empty())
    throw UsageError("--shape must be like B4H8M4096N4096D128, not '" + text + "'");
  return problem;
}

/// One comparison "M<=N" or "B==1" between fields and integers.
class Condition {
 public:
  explicit Condition(const std::string& text) {
    static const std::regex kForm(R"(\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*(\w+)\s*)");
    std::smatch match;
    if (!std::regex_match(text, match, kForm))
      throw UsageError("--where must be like 'M<=N && B==1', not '" + text + "'");
    left_ = match[1];
    relation_ = match[2];
    right_ = match[3];
  }
  bool holds(const AnyProblem& problem) const {
    const std::int64_t a = value(problem, left_);
    const std::int64_t b = value(problem, right_);
    if (relation_ == "<=") return a <= b;
    if (relation_ == ">=") return a >= b;
    if (relation_ == "==") return a == b;
    if (relation_ == "!=") return a != b;
    return relation_ == "<" ? a < b : a > b;
  }

 private:
  static std::int64_t value(const AnyProblem& problem, const std::string& text) {
    std::int64_t number = 0;
    if (parse_size(text, number)) return number;
    for (const FieldValue& field : problem.fields()) {
      if (field.name == text && field.kind == FieldKind::kSize) return field.number;
    }
    throw UsageError("--where knows no size called '" + text + "'");
  }
  std::string left_, relation_, right_;
};

std::vector<Condition> parse_where(const std::string& text) {
  std::vector<Condition> conditions;
  std::size_t begin = 0;
  while (!text.empty() && begin != std::string::npos) {
    const std::size_t end = text.find("&&", begin);
    conditions.emplace_back(text.substr(begin, end == std::string::npos ? end : end - begin));
    begin = end == std::string::npos ? end : end + 2;
  }
  return conditions;
}

/// Every problem with every value of every axis.
Problems apply_axes(Problems problems, const Selection& selection) {
  if (!selection.shapes.empty()) {
    Problems shaped;
    for (const auto& problem : problems) {
      for (const std::string& shape : selection.shapes)
        shaped.push_back(with_shape(problem, shape));
    }
    problems = std::move(shaped);
  }
  for (const auto& [field, text] : selection.axes) {
    Problems expanded;
    for (const auto& problem : problems) {
      for (const std::string& value : expand_axis(field, text))
        expanded.push_back(with_field(*problem, field, value));
    }
    problems = std::move(expanded);
  }
  return problems;
}

std::vector<InputFamily> parse_families(const std::string& text) {
  std::vector<InputFamily> families;
  if (text.empty()) return families;
  for (const std::string& name : split(text, ',')) {
    families.push_back(static_cast<InputFamily>(
        find_named(kInputFamilyNames, name, "input family", [](auto known) { return known; })));
  }
  return families;
}

std::vector<std::size_t> match_backends(const AnyOperator& op, const std::string& patterns) {
  const std::vector<AnyBackend> backends = op.backends();
  std::vector<bool> chosen(backends.size(), patterns.empty() || patterns.front() == '!');
  for (const std::string& part : split(patterns, ',')) {
    const bool keep = part.empty() || part.front() != '!';
    const std::string pattern = keep ? part : part.substr(1);
    bool hit = false;
    for (std::size_t i = 0; i < backends.size(); ++i) {
      if (fnmatch(pattern.c_str(), std::string(backends[i].id).c_str(), 0) != 0) continue;
      chosen[i] = keep;
      hit = true;
    }
    if (!hit) find_backend(op, pattern);  // says what there is
  }
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (chosen[i]) indices.push_back(i);
  }
  return indices;
}

}  // namespace

std::string PlanItem::name() const {
  return fmt::format("{}/{}/{}/{}", op->name(), backend_id(), case_id,
                     kInputFamilyNames[static_cast<std::size_t>(family)]);
}

std::vector<std::string> plugin_flags(const PlanItem& item) {
  const AnyBackend backend = item.op->backends()[item.backend];
  if (!backend.plugin || backend.id.find('@') != std::string_view::npos) return {};
  return {"--plugin", backend.plugin->path};
}

std::vector<std::string> problem_flags(const PlanItem& item) {
  std::vector<std::string> flags;
  for (const FieldValue& field : item.problem->fields()) {
    if (!field.is_default) flags.insert(flags.end(), {fmt::format("--{}", field.name), field.text});
  }
  flags.emplace_back("--data");
  flags.emplace_back(kInputFamilyNames[static_cast<std::size_t>(item.family)]);
  for (std::string& flag : plugin_flags(item)) flags.push_back(std::move(flag));
  return flags;
}

std::size_t find_backend(const AnyOperator& op, const std::string& id) {
  return find_named(op.backends(), id, "backend", [](auto& backend) { return backend.id; });
}

std::vector<std::string> expand_axis(const std::string& field, const std::string& text) {
  static const std::regex kRange(R"(([0-9]+[kM]?):([0-9]+[kM]?):([x+])([0-9]+[kM]?))");
  std::smatch match;
  if (!std::regex_match(text, match, kRange)) return split(text, ',');
  std::int64_t value = 0;
  std::int64_t last = 0;
  std::int64_t step = 0;
  const bool grows = parse_size(match[1].str(), value) && parse_size(match[2].str(), last) &&
                     parse_size(match[4].str(), step) && step >= (match[3] == "x" ? 2 : 1) &&
                     value >= 1 && value <= last;
  if (!grows)
    throw UsageError(field + " must grow from its first to its last value: '" + text + "'");
  std::vector<std::string> values;
  while (value <= last) {
    values.push_back(std::to_string(value));
    const bool overflow = match[3] == "x" ? __builtin_mul_overflow(value, step, &value)
                                          : __builtin_add_overflow(value, step, &value);
    if (overflow) break;
  }
  return values;
}

std::vector<PlanItem> make_plan(const Selection& selection) {
  const Operators all = with_plugins(operators(), selection.plugins, selection.embedding);
  const auto op = all[find_named(all, selection.op, "operator", [](auto& o) { return o->name(); })];
  std::vector<SuiteCase> cases;
  if (selection.suite.empty()) {
    cases.push_back({op->default_problem(), InputFamily::kNormal});
  } else {
    const auto suites = op->suites();
    cases =
        suites[find_named(suites, selection.suite, "suite", [](auto& s) { return s.name; })].cases;
  }
  const std::vector<InputFamily> families = parse_families(selection.families);
  const std::vector<Condition> conditions = parse_where(selection.where);
  const std::vector<std::size_t> backends = match_backends(*op, selection.backends);

  std::vector<PlanItem> plan;
  std::set<std::string> seen;  // axes may make two cases of a suite equal
  for (const SuiteCase& one : cases) {
    for (const auto& problem : apply_axes({one.problem}, selection)) {
      if (const Support valid = problem->validate(); !valid) throw UsageError(valid.reason);
      if (!std::all_of(conditions.begin(), conditions.end(),
                       [&](const Condition& c) { return c.holds(*problem); }))
        continue;
      for (const InputFamily family :
           families.empty() ? std::vector<InputFamily>{one.family} : families) {
        for (const std::size_t backend : backends) {
          PlanItem item{op, problem, case_id(*problem), selection.suite, family, backend};
          if (seen.insert(item.name()).second) plan.push_back(std::move(item));
        }
      }
    }
  }
  if (plan.empty()) throw UsageError("the selection is empty");
  return plan;
}

}  // namespace attn
