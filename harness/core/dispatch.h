// Turns a run-time value into a compile-time constant from an explicit list.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

namespace attn {

/// Calls `function(std::integral_constant<int, V>{})` for the V equal to `value`.
/// Throws std::logic_error when none is: `supports` should have refused the problem.
template <int... Vs, class Function>
void dispatch(int value, Function&& function) {
  const bool hit =
      ((value == Vs ? (function(std::integral_constant<int, Vs>{}), true) : false) || ...);
  if (!hit) throw std::logic_error("dispatch: no instantiation for " + std::to_string(value));
}

}  // namespace attn
