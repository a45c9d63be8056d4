// Progress lines on stderr.
#include "harness/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace attn {

Progress::Progress(std::size_t total) : total_(total), terminal_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (terminal_ && done_ > 0) std::fputc('\n', stderr);
}

void Progress::step(double remaining_s, const std::string& what) {
  ++done_;
  const auto seconds = static_cast<int>(remaining_s);
  const std::string line =
      fmt::format("[{}/{}] ETA {}:{:02} {}", done_, total_, seconds / 60, seconds % 60, what);
  if (terminal_) {
    fmt::print(stderr, "\r\033[K{}", line);
  } else {
    fmt::print(stderr, "{}\n", line);
  }
  std::fflush(stderr);
}

}  // namespace attn
