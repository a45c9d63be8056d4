// The kernels of one_pass_sm90: keys stay in shared memory while the queries of a head stream past.
#include "impls/colreduce/resident_instances.cuh"

namespace attn::colreduce {
namespace {

// D, pairs of score groups, chunks of a CTA, slots of keys and of weights:
template <int kD, bool kMasked>
struct OnePassPolicy;
template <bool kMasked>
struct OnePassPolicy<64, kMasked> : ResidentPolicy<64, 2, 4, 4, 21, false, kMasked> {};
template <bool kMasked>
struct OnePassPolicy<96, kMasked> : ResidentPolicy<96, 2, 4, 4, 15, false, kMasked> {};
template <bool kMasked>
struct OnePassPolicy<128, kMasked> : ResidentPolicy<128, 2, 4, 4, 15, false, kMasked> {};

}  // namespace

ResidentKernel one_pass_kernel(DType dtype, std::int64_t D, ResidentVariant variant) {
  return resident_kernel_for<OnePassPolicy>(dtype, D, variant);
}

}  // namespace attn::colreduce
