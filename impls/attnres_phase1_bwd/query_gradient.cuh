// Where a CTA's share of the queries' gradient is while tokens pass: in registers, or in split rows.
#pragma once

#include "impls/attnres/read_kernel.cuh"

namespace attn::attnres_phase1_bwd {
namespace simt {

using attnres::kColumns;
using attnres::Team;

/// The queries' gradient at the columns of a thread that has one group at most: in its registers. There
/// are as many queries as Sizes::S; weights behind the last one are 0.
template <int kQueries>
struct HeldGradient {
  float dw[kQueries][kColumns] = {};

  template <class AddQuery>
  __device__ void for_queries(const attnres::ReadArguments&, int, AddQuery&& add) {
#pragma unroll
    for (int s = 0; s < kQueries; ++s) add(s, dw[s]);
  }
  __device__ void store(const attnres::ReadArguments& p, int group, float* rows) const {
    if (group >= p.groups) return;
#pragma unroll
    for (int s = 0; s < kQueries; ++s) {
      if (s < p.S) attnres::store_split(rows + s * p.groups * kColumns, p.groups, group, dw[s]);
    }
  }
};

/// The same of any columns, as split rows.
struct StoredGradient {
  float* rows;

  template <class AddQuery>
  __device__ void for_queries(const attnres::ReadArguments& p, int group, AddQuery&& add) {
    for (int s = 0; s < p.S; ++s) {
      float* own = rows + s * p.groups * kColumns;
      float dw[kColumns];
      attnres::load_split(own, p.groups, group, dw);
      add(s, dw);
      attnres::store_split(own, p.groups, group, dw);
    }
  }
};

/// Copies the thread's columns of S split rows.
__device__ inline void copy_columns(const attnres::ReadArguments& p,
                                    const Team& team,
                                    const float* from,
                                    float* to) {
  for (int s = 0; s < p.S; ++s) {
    const int row = s * p.groups * kColumns;
    for (int group = team.thread; group < p.groups; group += team.threads()) {
      float x[kColumns];
      attnres::load_split(from + row, p.groups, group, x);
      attnres::store_split(to + row, p.groups, group, x);
    }
  }
}

/// Zeros in the thread's columns of S split rows.
__device__ inline void clear_columns(const attnres::ReadArguments& p, const Team& team, float* to) {
  const float zeros[kColumns] = {};
  for (int s = 0; s < p.S; ++s) {
    for (int group = team.thread; group < p.groups; group += team.threads())
      attnres::store_split(to + s * p.groups * kColumns, p.groups, group, zeros);
  }
}

}  // namespace simt
}  // namespace attn::attnres_phase1_bwd
