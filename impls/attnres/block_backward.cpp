// The order of a backward: the output first, then the blocks from the last on, sublayers from the last on.
#include <stdexcept>

#include "impls/attnres/block_runner.h"

namespace attn::attnres {

/// Behind the gradient of block n lie those of later blocks, which are done when block n is differentiated:
/// its partial sums and the gradients of its reads take their place, a read's behind that of the one
/// before it, and that of the first is the block's own.
void* BlockRunner::gradient(std::int64_t n) const {
  return n == 0 ? memory_.dembedding : plane(places_.gradients, n - 1);
}

std::vector<void*> BlockRunner::gradients(std::int64_t n) const {
  std::vector<void*> list;
  for (std::int64_t m = 0; m < n; ++m) list.push_back(gradient(m));
  return list;
}

Step BlockRunner::backward() {
  if (!config_.gradient || !memory_.dout || !memory_.dembedding || !memory_.dwt)
    throw std::invalid_argument("a backward needs gradient = true, dout, dembedding and dwt");
  const NetworkProblem& network = config_.network;
  calls_.clear(memory_.dwt, static_cast<std::size_t>((network.L + 1) * network.D) * sizeof(float));
  const std::int64_t all = network.blocks() + 1;
  calls_.mix_backward(sources(all), network.L, memory_.dout, gradients(all), Store::kWrite,
                      memory_.dwt);
  return begin_backward(network.blocks());
}

Step BlockRunner::begin_backward(std::int64_t n) {
  if (n == 0) return {};
  n_ = n;
  i_ = 0;
  if (config_.recompute != Recompute::kNone) {
    pass_ = Pass::kRecompute;
    return ask_sublayer();
  }
  pass_ = Pass::kGradient;
  const std::int64_t last = config_.network.block_size(n) - 1;
  void* kept = kept_[static_cast<std::size_t>(n - 1)].sums;
  for (std::int64_t i = 1; i <= last; ++i) sums_[static_cast<std::size_t>(i)] = plane(kept, i - 1);
  i_ = last;
  return ask_gradient();
}

Step BlockRunner::ask_gradient() {
  return {Step::Kind::kGradient, config_.network.query(n_, i_), gradient(n_), places_.answer};
}

Step BlockRunner::take_gradient(const void* dh) {
  const std::int64_t tokens = config_.network.tokens();
  const std::int64_t query = config_.network.query(n_, i_);
  const bool one_shot = config_.one_shot(n_);
  if (i_ > 0) {
    const void* sum = sums_[static_cast<std::size_t>(i_)];
    if (one_shot) {
      SourceList all = sources(n_);
      all.push_back(sum);
      calls_.mix_backward(all, query, dh, gradients(n_ + 1), Store::kAdd, memory_.dwt);
    } else {
      calls_.merge_backward(sum, query, plane(reads(n_), i_), normalisers(n_) + i_ * tokens, dh,
                            gradient(n_), plane(gradient(n_), i_), places_.dz + i_ * tokens,
                            memory_.dwt);
    }
    --i_;
    return ask_gradient();
  }
  if (one_shot && n_ == 1) {
    calls_.add(memory_.dembedding, memory_.dembedding, dh);
  } else if (one_shot) {
    calls_.mix_backward(sources(n_), query, dh, gradients(n_), Store::kAdd, memory_.dwt);
  } else {
    const std::int64_t S = config_.network.block_size(n_);
    if (dh != gradient(n_)) calls_.copy_plane(gradient(n_), dh);
    calls_.clear(places_.dz, static_cast<std::size_t>(tokens) * sizeof(float));
    calls_.phase1_backward(sources(n_), query, S, gradient(n_), S > 1 ? places_.dz : nullptr,
                           gradients(n_), memory_.dwt);
  }
  return begin_backward(n_ - 1);
}

}  // namespace attn::attnres
