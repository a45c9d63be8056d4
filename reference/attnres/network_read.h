// One read of a network in fp64, with a bound that holds for every schedule: what the network's oracles
// share. README.md beside this file derives the bound.
#pragma once

#include <vector>

#include "reference/attnres/network.h"
#include "reference/attnres/read.h"

namespace attn::attnres {

BoundedRow zero_row(std::size_t D);

/// Appends a source to those of a token.
void append_source(TokenSources& sources, const Row& row, const NetworkProblem& p);

/// What a query reads, before it is rounded. With `merges` the last source is a partial sum, which a
/// schedule may merge into a read of the others that it has rounded.
BoundedRow network_read(const NetworkProblem& p,
                        const Row& query,
                        const TokenSources& sources,
                        bool merges);

/// Adds the gradient of each source to `to`, rounded once each, and that of the query to `dquery`.
void add_read_gradients(const NetworkProblem& p,
                        const Row& query,
                        const TokenSources& sources,
                        bool merges,
                        const Row& dout,
                        const std::vector<BoundedRow*>& to,
                        BoundedRow& dquery);

/// The partial sums of a block after 1, 2, ... of its sublayers, as a network stores them; `updates`
/// are what the sublayers return.
std::vector<Row> partial_sums(const std::vector<Row>& updates, DType dtype);

}  // namespace attn::attnres
