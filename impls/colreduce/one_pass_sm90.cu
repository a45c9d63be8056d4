// The column reduction in one pass: each score is computed once, its weight stays on chip.
//
// Computes what wgmma_sm90 does; two passes exist only because a row's normaliser is known late.
//   Here the exponentials wait for it in shared memory as fp16, and the CTAs that share a head add
//   up their parts of the normalisers.
// Mapping: a team of CTAs shares a head, each owns up to four chunks of 64 keys (D up to 64: eight, where
//   a head does not fit otherwise), dealt in a zigzag so that a causal mask leaves all equally much.
//   Queries stream past in tiles of 64. Four score groups (warpgroups), with eight chunks two crews of
//   two, take tiles in turn; exchange warps tell and learn the normalisers; column warps reduce the
//   weights over the queries; one thread loads.
// Memory, at D = 128: 64 KiB of keys, a tile of queries (16 KiB) and 17 chunks of weights (8 KiB each), under a
//   mask two tiles and 15 chunks; one CTA an SM. The workspace holds words of 8 bytes (resident_sm90.h).
// Traffic: 2 B H M N D FLOP, B H M N exponentials, keys once from HBM, queries once a CTA of the
//   team from L2; 64 additions a tile and rank. Limits: README.md.
// Rounding: scores and sums fp32, ex2.approx; exponentials relative to a row's reference rounded to
//   fp16 (2^-11); row factors and column sums fp32, tiles in order: deterministic.
// Source: the idea and its arithmetic are derived in README.md, "one_pass_sm90". The kernel is
//   resident_kernel.cuh, its roles resident_{loads,scores,exchange,columns}.cuh.
#include "impls/colreduce/resident_sm90.h"

namespace attn::colreduce {
extern constinit const Backend<ColReduce> one_pass_sm90;
constinit const Backend<ColReduce> one_pass_sm90 = {
    .info = {.id = "one_pass_sm90",
             .summary = "one pass: weights wait on chip for their row's normaliser",
             .memory = MemorySpace::kDevice,
             .math = "16-bit wgmma, fp32 accumulate, ex2.approx, fp16 weights",
             .numerics = NumericsClass::kHalfWeights,
             .deterministic = true},
    .supports = ResidentBackend<one_pass_kernel>::supports,
    .workspace_bytes = ResidentBackend<one_pass_kernel>::workspace_bytes,
    .plan = ResidentBackend<one_pass_kernel>::plan};

}  // namespace attn::colreduce
