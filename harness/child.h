// A child process that is spoken to in lines, with a deadline for every answer; and its own end.
#pragma once

#include <sys/types.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "harness/core/status.h"

namespace attn {

/// What became of a process that did not answer: TIMEOUT or CRASH.
class ProcessFailure : public std::runtime_error {
 public:
  ProcessFailure(Status status, const std::string& what)
      : std::runtime_error(what), status_(status) {}
  Status status() const { return status_; }

 private:
  Status status_;
};

/// How another process of this program is started.
struct SelfCommand {
  std::string program = "/proc/self/exe";
  std::vector<std::string> words{};  ///< before the program's own arguments
};

class Child {
 public:
  /// Starts `program`, whose standard input and output are ours to write and read. Throws
  /// ProcessFailure when it cannot be started.
  Child(const std::string& program, const std::vector<std::string>& arguments);
  /// Kills it if it still runs.
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Writes a line; a child that is gone is found out by `receive`.
  void send(const std::string& line) const;
  /// Ends its standard input; a child that reads on ends by itself, without being waited for.
  void hang_up() const;
  /// The next line of its output. Throws ProcessFailure after `timeout_s` or when the output ends.
  std::string receive(double timeout_s);

 private:
  [[noreturn]] void report_end();

  pid_t pid_ = -1;
  int socket_ = -1;
  std::string buffer_;  // received and not yet returned
};

/// What a child has of the process that started it. From its construction on, what the program prints
/// goes to standard error, so that a library's words are no answer, and the child ends with its
/// parent, even in a call that never returns.
class Parent {
 public:
  Parent();
  ~Parent();
  Parent(const Parent&) = delete;
  Parent& operator=(const Parent&) = delete;

  /// The next line; empty when the parent has closed its end.
  static std::optional<std::string> receive();
  void send(const std::string& line) const;

 private:
  int socket_ = -1;
};

}  // namespace attn
