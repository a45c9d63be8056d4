// The schedule of a forward, of what a backward computes again, and of the gradients.
#include "impls/attnres/block_runner.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

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
  void* planes(const RunnerConfig& config, std::int64_t count) {
    return take(static_cast<std::size_t>(count) * config.plane_bytes());
  }
  float* scalars(const RunnerConfig& config, std::int64_t count) {
    return static_cast<float*>(take(static_cast<std::size_t>(count) * config.scalar_bytes()));
  }
  std::size_t used() const { return used_; }

 private:
  char* base_;
  std::size_t used_ = 0;
};

void require(bool given, const char* what) {
  if (!given) throw std::invalid_argument(what);
}

/// With the schedule that the device's backends make the better one.
RunnerConfig resolved(RunnerConfig config, const DeviceInfo& device) {
  if (config.fused_updates && !ReadCalls::mix_adds(config, device, 3))
    config.few_sources = std::min<std::int64_t>(config.few_sources, 1);
  return config;
}

/// The same, if a runner can be had for it.
RunnerConfig checked(const RunnerConfig& config, const DeviceInfo& device) {
  const Support support = BlockRunner::supports(config, device);
  require(support.ok, support.reason.c_str());
  return resolved(config, device);
}

char* bytes_of(void* memory) { return static_cast<char*>(memory); }

}  // namespace

BlockRunner::Layout BlockRunner::lay_out(const RunnerConfig& config, char* workspace, char* saved) {
  const NetworkProblem& network = config.network;
  std::int64_t widest = 0;  // sublayers of a block in two phases
  for (std::int64_t n = 1; n <= network.blocks(); ++n) {
    if (!config.one_shot(n)) widest = std::max(widest, network.block_size(n));
  }
  Layout layout;
  Areas shared;
  Carver work(workspace);
  if (!config.keeps_reads()) {
    shared.reads = work.planes(config, widest);
    shared.z = work.scalars(config, widest);
  }
  if (config.gradient) layout.dz = work.scalars(config, widest);
  if (config.recomputes())
    shared.sums = work.planes(config, std::max<std::int64_t>(0, network.longest_block() - 2));
  layout.scratch = work.take(0);
  layout.workspace_bytes = work.used();

  Carver keep(saved);
  for (std::int64_t n = 1; n <= network.blocks(); ++n) {
    const std::int64_t size = network.block_size(n);
    Areas& own = layout.blocks.emplace_back(shared);
    if (config.keeps_reads() && !config.one_shot(n)) {
      own.reads = keep.planes(config, size);
      own.z = keep.scalars(config, size);
    }
    if (config.keeps_sums()) own.sums = keep.planes(config, size - 1);
  }
  layout.saved_bytes = keep.used();
  return layout;
}

std::size_t BlockRunner::saved_bytes(const RunnerConfig& config) {
  return lay_out(config, nullptr, nullptr).saved_bytes;
}

std::size_t BlockRunner::workspace_bytes(const RunnerConfig& config, const DeviceInfo& device) {
  const RunnerConfig own = resolved(config, device);
  return lay_out(own, nullptr, nullptr).workspace_bytes + ReadCalls::scratch_bytes(own, device);
}

Support BlockRunner::supports(const RunnerConfig& config, const DeviceInfo& device) {
  const Support valid = validate_network(config.network);
  return valid ? ReadCalls::supports(resolved(config, device), device) : valid;
}

BlockRunner::BlockRunner(const RunnerConfig& config,
                         const DeviceInfo& device,
                         const RunnerMemory& memory,
                         Sublayers sublayers,
                         Emit emit)
    : config_(checked(config, device)),
      memory_(memory),
      layout_(lay_out(config_, bytes_of(memory.workspace.data), bytes_of(memory.saved))),
      sublayers_(std::move(sublayers)),
      calls_(config_,
             device,
             memory.wt,
             {layout_.scratch, ReadCalls::scratch_bytes(config_, device)},
             std::move(emit)) {
  require(memory.workspace.bytes >= workspace_bytes(config, device),
          "the workspace is smaller than workspace_bytes");
  require(memory.saved || layout_.saved_bytes == 0,
          "what is kept for the backward needs saved_bytes of memory");
}

void* BlockRunner::plane(void* base, std::int64_t index) const {
  return bytes_of(base) + static_cast<std::size_t>(index) * config_.plane_bytes();
}

const void* BlockRunner::block(std::int64_t n) const {
  return n == 0 ? memory_.embedding : plane(memory_.blocks, n - 1);
}

void* BlockRunner::gradient(std::int64_t n) const { return plane(memory_.dblocks, n); }

SourceList BlockRunner::blocks_before(std::int64_t n) const {
  SourceList list;
  for (std::int64_t m = 0; m < n; ++m) list.push_back(block(m));
  return list;
}

SourceList BlockRunner::gradients_before(std::int64_t n) const {
  SourceList list;
  for (std::int64_t m = 0; m < n; ++m) list.push_back(gradient(m));
  return list;
}

void BlockRunner::forward() {
  const NetworkProblem& network = config_.network;
  last_ = {.partial = memory_.embedding};
  for (std::int64_t n = 1; n <= network.blocks(); ++n) {
    std::vector<const void*> sums(static_cast<std::size_t>(network.block_size(n)));
    close_block(n, forward_block(n, /*again=*/false, sums));
  }
  calls_.mix(blocks_before(network.blocks()), last_, network.L, memory_.out);
}

