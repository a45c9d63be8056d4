// Sums comparisons up.
#include "harness/compare_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "harness/sentinel.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

bool is_call(Verdict verdict) { return verdict == Verdict::kFaster || verdict == Verdict::kSlower; }

/// The value called `name`, of `count` values that name_of knows.
template <class Value>
Value find_value(const std::string& name, int count) {
  for (int i = 0; i < count; ++i) {
    if (name_of(static_cast<Value>(i)) == name) return static_cast<Value>(i);
  }
  throw UsageError(fmt::format("a compare row cannot say '{}'", name));
}

double number_or_zero(const Json& value) { return value.is_number() ? value.get<double>() : 0; }

std::string percent_text(double share) { return fmt::format("{:.3g} %", 100 * share); }

std::string interval_text(const std::optional<Interval>& interval) {
  return interval ? fmt::format("[{:.4f}, {:.4f}]", interval->low, interval->high) : "";
}

void withdraw_calls(CompareSummary& summary) {
  std::vector<double> p_values;
  for (const ComparedCell& cell : summary.cells) {
    if (cell.compared()) p_values.push_back(cell.p);
  }
  const std::vector<bool> rejected = benjamini_hochberg(p_values, kFalseDiscoveryRate);
  std::size_t at = 0;
  for (ComparedCell& cell : summary.cells) {
    if (!cell.compared()) continue;
    const bool significant = rejected[at++];
    const bool proven = cell.earlier || summary.doubts.empty();
    if (!is_call(cell.verdict) || (significant && proven)) continue;
    cell.reason = proven ? "not significant among so many cells" : "the session is unproven";
    cell.verdict = Verdict::kUndecided;
    summary.withdrawn.push_back(cell.key);
  }
}

}  // namespace

std::string problem_name(const Json& row) {
  std::string name;
  for (const auto& [size, value] : row.at("shape").items())
    name += fmt::format("{}{}_", size, value.dump());
  const Json& options = row.at("options");
  name += row.at("dtype").get<std::string>();
  for (const char* option : {"reduction", "mask"})
    if (options.contains(option)) name += fmt::format("_{}", options[option].get<std::string>());
  return fmt::format("{}/{}", name, row.at("data").get<std::string>());
}

ComparedCell compared_cell(const Json& row) {
  try {
    ComparedCell cell;
    cell.key = row.at("key");
    cell.name = problem_name(row);
    cell.status = find_value<Status>(row.at("status"), kStatusNames.size());
    if (row.at("reason").is_string()) cell.reason = row["reason"];
    if (row.at("verdict").is_string()) cell.verdict = find_value<Verdict>(row["verdict"], 4);
    cell.ratio = number_or_zero(row.at("ratio"));
    if (row.at("ci99").is_array()) cell.ci99 = Interval{row["ci99"].at(0), row["ci99"].at(1)};
    if (row.at("p").is_number()) cell.p = row["p"];
    cell.median_a_ns = number_or_zero(row.at("median_a"));
    cell.median_b_ns = number_or_zero(row.at("median_b"));
    return cell;
  } catch (const Json::exception& error) {
    throw UsageError(fmt::format("a compare row cannot be read: {}", error.what()));
  }
}

ControlOutcome judge_control(const ComparedCell& control, double delta) {
  if (!control.compared())
    return {.delta = delta,
            .doubt = fmt::format("the A/A control gave no result: {}",
                                 control.reason.value_or(std::string(name_of(control.status))))};
  if (is_call(control.verdict))
    return {.delta = delta,
            .doubt = fmt::format("the A/A control was called {}: {:.4f}", name_of(control.verdict),
                                 control.ratio)};
  return {.delta = std::max(delta, std::max(control.ratio, 1 / control.ratio) - 1)};
}

std::optional<std::string> sentinel_doubt(const std::vector<double>& times_ns, const Level& level) {
  const double drift = drift_of(times_ns);
  if (drift <= kSentinelDrift || level.name != kClaim.name) return std::nullopt;
  return fmt::format("the sentinel drifted by {:.1f} %", 100 * drift);
}

CompareSummary summarise_cells(std::vector<ComparedCell> cells, std::vector<std::string> doubts) {
  CompareSummary summary;
  summary.cells = std::move(cells);
  summary.doubts = std::move(doubts);
  withdraw_calls(summary);
  std::vector<double> log_ratios;
  for (const ComparedCell& cell : summary.cells) {
    if (!cell.compared()) continue;
    log_ratios.push_back(std::log(cell.ratio));
    summary.slower += cell.verdict == Verdict::kSlower;
    if (cell.ratio > summary.worst.ratio) summary.worst = cell;
  }
  summary.compared = log_ratios.size();
  if (log_ratios.empty()) return summary;
  summary.mean_ratio = std::exp(mean(log_ratios));
  if (log_ratios.size() > 1) {
    const Interval logs = bootstrap_mean(log_ratios, kConfidence);
    summary.mean_interval = Interval{std::exp(logs.low), std::exp(logs.high)};
  }
  return summary;
}

CompareExit exit_code(const CompareSummary& summary, bool strict) {
  const auto any = [&](auto&& holds) {
    return std::any_of(summary.cells.begin(), summary.cells.end(), holds);
  };
  if (any([](const ComparedCell& c) {
        return c.status == Status::kIncorrect || c.status == Status::kCrash;
      }))
    return kIncorrectOutput;
  if (summary.slower > 0) return kRegression;
  const bool timed_out = any([](const ComparedCell& c) { return c.status == Status::kTimeout; });
  const bool undecided = any([](const ComparedCell& c) {  // among them those that were skipped
    return (c.compared() || c.status == Status::kOk) && c.verdict == Verdict::kUndecided;
  });
  if (strict && (timed_out || undecided || !summary.doubts.empty())) return kNotDecided;
  return summary.compared > 0 || timed_out ? kNoRegression : kNothingCompared;
}

std::string summary_text(const CompareSummary& summary) {
  std::size_t width = 4;
  for (const ComparedCell& cell : summary.cells) width = std::max(width, cell.name.size());
  std::string text = fmt::format("{:{}}  {:>10}  {:>10}  {:>7}  {:18}  verdict\n", "cell", width,
                                 "A ms", "B ms", "B/A", "99 % interval");
  for (const ComparedCell& cell : summary.cells) {
    const std::string reason = cell.reason ? fmt::format(": {}", *cell.reason) : "";
    if (cell.compared()) {
      text += fmt::format("{:{}}  {:10.5f}  {:10.5f}  {:7.4f}  {:18}  {}{}\n", cell.name, width,
                          cell.median_a_ns * 1e-6, cell.median_b_ns * 1e-6, cell.ratio,
                          interval_text(cell.ci99), name_of(cell.verdict), reason);
    } else {
      const std::string_view word =
          cell.status == Status::kOk ? name_of(cell.verdict) : name_of(cell.status);
      text += fmt::format("{:{}}  not compared, {}{}\n", cell.name, width, word, reason);
    }
  }
  for (const std::string& doubt : summary.doubts) text += fmt::format("UNPROVEN: {}\n", doubt);
  if (summary.compared == 0) return text;
  return text +
         fmt::format("geometric mean {:.4f} {}; worst cell {:.4f} {}; SLOWER {} of {} ({})\n",
                     summary.mean_ratio, interval_text(summary.mean_interval), summary.worst.ratio,
                     summary.worst.name, summary.slower, summary.compared,
                     percent_text(summary.slower_share()));
}

}  // namespace attn
