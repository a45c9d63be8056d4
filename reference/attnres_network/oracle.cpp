// A network in fp64, token by token: every read a softmax over all its sources at once.
#include "reference/attnres/network_read.h"
#include "reference/attnres_network/contract.h"

namespace attn {
namespace {

using attnres::BoundedRow;
using attnres::Row;
using Problem = AttnResNetwork::Problem;
using Tensors = AttnResNetwork::Tensors;

/// Where rows of token t go, by output in the order of tensor_specs and plane.
struct Stored {
  const Problem& p;
  std::int64_t t;
  attnres::Reference& reference;

  void row(std::size_t output, std::int64_t plane, const BoundedRow& row) const {
    const auto first =
        reference.begin(output) + static_cast<std::size_t>((plane * p.tokens() + t) * p.D);
    for (std::size_t d = 0; d < row.value.size(); ++d)
      reference.set(first + d, row.value[d], row.error[d]);
  }
};

/// Block n over the sources, which its sum joins.
void block(const Problem& p,
           const Tensors& tensors,
           const std::vector<Row>& queries,
           std::int64_t n,
           attnres::TokenSources& sources,
           const Stored& stored) {
  const std::int64_t t = stored.t;
  std::vector<Row> updates;
  for (std::int64_t i = 0; i < p.block_size(n); ++i)
    updates.push_back(
        attnres::load_row(tensors.updates, p.plane_of(p.query(n, i)), t / p.T, t % p.T));
  const std::vector<Row> sums = attnres::partial_sums(updates, p.dtype);
  for (std::int64_t i = 0; i < p.block_size(n); ++i) {
    const std::int64_t query = p.query(n, i);
    if (!p.is_last_user(query)) continue;
    attnres::TokenSources all = sources;
    if (i > 0) attnres::append_source(all, sums[static_cast<std::size_t>(i - 1)], p);
    stored.row(0, p.plane_of(query),
               network_read(p, queries[static_cast<std::size_t>(query)], all, i > 0));
  }
  attnres::append_source(sources, sums.back(), p);
  stored.row(1, n - 1, {sums.back(), Row(sums.back().size())});
}

}  // namespace

attnres::Reference AttnResNetwork::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, specs.size());
  const std::vector<Row> queries = attnres::load_rows(tensors.wt);
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const Stored stored{p, t, reference};
    attnres::TokenSources sources;
    attnres::append_source(sources, attnres::load_row(tensors.embedding, 0, t / p.T, t % p.T), p);
    for (std::int64_t n = 1; n <= p.blocks(); ++n) block(p, tensors, queries, n, sources, stored);
    stored.row(2, 0, network_read(p, queries.back(), sources, false));
  }
  return reference;
}

}  // namespace attn
