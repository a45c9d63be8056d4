// Fields of a problem, named once: command-line flags, row columns and case ids all come from the
// operator's `fields(problem, visit)`, which calls one of the visitor's functions per field.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "harness/core/tensor_view.h"

namespace attn {

/// A real field left at "auto"; the operator says what that means.
inline constexpr double kAuto = std::numeric_limits<double>::quiet_NaN();

/// Sizes are a problem's shape; every other kind is an option.
enum class FieldKind : std::uint8_t { kSize, kInteger, kChoice, kReal, kStrides, kList };

/// One field's name and value as text, with its place in rows and ids.
struct FieldValue {
  std::string name;
  FieldKind kind = FieldKind::kSize;
  std::string text;
  std::int64_t number = 0;  ///< of a kSize field, defaults resolved
  bool is_default = false;  ///< equal to a default-constructed problem's: left out of ids
  std::string help;
};

/// The text of a strides field: four integers joined by ':' or "auto".
inline std::string strides_text(const Extents& strides) {
  if (strides == Extents{}) return "auto";
  std::string text;
  for (const std::int64_t stride : strides) {
    if (!text.empty()) text += ':';
    text += std::to_string(stride);
  }
  return text;
}

/// The text of a list field: integers joined by ':' or "none".
inline std::string list_text(const std::vector<std::int64_t>& list) {
  if (list.empty()) return "none";
  std::string text;
  for (const std::int64_t value : list) {
    if (!text.empty()) text += ':';
    text += std::to_string(value);
  }
  return text;
}

inline std::string real_text(double value) {
  if (std::isnan(value)) return "auto";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;  // shortest exact form
  return {buffer, end};
}

/// Visitor that lists every field.
class FieldLister {
 public:
  void size(std::string_view name, std::string_view help, const std::int64_t& value) {
    size(name, help, value, value);
  }
  /// `stands_for` is what the value means where it is a default to be resolved.
  void size(std::string_view name,
            std::string_view help,
            const std::int64_t& value,
            std::int64_t stands_for) {
    add(name, help, FieldKind::kSize, std::to_string(value)).number = stands_for;
  }
  /// An integer that is an option, not a size of the shape; it may be negative.
  void integer(std::string_view name, std::string_view help, const std::int64_t& value) {
    add(name, help, FieldKind::kInteger, std::to_string(value));
  }
  template <class Enum>
  void choice(std::string_view name,
              std::string_view help,
              const Enum& value,
              std::span<const std::string_view> names) {
    add(name, help, FieldKind::kChoice, std::string(names[static_cast<std::size_t>(value)]));
  }
  void real(std::string_view name, std::string_view help, const double& value) {
    add(name, help, FieldKind::kReal, real_text(value));
  }
  void strides(std::string_view name, std::string_view help, const Extents& value) {
    add(name, help, FieldKind::kStrides, strides_text(value));
  }
  void list(std::string_view name, std::string_view help, const std::vector<std::int64_t>& value) {
    add(name, help, FieldKind::kList, list_text(value));
  }
  std::vector<FieldValue> values;

 private:
  FieldValue& add(std::string_view name, std::string_view help, FieldKind kind, std::string text) {
    values.push_back({std::string(name), kind, std::move(text), 0, false, std::string(help)});
    return values.back();
  }
};

/// Reads "16384", "16k" (times 1024) or "2M"; false when the text is no size or overflows.
inline bool parse_size(std::string_view text, std::int64_t& value) {
  std::int64_t unit = 1;
  if (!text.empty() && (text.back() == 'k' || text.back() == 'K')) unit = 1024;
  if (!text.empty() && text.back() == 'M') unit = std::int64_t{1024} * 1024;
  if (unit != 1) text.remove_suffix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty() &&
         !__builtin_mul_overflow(value, unit, &value);
}

/// Visitor that sets the field called `name` from text. Afterwards `found` tells whether there is
/// such a field, and `error` holds one sentence when the text does not fit it.
class FieldSetter {
 public:
  FieldSetter(std::string_view name, std::string_view text) : name_(name), text_(text) {}

  void size(std::string_view name,
            std::string_view,
            std::int64_t& value,
            std::int64_t /*stands_for*/ = 0) {
    if (!matches(name)) return;
    std::int64_t parsed = 0;
    if (!parse_size(text_, parsed)) return fail("an integer such as 4096 or 4k");
    value = parsed;
  }
  void integer(std::string_view name, std::string_view help, std::int64_t& value) {
    size(name, help, value);
  }
  template <class Enum>
  void choice(std::string_view name,
              std::string_view,
              Enum& value,
              std::span<const std::string_view> names) {
    if (!matches(name)) return;
    std::string known;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i] == text_) {
        value = static_cast<Enum>(i);
        return;
      }
      known += (i ? ", " : "") + std::string(names[i]);
    }
    fail("one of " + known);
  }
  void real(std::string_view name, std::string_view, double& value) {
    if (!matches(name)) return;
    if (text_ == "auto") {
      value = kAuto;
      return;
    }
    double parsed = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), parsed);
    if (error != std::errc{} || end != text_.data() + text_.size() || !std::isfinite(parsed))
      return fail("a finite number or auto");
    value = parsed;
  }
  void strides(std::string_view name, std::string_view, Extents& value) {
    if (!matches(name)) return;
    Extents parsed{};
    std::string_view rest = text_;
    for (std::size_t axis = 0; axis < parsed.size() && text_ != "auto"; ++axis) {
      const std::size_t colon = rest.find(':');
      const bool last = axis + 1 == parsed.size();
      if (last != (colon == std::string_view::npos) ||
          !parse_size(rest.substr(0, colon), parsed[axis]))
        return fail("four integers b:h:row:d or auto");
      rest.remove_prefix(last ? rest.size() : colon + 1);
    }
    value = parsed;
  }

  void list(std::string_view name, std::string_view, std::vector<std::int64_t>& value) {
    if (!matches(name)) return;
    std::vector<std::int64_t> parsed;
    for (std::string_view rest = text_; text_ != "none";) {
      const std::size_t colon = rest.find(':');
      if (!parse_size(rest.substr(0, colon), parsed.emplace_back()))
        return fail("integers such as 5:3:8 or none");
      if (colon == std::string_view::npos) break;
      rest.remove_prefix(colon + 1);
    }
    value = std::move(parsed);
  }

  bool found = false;
  std::string error;

 private:
  bool matches(std::string_view name) {
    const bool match = name == name_;
    found = found || match;
    return match;
  }
  void fail(const std::string& expected) {
    error = std::string(name_) + " must be " + expected + ", not '" + std::string(text_) + "'";
  }

  std::string_view name_;
  std::string_view text_;
};

}  // namespace attn
