// What the machine can do at most, measured in the session that quotes it; 0 where not measured.
#pragma once

#include "harness/core/backend.h"

namespace attn {

struct Ceilings {
  double copy_Bps = 0;        ///< a large copy, bytes read plus bytes written
  double mma_flops = 0;       ///< tensor cores, f16 inputs, random data
  double ffma_flops = 0;      ///< fp32 fused multiply-add, two flops each
  double ex2_per_s = 0;       ///< base-2 exponentials
  double null_kernel_ns = 0;  ///< an empty kernel between two events
};

namespace host {
/// Copy and FMA rates of all the CPU's threads together.
Ceilings measure_ceilings();
/// A fixed amount of arithmetic on all threads.
Launch sentinel();
}  // namespace host

namespace gpu {
Ceilings measure_ceilings();
/// A fixed amount of arithmetic on all SMs.
Launch sentinel();
}  // namespace gpu

}  // namespace attn
