// Arguments and layout of bulk_sm90, for the host and the kernel.
#pragma once

#include "impls/attnres/bulk_config.h"
#include "impls/attnres/weight_terms.h"
#include "reference/attnres_phase1/contract.h"

namespace attn::attnres_phase1 {

struct BulkArguments {
  attnres::BulkConfig config;
  attnres::Planes v;  // N planes [tokens, D]
  const void* wt;     // [S, D]
  DType wt_dtype;
  int terms;  // rows of 16 bits that hold a query
  void* out;  // [S, tokens, D]
  DType out_dtype;
  float* lse;            // [S, tokens]
  std::uint32_t* drawn;  // groups that clusters drew, 0 at first; null where they take them in turn
  std::int64_t tokens;
  int N, S, D;
  float eps;
  float over_D;  ///< 1 / D
};

/// What is known of the softmax of a token and query, besides its weights.
struct alignas(16) PairSoftmax {
  float largest, sum;  ///< a DepthNormaliser
  int splits;          ///< all that the terms of its weights need is there
};

/// Words of a team: the warps' products of every query row with every row of a group and its squares;
/// their totals, of whole queries; weights, in fp32 and as tensor cores want them; what else is known of a
/// token's softmax; what the ranks of a cluster send each other.
struct BulkSums {
  int query_rows;    // S times terms
  int pitch;         // of products and totals
  int warp_floats;   // of a warp's products
  int total_floats;  // [S + 1, pitch]: the last row becomes the reciprocal RMS
  int weight_pitch;  // of weights [rows of a group, S rounded up]
  int weight_floats;
  int query_blocks;  // of eight, of a token
  int term_tiles;    // of eight rows, of a group
  int term_words;    // [blocks of outputs, tiles]
  int pair_words;    // of a group's tokens and queries
  int exchange_floats;

  static constexpr BulkSums of(const attnres::BulkConfig& config, int S, int terms) {
    BulkSums sums{};
    sums.query_rows = S * terms;
    sums.pitch = (config.group_rows + 7) / 8 * 8;
    sums.warp_floats = (sums.query_rows + 1) * sums.pitch;
    sums.total_floats = (S + 1) * sums.pitch;
    sums.weight_pitch = (S + 7) / 8 * 8;
    sums.weight_floats = config.group_rows * sums.weight_pitch;
    sums.query_blocks = (S + attnres::kTileRows - 1) / attnres::kTileRows;
    sums.term_tiles = sums.pitch / attnres::kTileRows;
    sums.term_words = config.tokens * sums.query_blocks * sums.term_tiles * attnres::kTileWords;
    sums.pair_words = config.tokens * S * static_cast<int>(sizeof(PairSoftmax) / 4);
    sums.exchange_floats = attnres::exchange_floats(config.ranks, sums.total_floats);
    return sums;
  }
  constexpr int team_floats() const {
    return attnres::kTeamWarps * warp_floats + total_floats + weight_floats + term_words +
           pair_words + exchange_floats;
  }
};

/// What a kernel is compiled for.
struct BulkShape {
  int tiles;   ///< of eight rows, of a group; 0: any number
  int chunks;  ///< of columns that a warp mixes at a time

  /// With three teams instead of four one stage more runs ahead, fewer rows are written at a time, which memory
  /// is faster with, and a thread has 168 registers: of two tiles, and where chunks are mixed in pairs. Elsewhere
  /// a group's own time is the limit, and more groups under way hide more of it.
  constexpr int teams() const { return tiles == 2 || chunks == 2 ? 3 : 4; }
};

/// The layout of a problem whose types and widths the kernel takes.
attnres::BulkConfig bulk_config(const AttnResPhase1::Problem& p, const DeviceInfo& device);

/// Of a layout that has ranks and groups. Groups of one tile, of several sources, are mixed by pairs of chunks where
/// more than half of an output block's rows are there, and no warp gets more chunks by it.
BulkShape bulk_shape(const attnres::BulkConfig& config, const AttnResPhase1::Problem& p);

/// Whether CTAs draw groups from a counter: where memory is the limit, which is where chunks are mixed in pairs, and
/// groups are so many that setting the counter to zero does not count. Where a group's own time is the limit, SMs
/// get on alike, and draws cost more than they bring. Clusters take groups in turn: their ranks would have to
/// tell each other what one of them drew.
bool bulk_draws(const attnres::BulkConfig& config,
                const AttnResPhase1::Problem& p,
                const DeviceInfo& device);

/// What bulk_sm90 takes: pure.
Support bulk_supports(const AttnResPhase1::Problem& p, const DeviceInfo& device);

/// 16-bit rows that hold a query in tensor cores' operands; 0 where none do.
int bulk_terms(const AttnResPhase1::Problem& p);

}  // namespace attn::attnres_phase1
