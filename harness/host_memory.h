// The host's counterparts of gpu.h: allocation, patterns, inputs and hashes in host memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/core/input_family.h"
#include "harness/core/tensor_view.h"

namespace attn::host {

void* allocate(std::size_t bytes);  ///< 256-byte aligned; throws std::bad_alloc
void release(void* data) noexcept;
std::size_t free_bytes();  ///< memory the system can give without swapping
void fill_pattern(void* data, std::size_t bytes, std::uint32_t pattern);
void fill_input(const TensorSpec& spec, void* storage, InputFamily family, std::uint64_t key);
/// Sum over the 32-bit words of word * (2 * index + 1), mixed: any changed or moved word shows.
std::uint64_t hash(const void* data, std::size_t bytes);

}  // namespace attn::host
