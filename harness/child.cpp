// Child processes over a socket pair: a child that dies cannot raise SIGPIPE here.
#include "harness/child.h"

#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iostream>

namespace attn {
namespace {

/// Writes a line; an end that is gone is found out when the next one is read.
void send_line(int socket, const std::string& line) {
  const std::string text = fmt::format("{}\n", line);
  std::size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t count = ::send(socket, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno != EINTR) return;
    if (count > 0) sent += static_cast<std::size_t>(count);
  }
}

}  // namespace

Child::Child(const std::string& program, const std::vector<std::string>& arguments) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw ProcessFailure(Status::kCrash, std::strerror(errno));
  socket_ = ends[0];
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  std::vector<std::string> words = arguments;
  words.insert(words.begin(), program);
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int error = posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (error == 0) return;
  ::close(socket_);
  throw ProcessFailure(Status::kCrash,
                       fmt::format("cannot start {}: {}", program, std::strerror(error)));
}

Child::~Child() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(socket_);
}

void Child::send(const std::string& line) const { send_line(socket_, line); }

void Child::hang_up() const { ::shutdown(socket_, SHUT_RDWR); }

std::string Child::receive(double timeout_s) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(timeout_s));
  for (;;) {
    if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd ready{.fd = socket_, .events = POLLIN, .revents = 0};
    const int events = left > 0 ? ::poll(&ready, 1, static_cast<int>(left)) : 0;
    if (events < 0 && errno == EINTR) continue;
    if (events <= 0)
      throw ProcessFailure(Status::kTimeout, fmt::format("no answer in {:g} s", timeout_s));
    std::array<char, 4096> chunk;
    const ssize_t count = ::recv(socket_, chunk.data(), chunk.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) report_end();
    buffer_.append(chunk.data(), static_cast<std::size_t>(count));
  }
}

/// The output has ended: waits for the child and throws how it ended.
void Child::report_end() {
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  throw ProcessFailure(
      Status::kCrash,
      WIFSIGNALED(status)
          ? fmt::format("its process was ended by signal {}: {}", WTERMSIG(status),
                        strsignal(WTERMSIG(status)))
          : fmt::format("its process ended with exit code {}", WEXITSTATUS(status)));
}

Parent::Parent() : socket_(::dup(STDOUT_FILENO)) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
}

Parent::~Parent() { ::close(socket_); }

std::optional<std::string> Parent::receive() {
  std::string line;
  return std::getline(std::cin, line) ? std::optional(line) : std::nullopt;
}

void Parent::send(const std::string& line) const { send_line(socket_, line); }

}  // namespace attn
