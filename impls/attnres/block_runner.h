// Runs a network with block attention residuals around sublayers that its caller computes: it owns the
// schedule, the order of the backward, and what is kept in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "impls/attnres/read_calls.h"

namespace attn::attnres {

/// What the caller does. Sublayers count from 0 to L - 1; planes are [B, T, D] of the network's type.
struct Sublayers {
  /// Where the runner may put what a sublayer reads; the first of a block is not always asked for.
  std::function<void*(std::int64_t sublayer)> place;
  /// Enqueues u = f(h) and returns u, which stays as it is until the next sublayer but one is asked for;
  /// of the first in a block until the block is done. Nobody else writes h.
  std::function<const void*(std::int64_t sublayer, const void* h)> forward;
  /// Enqueues the backward of f and returns the gradient of h in another plane than du, which changes
  /// afterwards.
  std::function<const void*(std::int64_t sublayer, const void* du)> backward;
};

/// Memory that the caller owns; on a device all of it starts on 256 bytes, and planes that sublayers hand
/// out on 16. Gradients are for the backward alone.
struct RunnerMemory {
  const void* embedding = nullptr;  // [B, T, D]
  const void* wt = nullptr;         // [L + 1, D]
  void* blocks = nullptr;      // [blocks, B, T, D] written by the forward, read by the backward
  void* out = nullptr;         // [B, T, D]; the forward's
  const void* dout = nullptr;  // [B, T, D]
  void* dblocks = nullptr;  // [1 + blocks, B, T, D] of the embedding, of the blocks' first updates
  float* dwt = nullptr;     // [L + 1, D]
  void* saved = nullptr;    ///< of saved_bytes; a backward uses up what a forward has left
  Workspace workspace{};    ///< of workspace_bytes; nothing stays in it
};

/// A forward, a backward, or one after the other. Nothing is allocated on the device and nothing is waited
/// for: `emit` gets launches in order, to be enqueued at once, or recorded where the sublayers' planes are
/// known before.
class BlockRunner {
 public:
  /// Throws std::invalid_argument, in one sentence, where the network is not valid, no backend takes a
  /// call, or memory is missing.
  BlockRunner(const RunnerConfig& config,
              const DeviceInfo& device,
              const RunnerMemory& memory,
              Sublayers sublayers,
              Emit emit);

  static Support supports(const RunnerConfig& config, const DeviceInfo& device);
  /// README.md beside this file has the formulas.
  static std::size_t saved_bytes(const RunnerConfig& config);
  static std::size_t workspace_bytes(const RunnerConfig& config, const DeviceInfo& device);

  void forward();
  /// Asks for sublayers again, a block at a time, unless nothing is recomputed.
  void backward();

  std::string note() const { return calls_.note(); }

 private:
  /// What belongs to a block while it is worked on, in the workspace or in what is saved.
  struct Areas {
    void* reads =
        nullptr;           // [sublayers, B, T, D] of older blocks, then their gradients; two phases
    float* z = nullptr;    // [sublayers, B, T] their normalisers; two phases
    void* sums = nullptr;  // partial sums that are kept, or computed again
  };
  struct Layout {
    std::vector<Areas> blocks;  // from block 1 on
    float* dz = nullptr;        // [sublayers, B, T] of one block
    void* scratch = nullptr;
    std::size_t workspace_bytes = 0;  // without the scratch of calls
    std::size_t saved_bytes = 0;
  };
  static Layout lay_out(const RunnerConfig& config, char* workspace, char* saved);

  const void* block(std::int64_t n) const;
  void* gradient(std::int64_t n) const;
  SourceList blocks_before(std::int64_t n) const;
  SourceList gradients_before(std::int64_t n) const;
  const Areas& areas(std::int64_t n) const {
    return layout_.blocks[static_cast<std::size_t>(n - 1)];
  }
  void* plane(void* base, std::int64_t index) const;

  PartialSum forward_block(std::int64_t n, bool again, std::vector<const void*>& sums);
  const void* first_read(std::int64_t n, bool again);
  const void* later_read(std::int64_t n, std::int64_t i, const PartialSum& sum);
  void close_block(std::int64_t n, const PartialSum& sum);
  void backward_block(std::int64_t n);
  void later_gradient(std::int64_t n, std::int64_t i, const void* sum, const void* dh);
  void first_gradient(std::int64_t n, const void* dh);

  RunnerConfig config_;
  RunnerMemory memory_;
  Layout layout_;
  Sublayers sublayers_;
  ReadCalls calls_;
  PartialSum last_{};  // the sum of the last block, whose update the next read adds
};

}  // namespace attn::attnres
