// The column reduction for few queries: one_pass_sm90 turned into a stream over the keys.
//
// Computes what one_pass_sm90 does where at most 64 queries of a head are reduced. Their single tile leaves
//   nothing to keep keys for: they stream through rings, each read from HBM once.
// Mapping: as one_pass_sm90 with one crew of two score groups and up to eight chunks a CTA; a tile is a
//   head, so that the exchange of one head goes on under the next ones.
// Memory: 64 KiB of keys on their way, one tile of queries, 17 chunks of weights (8 KiB each; at D
//   = 128); one CTA an SM. The workspace holds words of 8 bytes (resident_sm90.h).
// Traffic: the keys once, from HBM, which is the limit to expect; the queries once a CTA, from L2.
// Rounding: as one_pass_sm90.
// Source: as one_pass_sm90.
#include "impls/colreduce/resident_sm90.h"
#include "impls/colreduce/resident_tiles.h"

namespace attn::colreduce {
namespace {

using Resident = ResidentBackend<split_k_kernel>;

Support supports(const ColReduce::Problem& problem, const DeviceInfo& device) {
  if (problem.contributing().count() > kTileRows)
    return Support::no("at most 64 queries may contribute");
  return Resident::supports(problem, device);
}

}  // namespace

extern constinit const Backend<ColReduce> split_k_sm90;
constinit const Backend<ColReduce> split_k_sm90 = {
    .info = {.id = "split_k_sm90",
             .summary = "few queries: keys stream past one tile, read once from HBM",
             .memory = MemorySpace::kDevice,
             .math = "16-bit wgmma, fp32 accumulate, ex2.approx, fp16 weights",
             .numerics = NumericsClass::kHalfWeights,
             .deterministic = true},
    .supports = supports,
    .workspace_bytes = Resident::workspace_bytes,
    .plan = Resident::plan};

}  // namespace attn::colreduce
