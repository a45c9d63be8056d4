// The sizes of weights and of mixed rows as tensor cores want them (mixed_rows.cuh), for layouts.
#pragma once

namespace attn::attnres {

inline constexpr int kTileRows = 8;       ///< staged rows of a tile, and outputs of a block
inline constexpr int kChunkColumns = 64;  ///< that a warp mixes at a time
inline constexpr int kWeightTerms = 3;    ///< 16-bit numbers that hold a weight
/// 32-bit words of a block's weights of a tile: an 8 x 8 matrix of 16-bit numbers a term.
inline constexpr int kTileWords = 32 * kWeightTerms;

/// Most rows of a group of two tiles whose terms are packed: 3 times 10 are fewer than the 32 of two products.
inline constexpr int kPackedRows = 10;

}  // namespace attn::attnres
