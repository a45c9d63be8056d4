// Queries as 16-bit rows in shared memory, for tensor cores: as they are where their type is the
// sources', or as three bf16 terms whose sum has all 24 bits of an fp32 query.
#pragma once

#include <cstdint>

#include "impls/attnres/bulk_config.h"
#include "impls/attnres/columns.cuh"
#include "impls/common/vector_io.cuh"

namespace attn::attnres {

/// Writes columns `range` of S queries to rows [terms, S] at `to` (query_terms.h); by threads [thread, threads). wt is
/// aligned to 16 bytes.
template <class T>
__device__ inline void stage_queries(const BulkConfig& config,
                                     const void* wt,  // [S, D]
                                     DType wt_dtype,
                                     int S,
                                     int D,
                                     int terms,
                                     const ColumnRange& range,
                                     char* to,
                                     int thread,
                                     int threads) {
  constexpr int kAtOnce = 4;  // loads of a thread that are under way together
  const int groups = S * range.count;
  as_type(wt_dtype, [&]<class Query>(std::type_identity<Query>) {
    const auto* queries = static_cast<const Query*>(wt);
    for (int first = thread; first < groups; first += kAtOnce * threads) {
      HeldGroup<Query> held[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int i = first + j * threads;
        held[j].load(queries + static_cast<std::int64_t>(i / range.count) * D,
                     range.first + i % range.count, i < groups);
      }
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int i = first + j * threads;
        if (i >= groups) break;
        float x[kColumns];
        held[j].columns(x);
        for (int term = 0; term < terms; ++term) {
          char* row = to + (term * S + i / range.count) * config.row_bytes();
          const uint4 rounded = pack_vector<T>(x);
          reinterpret_cast<uint4*>(row)[i % range.count] = rounded;
          float kept[kColumns];
          unpack_vector<T>(rounded, kept);
#pragma unroll
          for (int c = 0; c < kColumns; ++c) x[c] -= kept[c];
        }
      }
    }
  });
}

}  // namespace attn::attnres
