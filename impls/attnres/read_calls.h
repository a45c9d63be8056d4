// The calls that a network makes of the family's operators, with their problems written once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "impls/attnres/runner_config.h"

namespace attn::attnres {

/// Source planes, oldest first.
using SourceList = std::vector<const void*>;
using Emit = std::function<void(const Launch&)>;

/// A partial sum, and what a read adds to it first: then the sum is stored.
struct PartialSum {
  const void* partial = nullptr;
  const void* update = nullptr;  ///< null: nothing is added
  void* sum = nullptr;           ///< where the sum goes; may be `partial`

  const void* result() const { return update ? sum : partial; }
};

/// Plans each call and hands its launch on, to be run at once or later. Planes are dense [B, T, D];
/// gradients of queries are added to what is there.
class ReadCalls {
 public:
  /// `wt` [L + 1, D]; `scratch` of scratch_bytes.
  ReadCalls(const RunnerConfig& config,
            const DeviceInfo& device,
            const void* wt,
            Workspace scratch,
            Emit emit);
  static std::size_t scratch_bytes(const RunnerConfig& config, const DeviceInfo& device);

  /// S queries from `query` on read the sources: reads [S, B, T, D] and their normalisers z [S, B, T].
  void phase1(const SourceList& sources, std::int64_t query, std::int64_t S, void* reads, float* z);
  void merge(const PartialSum& sum, std::int64_t query, const void* read, const float* z, void* out);
  /// One query reads the sources and, where there is one, a partial sum.
  void mix(const SourceList& sources, const PartialSum* sum, std::int64_t query, void* out);

  /// Adds to the sources' gradients. `dreads` [S, B, T, D]; dz [S, B, T] is null for S = 1 alone.
  void phase1_backward(const SourceList& sources,
                       std::int64_t query,
                       std::int64_t S,
                       const void* dreads,
                       const float* dz,
                       const std::vector<void*>& dsources,
                       float* dwt);
  /// Adds to `dpartial`, writes `dread` and `dz`. `dout` may be `dpartial`, `dread` may be `partial`.
  void merge_backward(const void* partial,
                      std::int64_t query,
                      const void* read,
                      const float* z,
                      const void* dout,
                      void* dpartial,
                      void* dread,
                      float* dz,
                      float* dwt);
  /// Adds to the sources' gradients, or writes them. `dout` may be the last of them.
  void mix_backward(const SourceList& sources,
                    std::int64_t query,
                    const void* dout,
                    const std::vector<void*>& dsources,
                    Store store,
                    float* dwt);

  void add(void* sum, const void* a, const void* b);
  void copy_plane(void* to, const void* from);
  void clear(void* to, std::size_t bytes);

  /// Who computed what: "attnres_merge: cpu_fused, attnres_phase1: cpu_fused".
  std::string note() const;

 private:
  template <class Op>
  void call(const typename Op::Problem& p, const typename Op::Tensors& t);
  /// The query's row, `count` of them.
  TensorView queries(std::int64_t query, std::int64_t count) const;
  TensorView planes(const void* data, std::int64_t count) const;
  TensorView scalars(const float* data, std::int64_t count) const;
  TensorView gradients(float* dwt, std::int64_t query, std::int64_t count) const;

  RunnerConfig config_;
  DeviceInfo device_;
  const void* wt_;
  float* lse_;  // [B, T] that nobody asked for
  Workspace scratch_;
  Emit emit_;
  std::map<std::string_view, std::string_view> chosen_;
};

}  // namespace attn::attnres
