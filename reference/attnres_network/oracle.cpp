// A network in fp64, token by token: every read a softmax over all its sources at once.
#include "reference/attnres/bounded.h"
#include "reference/attnres_network/contract.h"

namespace attn {
namespace {

using attnres::Bounded;
using attnres::BoundedRead;
using attnres::Row;

/// The sum of a block's sublayers, each of which returns what it reads.
Bounded block_sum(const AttnResNetwork::Problem& p,
                  const std::vector<Row>& queries,
                  std::vector<const Bounded*> sources,
                  std::int64_t n) {
  Bounded sum;
  for (std::int64_t i = 0; i < p.block_size(n); ++i) {
    const Row& query = queries[static_cast<std::size_t>(p.query(n, i))];
    if (i == 1) sources.push_back(&sum);
    const Bounded read = BoundedRead(query, sources, i > 0, p).out;
    if (i == 0) {
      sum = read;
    } else {
      sum.add(read);
      sum.round(p.dtype);
    }
  }
  return sum;
}

void store(const Bounded& row, std::size_t first, attnres::Reference& reference) {
  for (std::size_t d = 0; d < row.value.size(); ++d)
    reference.set(first + d, row.value[d], row.error[d]);
}

}  // namespace

attnres::Reference AttnResNetwork::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, specs.size());
  const std::vector<Row> queries = attnres::load_rows(tensors.wt);
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const auto blocks = static_cast<std::size_t>(p.blocks());
    std::vector<Bounded> rows(blocks + 1);
    rows[0] = Bounded::exact(attnres::load_row(tensors.embedding, 0, t / p.T, t % p.T));
    std::vector<const Bounded*> sources = {&rows[0]};
    const auto token = static_cast<std::size_t>(t * p.D);
    const auto plane = static_cast<std::size_t>(p.tokens() * p.D);
    for (std::size_t n = 1; n <= blocks; ++n) {
      rows[n] = block_sum(p, queries, sources, static_cast<std::int64_t>(n));
      sources.push_back(&rows[n]);
      store(rows[n], (n - 1) * plane + token, reference);
    }
    store(BoundedRead(queries.back(), sources, false, p).out, reference.begin(1) + token, reference);
  }
  return reference;
}

}  // namespace attn
