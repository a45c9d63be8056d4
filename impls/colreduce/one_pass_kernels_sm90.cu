// The kernels of one_pass_sm90: keys stay in shared memory while the queries of a head stream past.
#include "impls/colreduce/resident_instances.cuh"

namespace attn::colreduce {
namespace {

// D, crews of score groups, groups of a crew, slots of queries, chunks of a CTA, which is slots of keys, and slots of
// weights. Four crews of one group read a tile's queries once and pay for a tile once, however few of its chunks a mask
// leaves.
template <int kD, int kQuerySlots, int kWeightSlots, bool kMasked>
using OnePass = ResidentPolicy<kD, 4, 1, kQuerySlots, 4, 4, kWeightSlots, false, kMasked>;

// Where tiles have all their chunks, score groups wait for room for weights: a slot of queries less is two more of those.
// Under a mask tiles are done sooner, and wait for queries.
template <int kD, bool kMasked>
struct OnePassPolicy : OnePass<kD, kMasked ? 2 : 1, kMasked ? 15 : 17, kMasked> {};
template <bool kMasked>
struct OnePassPolicy<64, kMasked> : OnePass<64, 2, 21, kMasked> {};

// With D = 64 a CTA can hold twice as many keys. Two tiles of weights are all that then fit, crews of two are done with
// one sooner: for heads that do not fit the device otherwise.
template <bool kMasked>
struct WidePolicy : ResidentPolicy<64, 2, 2, 2, 8, 8, 17, false, kMasked> {};

}  // namespace

ResidentKernel one_pass_kernel(DType dtype, std::int64_t D, ResidentVariant variant) {
  if (variant.wide && D <= 64) return resident_kernel_of_variant<WidePolicy>(dtype, variant);
  return resident_kernel_for<OnePassPolicy>(dtype, D, variant);
}

}  // namespace attn::colreduce
