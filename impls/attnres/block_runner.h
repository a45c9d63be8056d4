// Runs a network with block attention residuals around sublayers that its caller computes: it owns the
// schedule, the order of the backward and what is kept in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "impls/attnres/read_calls.h"

namespace attn::attnres {

/// What the caller is to do next. Planes are [B, T, D] of the network's type; `in` is only read.
struct Step {
  enum class Kind : std::uint8_t {
    kSublayer,  ///< enqueue u = f_i(in)
    kGradient,  ///< enqueue the backward of sublayer i: dh from `in` = du
    kDone
  };
  Kind kind = Kind::kDone;
  std::int64_t sublayer = 0;
  const void* in = nullptr;
  /// Where the answer may be put, to spare a copy. Any other plane serves too, and so does `in` where
  /// the answer is equal to it; such a plane stays as it is until two more sublayers have answered.
  void* out = nullptr;
};

/// Memory that the caller owns. Bytes of `saved` and `workspace`: BlockRunner's functions of that name.
struct RunnerMemory {
  const void* embedding = nullptr;  // [B, T, D]
  const void* wt = nullptr;         // [L + 1, D]
  void* blocks = nullptr;           // [blocks, B, T, D], written by the forward, read by the backward
  void* out = nullptr;              // [B, T, D]; the forward's
  const void* dout = nullptr;       // [B, T, D]; the backward's, as the next two
  void* dembedding = nullptr;       // [B, T, D]
  float* dwt = nullptr;             // [L + 1, D]
  void* saved = nullptr;            ///< from forward to backward; 256-byte aligned
  Workspace workspace{};
};

/// One forward, or one backward, or one after the other. Nothing is allocated on the device and nothing is
/// waited for: `emit` gets launches, to be enqueued at once, or recorded where the caller's planes are
/// known before.
///   for (Step s = runner.forward(); s.kind != Step::Kind::kDone; s = runner.resume(answer(s)));
class BlockRunner {
 public:
  /// Throws std::invalid_argument, in one sentence, where sizes or the backend's id are not valid, or
  /// memory is missing.
  BlockRunner(const RunnerConfig& config,
              const DeviceInfo& device,
              const RunnerMemory& memory,
              Emit emit);

  static std::size_t saved_bytes(const RunnerConfig& config);
  static std::size_t workspace_bytes(const RunnerConfig& config, const DeviceInfo& device);

  /// Begins at sublayer 0; out is written when kDone is returned.
  Step forward();
  /// Begins at the output. Sublayers are asked for again unless nothing is recomputed, a block at a time.
  Step backward();
  /// Takes the answer to the last step.
  Step resume(const void* answer);

  std::string note() const { return calls_.note(); }

 private:
  enum class Pass : std::uint8_t { kForward, kRecompute, kGradient };

  /// Sums of the blocks; block 0 is the embedding.
  const void* block(std::int64_t n) const;
  void* own_block(std::int64_t n) const;
  SourceList sources(std::int64_t n) const;
  /// Gradients of the blocks before n, and of block n.
  std::vector<void*> gradients(std::int64_t n) const;
  void* gradient(std::int64_t n) const;
  void* plane(void* base, std::int64_t index) const;

  /// Where block n's reads of older blocks and their normalisers lie.
  void* reads(std::int64_t n) const;
  float* normalisers(std::int64_t n) const;
  bool keeps_sums() const;
  /// Where the sum after i sublayers of the current block goes.
  void* sum_place(std::int64_t i) const;

  Step ask_sublayer();
  Step ask_gradient();
  Step take_output(const void* u);
  Step take_gradient(const void* dh);
  Step close_block(const void* u);
  Step begin_backward(std::int64_t n);
  const void* first_read();
  const void* later_read();
  /// The sum of the last block, with the update that is still to be added to it.
  const PartialSum* open_sum() const { return open_.partial ? &open_ : nullptr; }

  RunnerConfig config_;
  RunnerMemory memory_;
  ReadCalls calls_;
  struct Places {
    void* reads = nullptr;          // [S, B, T, D] of one block
    float* z = nullptr;             // [S, B, T]
    void* h[2] = {};                // what later sublayers read
    void* answer = nullptr;         // offered to sublayers
    void* gradients = nullptr;      // [blocks + S - 1, B, T, D]
    float* dz = nullptr;            // [S, B, T]
    void* scratch = nullptr;        // of the calls
  } places_;
  struct Kept {
    void* reads = nullptr;  // [queries of the block, B, T, D]
    float* z = nullptr;
    void* sums = nullptr;  // [sublayers of the block - 1, B, T, D]
  };
  std::vector<Kept> kept_;  // of each block, from 1

  static std::size_t place(const RunnerConfig& config, char* base, Places& places);
  static std::size_t keep(const RunnerConfig& config, char* base, std::vector<Kept>& kept);
  static Places places_in(const RunnerConfig& config, const RunnerMemory& memory);

  Pass pass_ = Pass::kForward;
  std::int64_t n_ = 1;              // the block
  std::int64_t i_ = 0;              // the sublayer in it
  const void* h_ = nullptr;         // what the sublayer reads
  const void* update_ = nullptr;    // what the last one has returned
  std::vector<const void*> sums_;  // of the block, after i sublayers
  PartialSum open_{};
};

}  // namespace attn::attnres
