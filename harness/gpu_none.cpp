// Stands in for the GPU in a build without CUDA: there is none, and nothing below is reached.
#include <stdexcept>

#include "harness/ceilings.h"
#include "harness/gpu.h"

namespace attn::gpu {
namespace {

[[noreturn]] void absent() { throw std::logic_error("this build has no CUDA"); }

}  // namespace

std::optional<Facts> find(std::string& why) {
  why = "this build has no CUDA";
  return std::nullopt;
}
void* allocate(std::size_t) { absent(); }
void release(void*) noexcept {}
std::size_t free_bytes() { absent(); }
void copy_to_host(void*, const void*, std::size_t) { absent(); }
void copy_to_device(void*, const void*, std::size_t) { absent(); }
void fill_pattern(void*, std::size_t, std::uint32_t) { absent(); }
void fill_input(const TensorSpec&, void*, InputFamily, std::uint64_t) { absent(); }
std::uint64_t hash(const void*, std::size_t) { absent(); }
bool same_bits(const void*, const void*, std::size_t) { absent(); }
Comparison compare(const void*, DType, const DeviceAnswer&) { absent(); }
void run(const Launch&) { absent(); }
void profile(const Launch&, const std::string&) { absent(); }
bool recover() noexcept { return true; }
Samples time(const Launch&, bool, int) { absent(); }
Graph capture(const Launch&) { absent(); }
Ceilings measure_ceilings() { absent(); }
Launch sentinel() { absent(); }
KernelResources describe(const KernelUse&) { absent(); }

}  // namespace attn::gpu
