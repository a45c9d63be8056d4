// The backward of a network in fp64: groups of tokens in parallel, then the queries' gradients in order of
// tokens.
#include <algorithm>

#include "reference/attnres/bounded.h"
#include "reference/attnres_network_bwd/contract.h"

namespace attn {
namespace {

using attnres::Bounded;
using attnres::BoundedRead;
using attnres::Row;
using Problem = AttnResNetworkBwd::Problem;

/// One token's rows: gradients of all blocks and queries come from those of the output.
struct Token {
  const Problem& p;
  const std::vector<Row>& queries;
  std::vector<Bounded> blocks;    // [1 + blocks]
  std::vector<Bounded> gradients;  // of the blocks
  std::vector<Bounded> dqueries;   // [L + 1]

  void backward(const Bounded& dout) {
    std::vector<const Bounded*> sources;
    for (const Bounded& block : blocks) sources.push_back(&block);
    read(sources, targets(blocks.size()), p.L, /*merges=*/false, dout);
    for (std::int64_t n = p.blocks(); n >= 1; --n) block_backward(n);
  }

 private:
  std::vector<Bounded*> targets(std::size_t count) {
    std::vector<Bounded*> to;
    for (std::size_t n = 0; n < count; ++n) to.push_back(&gradients[n]);
    return to;
  }

  void read(const std::vector<const Bounded*>& sources,
            const std::vector<Bounded*>& to,
            std::int64_t query,
            bool merges,
            const Bounded& dout) {
    const auto q = static_cast<std::size_t>(query);
    const Bounded upstream = dout;  // a sublayer that returns its input: it may be one of `to`
    BoundedRead(queries[q], sources, merges, p).add_gradients(upstream, to, dqueries[q]);
    for (Bounded* row : to) row->round(p.dtype);
  }

  void block_backward(std::int64_t n) {
    const auto count = static_cast<std::size_t>(n);
    std::vector<const Bounded*> older;
    for (std::size_t m = 0; m < count; ++m) older.push_back(&blocks[m]);
    const std::int64_t size = p.block_size(n);
    std::vector<Bounded> sums(static_cast<std::size_t>(size));  // the partial sum after i sublayers
    for (std::int64_t i = 0; i + 1 < size; ++i) {
      const auto at = static_cast<std::size_t>(i);
      std::vector<const Bounded*> sources = older;
      if (i > 0) sources.push_back(&sums[at]);
      sums[at + 1] =
          BoundedRead(queries[static_cast<std::size_t>(p.query(n, i))], sources, i > 0, p).out;
      if (i == 0) continue;
      sums[at + 1].add(sums[at]);
      sums[at + 1].round(p.dtype);
    }
    Bounded& own = gradients[count];
    for (std::int64_t i = size - 1; i >= 1; --i) {
      std::vector<const Bounded*> sources = older;
      sources.push_back(&sums[static_cast<std::size_t>(i)]);
      std::vector<Bounded*> to = targets(count);
      to.push_back(&own);
      read(sources, to, p.query(n, i), /*merges=*/true, own);
    }
    read(older, targets(count), p.query(n, 0), /*merges=*/false, own);
  }
};

}  // namespace

attnres::Reference AttnResNetworkBwd::oracle(const Problem& p, const Tensors& tensors) {
  constexpr std::int64_t kGroup = 64;  // tokens whose queries' gradients are held at a time
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, 0);
  const std::vector<Row> queries = attnres::load_rows(tensors.wt);
  const auto D = static_cast<std::size_t>(p.D);
  std::vector<attnres::QuerySum> sums(queries.size() * D);
  for (std::int64_t first = 0; first < p.tokens(); first += kGroup) {
    const std::int64_t count = std::min(kGroup, p.tokens() - first);
    std::vector<std::vector<Bounded>> dqueries(static_cast<std::size_t>(count));
#pragma omp parallel for
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t t = first + i;
      Token token{p, queries, {}, {}, {}};
      for (std::int64_t n = 0; n <= p.blocks(); ++n) {
        token.blocks.push_back(
            Bounded::exact(attnres::load_row(tensors.blocks, n, t / p.T, t % p.T)));
        token.gradients.push_back(Bounded::zeros(D));
      }
      token.dqueries.assign(queries.size(), Bounded::zeros(D));
      token.backward(Bounded::exact(attnres::load_row(tensors.dout, 0, t / p.T, t % p.T)));
      for (std::size_t d = 0; d < D; ++d)
        reference.set(static_cast<std::size_t>(t) * D + d, token.gradients[0].value[d],
                      token.gradients[0].error[d]);
      dqueries[static_cast<std::size_t>(i)] = std::move(token.dqueries);
    }
    for (const auto& token : dqueries) {
      for (std::size_t i = 0; i < sums.size(); ++i)
        sums[i].add(token[i / D].value[i % D], token[i / D].error[i % D]);
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i)
    reference.set(reference.begin(1) + i, sums[i].value, sums[i].error(p.tokens()));
  return reference;
}

}  // namespace attn
