// Progress lines on stderr: rewritten in place on a terminal, one line each elsewhere.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace attn {

class Progress {
 public:
  explicit Progress(std::size_t total);
  ~Progress();

  /// "[17/240] ETA 3:12 what": one more cell is done, `remaining_s` are predicted for the rest.
  void step(double remaining_s, const std::string& what);

 private:
  std::size_t total_;
  std::size_t done_ = 0;
  bool terminal_;
};

}  // namespace attn
