// The page is harness/report_page.html; the rows stand in it as JSON.
#include "harness/report_html.h"

#include <stdexcept>

#include "attn_report_page.h"

namespace attn {

std::string html_page(const Json& runs, const Json& cells) {
  std::string data = line_of({{"runs", runs}, {"cells", cells}});
  // Inside JSON a '<' only stands in strings: as an escape it cannot end the element, whatever a
  // reason or a kernel is called.
  for (std::size_t at = 0; (at = data.find('<', at)) != std::string::npos; at += 6)
    data.replace(at, 1, "\\u003c");
  constexpr std::string_view kPlace = ">{{rows}}<";
  std::string page(kReportPage);
  const std::size_t at = page.find(kPlace);
  if (at == std::string::npos) throw std::logic_error("the page has no place for the rows");
  return page.replace(at + 1, kPlace.size() - 2, data);
}

}  // namespace attn
