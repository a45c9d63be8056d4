// Work that a problem asks for at least, whichever backend does it.
#pragma once

#include <cstdint>

namespace attn {

struct Work {
  double mma_flops = 0;     ///< multiply-adds count two; one pass over the visible pairs
  double exponentials = 0;  ///< one per visible pair
  double bytes = 0;         ///< every visible input read once, the output written once
};

}  // namespace attn
