// The calls that a network makes of the family's operators, with their problems written once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/backend.h"
#include "impls/attnres/runner_config.h"

namespace attn::attnres {

/// Source planes, oldest first.
using SourceList = std::vector<const void*>;
/// Takes a launch, to be run at once or later, in order.
using Emit = std::function<void(Launch)>;

/// A partial sum; with an update, a read first adds that and stores the sum.
struct PartialSum {
  const void* partial = nullptr;
  const void* update = nullptr;
  void* sum = nullptr;  ///< may be `partial`

  const void* result() const { return update ? sum : partial; }
};

/// Plans each call and hands its launch on. Planes are dense [B, T, D]; queries' gradients are added to
/// what is there.
class ReadCalls {
 public:
  /// `wt` [L + 1, D]; `scratch` of scratch_bytes.
  ReadCalls(const RunnerConfig& config,
            const DeviceInfo& device,
            const void* wt,
            Workspace scratch,
            Emit emit);
  /// Whether every call that the network makes has a backend.
  static Support supports(const RunnerConfig& config, const DeviceInfo& device);
  static std::size_t scratch_bytes(const RunnerConfig& config, const DeviceInfo& device);
  /// Whether a mix of N sources adds an update itself.
  static bool mix_adds(const RunnerConfig& config, const DeviceInfo& device, std::int64_t N);

  /// S queries from `query` on read the sources: reads [S, B, T, D], normalisers z [S, B, T].
  void phase1(const SourceList& sources, std::int64_t query, std::int64_t S, void* reads, float* z);
  void merge(
      const PartialSum& sum, std::int64_t query, const void* read, const float* z, void* out);
  /// One query reads the older sources and the last one.
  void mix(SourceList older, const PartialSum& last, std::int64_t query, void* out);

  /// Adds to the sources' gradients. `dreads` [S, B, T, D]; `dz` [S, B, T].
  void phase1_backward(const SourceList& sources,
                       std::int64_t query,
                       std::int64_t S,
                       const void* dreads,
                       const float* dz,
                       const SourceList& dsources,
                       float* dwt);
  /// Writes the sources' gradients, or adds to them.
  void mix_backward(const SourceList& sources,
                    std::int64_t query,
                    const void* dread,
                    const SourceList& dsources,
                    Store store,
                    float* dwt);
  /// Adds to `dpartial`; puts the read's gradient in its place, and writes dz.
  void merge_backward(const void* partial,
                      std::int64_t query,
                      void* read,
                      const float* z,
                      const void* dout,
                      void* dpartial,
                      float* dz,
                      float* dwt);

  void add(void* sum, const void* a, const void* b);
  void copy_plane(void* to, const void* from);
  void clear(void* to, std::size_t bytes);

  /// Who computes what: "attnres_merge: cpu_fused, attnres_phase1: cpu_fused".
  std::string note() const;

 private:
  template <class Op>
  void call(const typename Op::Problem& p, const typename Op::Tensors& t);
  /// What the backwards of phase 1 and of the mix have in common.
  template <class Op>
  typename Op::Tensors gradients(const SourceList& sources,
                                 std::int64_t query,
                                 std::int64_t S,
                                 const void* dreads,
                                 const SourceList& dsources,
                                 float* dwt) const;
  TensorView planes(const void* data, std::int64_t count) const;
  TensorView scalars(const float* data, std::int64_t count) const;
  TensorView queries(std::int64_t query, std::int64_t count) const;
  TensorView query_gradients(float* dwt, std::int64_t query, std::int64_t count) const;

  RunnerConfig config_;
  DeviceInfo device_;
  const void* wt_;
  Workspace scratch_;
  Emit emit_;
  std::map<std::string_view, std::string_view> chosen_;
};

}  // namespace attn::attnres
