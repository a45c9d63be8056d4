// Rows as one page for a browser, with everything in it.
#pragma once

#include <string>

#include "harness/row.h"

namespace attn {

/// The page of these run and cell lines; a cell's "run" is the index of its run line, or absent.
std::string html_page(const Json& runs, const Json& cells);

}  // namespace attn