/// Returns the sum of all its sublayers, the last one still to be added, and fills `sums`, where element i
/// is that of the first i. `again`: for the backward, which does not need the whole sum.
PartialSum BlockRunner::forward_block(std::int64_t n, bool again, std::vector<const void*>& sums) {
  const std::int64_t size = config_.network.block_size(n);
  const bool keeps = !again && config_.keeps_sums();
  void* kept = areas(n).sums;
  PartialSum sum;
  for (std::int64_t i = 0; i < size; ++i) {
    const void* h = i == 0 ? first_read(n, again) : later_read(n, i, sum);
    if (i > 0) sums[static_cast<std::size_t>(i)] = sum.result();
    const void* u = sublayers_.forward(config_.network.query(n, i), h);
    const bool whole = i + 1 == size;
    if (i > 0) {
      sum = {.partial = sum.result(), .update = u, .sum = plane(memory_.blocks, n - 1)};
      if (!whole && keeps) sum.sum = plane(kept, i);
      if (!whole && again) sum.sum = plane(kept, i - 1);
    } else if (keeps && !whole) {
      calls_.copy_plane(kept, u);
      sum.partial = kept;
    } else {
      sum.partial = u;
    }
  }
  return sum;
}

/// What the first sublayer of a block reads: older blocks alone.
const void* BlockRunner::first_read(std::int64_t n, bool again) {
  const std::int64_t query = config_.network.query(n, 0);
  if (config_.one_shot(n)) {
    if (n == 1) return memory_.embedding;  // of one source the read is the source
    void* h = sublayers_.place(query);
    calls_.mix(blocks_before(n - 1), again ? PartialSum{.partial = block(n - 1)} : last_, query, h);
    return h;
  }
  if (!again || !config_.keeps_reads())
    calls_.phase1(blocks_before(n), query, config_.network.block_size(n), areas(n).reads,
                  areas(n).z);
  return areas(n).reads;
}

/// What sublayer i > 0 reads: older blocks and the sum of the sublayers before it.
const void* BlockRunner::later_read(std::int64_t n, std::int64_t i, const PartialSum& sum) {
  const std::int64_t query = config_.network.query(n, i);
  void* h = sublayers_.place(query);
  if (config_.one_shot(n)) {
    calls_.mix(blocks_before(n), sum, query, h);
  } else {
    calls_.merge(sum, query, plane(areas(n).reads, i), areas(n).z + i * config_.network.tokens(),
                 h);
  }
  return h;
}

/// Stores the sum of block n, unless the next read does: a mix, and one that no backward computes again, from
/// the sum alone, in another kernel and other bits.
void BlockRunner::close_block(std::int64_t n, const PartialSum& sum) {
  last_ = {.partial = block(n)};
  const bool mixed_once =
      n == config_.network.blocks() || (config_.one_shot(n + 1) && !config_.gradient);
  if (!sum.update) {
    calls_.copy_plane(plane(memory_.blocks, n - 1), sum.partial);
  } else if (!mixed_once) {
    calls_.add(sum.sum, sum.partial, sum.update);
  } else {
    last_ = sum;
  }
}

void BlockRunner::backward() {
  require(config_.gradient, "a backward needs a config with gradient = true");
  const NetworkProblem& network = config_.network;
  const std::int64_t all = network.blocks() + 1;
  calls_.clear(memory_.dwt, static_cast<std::size_t>((network.L + 1) * network.D) * sizeof(float));
  calls_.mix_backward(blocks_before(all), network.L, memory_.dout, gradients_before(all),
                      Store::kWrite, memory_.dwt);
  for (std::int64_t n = network.blocks(); n >= 1; --n) backward_block(n);
}

void BlockRunner::backward_block(std::int64_t n) {
  const std::int64_t size = config_.network.block_size(n);
  std::vector<const void*> sums(static_cast<std::size_t>(size));
  if (config_.recomputes()) {
    forward_block(n, /*again=*/true, sums);
  } else {
    for (std::int64_t i = 1; i < size; ++i)
      sums[static_cast<std::size_t>(i)] = plane(areas(n).sums, i - 1);
  }
  for (std::int64_t i = size - 1; i >= 0; --i) {
    const void* dh = sublayers_.backward(config_.network.query(n, i), gradient(n));
    if (i > 0) {
      later_gradient(n, i, sums[static_cast<std::size_t>(i)], dh);
    } else {
      first_gradient(n, dh);
    }
  }
}

void BlockRunner::later_gradient(std::int64_t n, std::int64_t i, const void* sum, const void* dh) {
  const std::int64_t query = config_.network.query(n, i);
  if (config_.one_shot(n)) {
    SourceList all = blocks_before(n);
    all.push_back(sum);
    calls_.mix_backward(all, query, dh, gradients_before(n + 1), Store::kAdd, memory_.dwt);
  } else {
    const std::int64_t row = i * config_.network.tokens();
    calls_.merge_backward(sum, query, plane(areas(n).reads, i), areas(n).z + row, dh, gradient(n),
                          layout_.dz + row, memory_.dwt);
  }
}

void BlockRunner::first_gradient(std::int64_t n, const void* dh) {
  const std::int64_t query = config_.network.query(n, 0);
  if (config_.one_shot(n)) {
    if (n == 1)
      return calls_.add(gradient(0), gradient(0), dh);  // its read is the embedding itself
    calls_.mix_backward(blocks_before(n), query, dh, gradients_before(n), Store::kAdd, memory_.dwt);
    return;
  }
  calls_.copy_plane(areas(n).reads, dh);
  calls_.clear(layout_.dz, config_.scalar_bytes());
  calls_.phase1_backward(blocks_before(n), query, config_.network.block_size(n), areas(n).reads,
                         layout_.dz, gradients_before(n), memory_.dwt);
}

}  // namespace attn::attnres
