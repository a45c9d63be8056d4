// The kernels of one_pass_sm90: keys stay in shared memory while the queries of a head stream past.
#include "impls/colreduce/resident_instances.cuh"

namespace attn::colreduce {
namespace {

// Packets between few CTAs are fast: a tile of queries for each pair of score groups, which begin heads
// apart from each other. Between many they are slow: room for more weights, unless a mask hides much (is_far).
// D, pairs of score groups, chunks of a CTA, slots of keys, of weights and of queries:
template <int kD, bool kMasked>
struct NearPolicy;
template <bool kMasked>
struct NearPolicy<64, kMasked> : ResidentPolicy<64, 2, 4, 4, 21, 2, false, kMasked> {};
template <bool kMasked>
struct NearPolicy<96, kMasked> : ResidentPolicy<96, 2, 4, 4, 15, 2, false, kMasked> {};
template <bool kMasked>
struct NearPolicy<128, kMasked> : ResidentPolicy<128, 2, 4, 4, 15, 2, false, kMasked> {};

template <int kD, bool kMasked>
struct FarPolicy;
template <bool kMasked>
struct FarPolicy<64, kMasked> : ResidentPolicy<64, 2, 4, 4, 22, 1, false, kMasked> {};
template <bool kMasked>
struct FarPolicy<96, kMasked> : ResidentPolicy<96, 2, 4, 4, 17, 1, false, kMasked> {};
template <bool kMasked>
struct FarPolicy<128, kMasked> : ResidentPolicy<128, 2, 4, 4, 17, 1, false, kMasked> {};

}  // namespace

ResidentKernel one_pass_kernel(DType dtype, std::int64_t D, ResidentVariant variant) {
  return variant.far ? resident_kernel_for<FarPolicy>(dtype, D, variant)
                     : resident_kernel_for<NearPolicy>(dtype, D, variant);
}

}  // namespace attn::colreduce
