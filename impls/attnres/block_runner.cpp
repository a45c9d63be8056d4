// The schedule of a forward, and of the recomputation inside a backward.
#include "impls/attnres/block_runner.h"

#include <stdexcept>
#include <utility>

#include "impls/attnres/choose_backend.h"
#include "reference/attnres_merge/contract.h"
#include "reference/attnres_phase1/contract.h"

namespace attn::attnres {
namespace {

/// Cuts areas off memory; with no memory it only counts.
class Carver {
 public:
  explicit Carver(char* base) : base_(base) {}
  void* take(std::size_t bytes) {
    constexpr std::size_t kAlignment = 256;
    void* area = base_ ? base_ + used_ : nullptr;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return area;
  }
  std::size_t used() const { return used_; }

 private:
  char* base_;
  std::size_t used_ = 0;
};

std::size_t planes(const RunnerConfig& config, std::int64_t count) {
  return static_cast<std::size_t>(count) * config.plane_bytes();
}

std::size_t scalars(const RunnerConfig& config, std::int64_t count) {
  return static_cast<std::size_t>(count * config.network.tokens()) * sizeof(float);
}

/// Queries whose reads of older blocks block n has planes for.
std::int64_t read_count(const RunnerConfig& config, std::int64_t n) {
  return config.one_shot(n) ? 1 : config.network.block_size(n);
}

RunnerConfig checked(const RunnerConfig& config, const RunnerMemory& memory) {
  if (Support valid = validate_network(config.network); !valid)
    throw std::invalid_argument(valid.reason);
  if (!config.backend.empty() && !find_backend<AttnResPhase1>(config.backend) &&
      !find_backend<AttnResMerge>(config.backend))
    throw std::invalid_argument("no backend of this build is called " + config.backend);
  if (!memory.embedding || !memory.wt || (config.network.L > 0 && !memory.blocks))
    throw std::invalid_argument("a network needs an embedding, queries and memory of its blocks");
  return config;
}

}  // namespace

std::size_t BlockRunner::place(const RunnerConfig& config, char* base, Places& places) {
  const std::int64_t S = config.longest_block();
  Carver carver(base);
  places.reads = carver.take(planes(config, S));
  places.z = static_cast<float*>(carver.take(scalars(config, S)));
  for (void*& h : places.h) h = carver.take(planes(config, 1));
  places.answer = carver.take(planes(config, 1));
  if (config.gradient && S > 0) {
    places.gradients = carver.take(planes(config, config.network.blocks() + S - 1));
    places.dz = static_cast<float*>(carver.take(scalars(config, S)));
  }
  places.scratch = carver.take(0);
  return carver.used();
}

std::size_t BlockRunner::keep(const RunnerConfig& config, char* base, std::vector<Kept>& kept) {
  Carver carver(base);
  for (std::int64_t n = 1; n <= config.network.blocks(); ++n) {
    Kept& block = kept.emplace_back();
    if (!config.gradient || config.recompute == Recompute::kBlock) continue;
    block.reads = carver.take(planes(config, read_count(config, n)));
    block.z = static_cast<float*>(carver.take(scalars(config, read_count(config, n))));
    if (config.recompute == Recompute::kNone)
      block.sums = carver.take(planes(config, config.network.block_size(n) - 1));
  }
  return carver.used();
}

std::size_t BlockRunner::saved_bytes(const RunnerConfig& config) {
  std::vector<Kept> kept;
  return keep(config, nullptr, kept);
}

std::size_t BlockRunner::workspace_bytes(const RunnerConfig& config, const DeviceInfo& device) {
  Places places;
  return place(config, nullptr, places) + ReadCalls::scratch_bytes(config, device);
}

BlockRunner::Places BlockRunner::places_in(const RunnerConfig& config, const RunnerMemory& memory) {
  Places places;
  place(config, static_cast<char*>(memory.workspace.data), places);
  return places;
}

BlockRunner::BlockRunner(const RunnerConfig& config,
                         const DeviceInfo& device,
                         const RunnerMemory& memory,
                         Emit emit)
    : config_(checked(config, memory)),
      memory_(memory),
      calls_(config_,
             device,
             memory.wt,
             {places_in(config_, memory).scratch, ReadCalls::scratch_bytes(config_, device)},
             std::move(emit)),
      places_(places_in(config_, memory)),
      sums_(static_cast<std::size_t>(config_.longest_block())) {
  if (memory.workspace.bytes < workspace_bytes(config_, device))
    throw std::invalid_argument("the workspace is too small for the network");
  if (saved_bytes(config_) > 0 && !memory.saved)
    throw std::invalid_argument("the recompute policy needs memory that is kept for the backward");
  keep(config_, static_cast<char*>(memory.saved), kept_);
}

void* BlockRunner::plane(void* base, std::int64_t index) const {
  return static_cast<char*>(base) + planes(config_, index);
}

void* BlockRunner::own_block(std::int64_t n) const { return plane(memory_.blocks, n - 1); }

const void* BlockRunner::block(std::int64_t n) const {
  return n == 0 ? memory_.embedding : own_block(n);
}

SourceList BlockRunner::sources(std::int64_t n) const {
  SourceList list;
  for (std::int64_t m = 0; m < n; ++m) list.push_back(block(m));
  return list;
}

void* BlockRunner::reads(std::int64_t n) const {
  void* kept = kept_[static_cast<std::size_t>(n - 1)].reads;
  return kept ? kept : places_.reads;
}

float* BlockRunner::normalisers(std::int64_t n) const {
  float* kept = kept_[static_cast<std::size_t>(n - 1)].z;
  return kept ? kept : places_.z;
}

bool BlockRunner::keeps_sums() const {
  return config_.gradient && config_.recompute == Recompute::kNone;
}

void* BlockRunner::sum_place(std::int64_t i) const {
  // Recomputed sums lie behind the block's own gradient: the gradients of their reads follow them there.
  if (pass_ != Pass::kForward) return plane(gradient(n_), i);
  if (keeps_sums()) return plane(kept_[static_cast<std::size_t>(n_ - 1)].sums, i - 1);
  return own_block(n_);
}

Step BlockRunner::forward() {
  pass_ = Pass::kForward;
  n_ = 1;
  i_ = 0;
  open_ = {};
  if (config_.network.L > 0) return ask_sublayer();
  calls_.mix(sources(1), nullptr, 0, memory_.out);
  return {};
}

Step BlockRunner::resume(const void* answer) {
  return pass_ == Pass::kGradient ? take_gradient(answer) : take_output(answer);
}

Step BlockRunner::ask_sublayer() {
  h_ = i_ == 0 ? first_read() : later_read();
  const bool alone = config_.network.block_size(n_) == 1;
  void* out = places_.answer;
  if (i_ == 0) {
    if (!alone) out = sum_place(1);
    if (alone && pass_ == Pass::kForward) out = own_block(n_);
  }
  return {Step::Kind::kSublayer, config_.network.query(n_, i_), h_, out};
}

/// What sublayer 0 reads: older blocks alone.
const void* BlockRunner::first_read() {
  const std::int64_t query = config_.network.query(n_, 0);
  const bool kept = pass_ == Pass::kRecompute && config_.recompute != Recompute::kBlock;
  if (config_.one_shot(n_)) {
    if (n_ == 1) return memory_.embedding;  // of one source the read is the source
    SourceList older = sources(n_);
    if (open_sum()) older.pop_back();
    if (!kept) calls_.mix(older, open_sum(), query, reads(n_));
    open_ = {};
  } else if (!kept) {
    calls_.phase1(sources(n_), query, config_.network.block_size(n_), reads(n_), normalisers(n_));
  }
  return reads(n_);
}

/// What sublayer i > 0 reads: older blocks and the sum of the sublayers before it.
const void* BlockRunner::later_read() {
  const auto i = static_cast<std::size_t>(i_);
  PartialSum sum{.partial = sums_[i], .update = nullptr, .sum = nullptr};
  if (i_ > 1) {
    sum = {.partial = sums_[i - 1], .update = update_, .sum = sum_place(i_)};
    sums_[i] = sum.sum;
  }
  void* h = places_.h[i_ % 2];
  const std::int64_t query = config_.network.query(n_, i_);
  if (config_.one_shot(n_)) {
    calls_.mix(sources(n_), &sum, query, h);
  } else {
    calls_.merge(sum, query, plane(reads(n_), i_),
                 normalisers(n_) + i_ * config_.network.tokens(), h);
  }
  return h;
}

Step BlockRunner::take_output(const void* u) {
  const bool last = i_ + 1 == config_.network.block_size(n_);
  if (last && pass_ == Pass::kRecompute) {
    pass_ = Pass::kGradient;
    return ask_gradient();
  }
  if (i_ == 0 && !last) {
    // The first partial sum is the first output: where it lies, if it stays there.
    const bool stays = pass_ == Pass::kRecompute ? u == h_ || u == sum_place(1)
                                                 : !keeps_sums() || u == sum_place(1);
    if (!stays) calls_.copy_plane(sum_place(1), u);
    sums_[1] = stays ? u : sum_place(1);
  }
  update_ = u;
  if (last) return close_block(u);
  ++i_;
  return ask_sublayer();
}

/// The sum of a whole block; where the next read can add its last output, it does.
Step BlockRunner::close_block(const void* u) {
  const std::int64_t blocks = config_.network.blocks();
  void* own = own_block(n_);
  if (i_ == 0) {
    if (u != own) calls_.copy_plane(own, u);
  } else {
    open_ = {.partial = sums_[static_cast<std::size_t>(i_)], .update = u, .sum = own};
    if (n_ < blocks && !config_.one_shot(n_ + 1)) {
      calls_.add(open_.sum, open_.partial, open_.update);
      open_ = {};
    }
  }
  if (n_ < blocks) {
    ++n_;
    i_ = 0;
    return ask_sublayer();
  }
  SourceList all = sources(blocks + 1);
  if (open_sum()) all.pop_back();
  calls_.mix(all, open_sum(), config_.network.L, memory_.out);
  open_ = {};
  return {};
}

}  // namespace attn::attnres
