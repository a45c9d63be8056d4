// Every backend of the column reduction, in reading order: one line each. What this build leaves out
// stays listed, without a backend behind it. A CHOICE among the others is the object NAME_choice: what
// it is called by may be a word of C++.
#include "harness/core/backend.h"
#include "reference/colreduce/contract.h"

#define ATTN_COLREDUCE_BACKENDS    \
  ATTN_BACKEND_HOST(cpu_reference) \
  ATTN_BACKEND_HOST(cpu_fused)     \
  ATTN_BACKEND_TORCH(libtorch)     \
  ATTN_BACKEND_CUDA(cublas_naive)  \
  ATTN_BACKEND_CUDA(fused_simt)    \
  ATTN_BACKEND_CUDA(mma_sm80)      \
  ATTN_BACKEND_CUDA(split_k)       \
  ATTN_BACKEND_SM90(wgmma_sm90)    \
  ATTN_BACKEND_SM90(one_pass_sm90) \
  ATTN_BACKEND_SM90(split_k_sm90)  \
  ATTN_BACKEND_CHOICE(auto)

namespace attn {
namespace colreduce {
#define ATTN_BACKEND_HOST(name) extern const Backend<ColReduce> name;
#define ATTN_BACKEND_TORCH(name) extern const Backend<ColReduce> name;
#define ATTN_BACKEND_CUDA(name) extern const Backend<ColReduce> name;
#define ATTN_BACKEND_SM90(name) extern const Backend<ColReduce> name;
#define ATTN_BACKEND_CHOICE(name) extern const Backend<ColReduce> name##_choice;
ATTN_COLREDUCE_BACKENDS
#undef ATTN_BACKEND_HOST
#undef ATTN_BACKEND_TORCH
#undef ATTN_BACKEND_CUDA
#undef ATTN_BACKEND_SM90
#undef ATTN_BACKEND_CHOICE
}  // namespace colreduce

#define ATTN_BACKEND_HOST(name) {#name, &colreduce::name},
#define ATTN_BACKEND_CHOICE(name) {#name, &colreduce::name##_choice},
#if ATTN_WITH_TORCH
#define ATTN_BACKEND_TORCH(name) {#name, &colreduce::name},
#else
#define ATTN_BACKEND_TORCH(name) {#name, nullptr},
#endif
#if ATTN_WITH_CUDA
#define ATTN_BACKEND_CUDA(name) {#name, &colreduce::name},
#else
#define ATTN_BACKEND_CUDA(name) {#name, nullptr},
#endif
#if ATTN_WITH_SM90
#define ATTN_BACKEND_SM90(name) {#name, &colreduce::name},
#else
#define ATTN_BACKEND_SM90(name) {#name, nullptr},
#endif

std::span<const BackendSlot<ColReduce>> ColReduce::backends() {
  static const BackendSlot<ColReduce> kSlots[] = {ATTN_COLREDUCE_BACKENDS};
  return kSlots;
}

}  // namespace attn
