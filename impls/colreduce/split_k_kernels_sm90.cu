// The kernels of split_k_sm90: one tile of queries a head, past which the keys stream.
#include "impls/colreduce/resident_instances.cuh"

namespace attn::colreduce {
namespace {

// D, crews of score groups, groups of a crew, slots of queries, chunks of a CTA, slots of keys and of weights:
template <int kD, bool kMasked>
struct SplitKPolicy;
template <bool kMasked>
struct SplitKPolicy<64, kMasked> : ResidentPolicy<64, 1, 2, 1, 4, 12, 13, true, kMasked> {};
template <bool kMasked>
struct SplitKPolicy<96, kMasked> : ResidentPolicy<96, 1, 2, 1, 8, 4, 17, true, kMasked> {};
template <bool kMasked>
struct SplitKPolicy<128, kMasked> : ResidentPolicy<128, 1, 2, 1, 8, 4, 17, true, kMasked> {};

}  // namespace

ResidentKernel split_k_kernel(DType dtype, std::int64_t D, ResidentVariant variant) {
  return resident_kernel_for<SplitKPolicy>(dtype, D, variant);
}

}  // namespace attn::colreduce
