// Rows for people: tables, and a page for a browser.
#pragma once

#include <string>
#include <vector>

#include "harness/environment.h"
#include "harness/operators.h"

namespace attn {

/// Prints every cell of the rows files (newest row of a key wins) as "table", "csv", "markdown" or
/// "html", one page that needs nothing else.
/// Without files: the newest of each device under results/. Throws UsageError for what it cannot
/// read.
void print_report(std::vector<std::string> files, const std::string& format);

/// Prints operators with their backends and suites; with `suite`, the cells of that suite.
void print_list(const Operators& operators, const std::string& suite);

/// Prints which backend takes which feature of its operator, with the reasons of those that do not:
/// on the GPU here, or as on one of sm_90 where there is none. Runs nothing.
void print_supports(const Operators& operators, const Machine& machine);

}  // namespace attn
