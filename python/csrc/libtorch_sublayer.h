// One run of a network's sublayer: its graph, and what it may depend on besides its input.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "python/csrc/attnres.h"

namespace attn {

/// What a sublayer may depend on besides its input, as it is now: generators of random numbers, autocast.
class Surroundings {
 public:
  explicit Surroundings(c10::Device device);
  void restore() const;

 private:
  struct One {
    at::DeviceType type;
    at::Generator generator;
    at::Tensor state;
    bool autocast;
    at::ScalarType autocast_type;
  };
  void add(c10::Device device);

  std::vector<One> all_;
};

/// Puts back what was there before when it ends.
class Past {
 public:
  Past(const Surroundings& past, c10::Device device) : present_(device) { past.restore(); }
  ~Past() { present_.restore(); }
  Past(const Past&) = delete;
  Past& operator=(const Past&) = delete;

 private:
  Surroundings present_;
};

/// A sublayer's own graph, from h and its parameters to u; without gradients the two tensors alone.
struct Graph {
  at::Tensor h;
  at::Tensor u;
};

/// Runs sublayer `index` on a plane; an error names `op`. Throws where it does not return a tensor like the
/// plane, writes the plane, or, with a graph, uses a tensor with a gradient that is no parameter of it.
Graph run_sublayer(const char* op,
                   const attnbench::Sublayer& sublayer,
                   std::int64_t index,
                   const at::Tensor& plane,
                   bool with_graph);

}  // namespace attn
