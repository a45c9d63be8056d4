// Directories of rows, and command lines as text.
#include "harness/session.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

namespace attn {
namespace {

namespace fs = std::filesystem;

/// The word as a shell reads it back.
std::string quoted(const std::string& word) {
  const bool plain = word.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789_-+=:,./@%") == std::string::npos;
  return plain && !word.empty() ? word : fmt::format("'{}'", word);
}

}  // namespace

std::string choose_directory(const Machine& machine) {
  const fs::path root = fs::path("results") / device_slug(machine);
  const std::string id = build_id();
  std::vector<fs::path> candidates;
  if (fs::is_directory(root)) {
    for (const auto& entry : fs::directory_iterator(root)) {
      if (fs::exists(entry.path() / "rows.jsonl")) candidates.push_back(entry.path());
    }
  }
  std::sort(candidates.rbegin(), candidates.rend());
  for (const fs::path& candidate : candidates) {
    const std::vector<Json> rows = read_rows(candidate / "rows.jsonl");
    if (!rows.empty() && rows.front().contains("build") && rows.front()["build"]["id"] == id)
      return candidate;
  }
  const std::string sha = find_revision().sha.value_or("unknown");
  return root / (utc_now(true) + "_" + sha.substr(0, 7));
}

std::vector<std::string> without_directory(const std::vector<std::string>& arguments) {
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--out") {
      ++i;
    } else if (arguments[i].rfind("--out=", 0) != 0) {
      kept.push_back(arguments[i]);
    }
  }
  return kept;
}

std::string command_text(const std::vector<std::string>& words) {
  std::vector<std::string> shown;
  shown.reserve(words.size());
  for (const std::string& word : words) shown.push_back(shown.empty() ? word : quoted(word));
  return fmt::format("{}", fmt::join(shown, " "));
}

}  // namespace attn
