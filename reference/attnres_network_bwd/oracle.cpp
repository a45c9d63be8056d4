// The backward of a network in fp64, every read at once: chunks of tokens in parallel, then the queries'
// gradients in order.
#include "reference/attnres/network_read.h"
#include "reference/attnres_network_bwd/contract.h"

namespace attn {
namespace {

using attnres::BoundedRow;
using attnres::QuerySum;
using attnres::Row;
using Problem = AttnResNetworkBwd::Problem;
using Tensors = AttnResNetworkBwd::Tensors;

/// The gradients of one token, from the output's to the embedding's.
class TokenBackward {
 public:
  TokenBackward(const Problem& p,
                const Tensors& tensors,
                const std::vector<Row>& queries,
                std::int64_t t,
                std::vector<QuerySum>& dqueries)
      : p_(p), tensors_(tensors), queries_(queries), t_(t), dqueries_(dqueries) {
    for (std::int64_t n = 0; n <= p.blocks(); ++n) {
      attnres::append_source(blocks_, row(tensors.blocks, n), p);
      gradients_.push_back(attnres::zero_row(static_cast<std::size_t>(p.D)));
    }
  }

  /// Of the embedding and of the first update of each block.
  const std::vector<BoundedRow>& run() {
    read(p_.L, p_.blocks() + 1, nullptr, row(tensors_.dout, 0), nullptr);
    for (std::int64_t n = p_.blocks(); n >= 1; --n) block(n);
    return gradients_;
  }

 private:
  Row row(const TensorView& view, std::int64_t plane) const {
    return attnres::load_row(view, plane, t_ / p_.T, t_ % p_.T);
  }

  void block(std::int64_t n) {
    std::vector<Row> updates;
    for (std::int64_t i = 0; i < p_.block_size(n); ++i)
      updates.push_back(row(tensors_.updates, p_.plane_of(p_.query(n, i))));
    const std::vector<Row> sums = attnres::partial_sums(updates, p_.dtype);
    for (std::int64_t i = p_.block_size(n) - 1; i >= 0; --i) {
      const std::int64_t query = p_.query(n, i);
      const Row dread = row(tensors_.dreads, p_.plane_of(query));
      const Row* sum = i > 0 ? &sums[static_cast<std::size_t>(i - 1)] : nullptr;
      read(query, n, sum, dread, &gradients_[static_cast<std::size_t>(n)]);
    }
  }

  /// A read of `count` blocks and, where there is one, a partial sum.
  void read(
      std::int64_t query, std::int64_t count, const Row* sum, const Row& dread, BoundedRow* dsum) {
    attnres::TokenSources sources;
    std::vector<BoundedRow*> to;
    for (std::size_t n = 0; n < static_cast<std::size_t>(count); ++n) {
      sources.v.push_back(blocks_.v[n]);
      sources.r.push_back(blocks_.r[n]);
      to.push_back(&gradients_[n]);
    }
    if (sum) {
      attnres::append_source(sources, *sum, p_);
      to.push_back(dsum);
    }
    BoundedRow dquery = attnres::zero_row(static_cast<std::size_t>(p_.D));
    const auto q = static_cast<std::size_t>(query);
    add_read_gradients(p_, queries_[q], sources, sum != nullptr, dread, to, dquery);
    for (std::size_t d = 0; d < dquery.value.size(); ++d)
      dqueries_[q * dquery.value.size() + d].add(dquery.value[d], dquery.error[d]);
  }

  const Problem& p_;
  const Tensors& tensors_;
  const std::vector<Row>& queries_;
  std::int64_t t_;
  std::vector<QuerySum>& dqueries_;  // [L + 1, D]
  attnres::TokenSources blocks_;
  std::vector<BoundedRow> gradients_;  // of the blocks
};

void store(const Problem& p,
           const std::vector<BoundedRow>& rows,
           std::int64_t t,
           attnres::Reference& reference) {
  for (std::size_t n = 0; n < rows.size(); ++n) {
    const auto first =
        static_cast<std::size_t>((static_cast<std::int64_t>(n) * p.tokens() + t) * p.D);
    for (std::size_t d = 0; d < rows[n].value.size(); ++d)
      reference.set(first + d, rows[n].value[d], rows[n].error[d]);
  }
}

}  // namespace

attnres::Reference AttnResNetworkBwd::oracle(const Problem& p, const Tensors& tensors) {
  constexpr std::int64_t kChunks = 16;
  Reference reference(tensor_specs(p), 0);
  const std::vector<Row> queries = attnres::load_rows(tensors.wt);
  const auto elements = static_cast<std::size_t>((p.L + 1) * p.D);
  std::vector<std::vector<QuerySum>> chunks(kChunks, std::vector<QuerySum>(elements));
#pragma omp parallel for
  for (std::int64_t chunk = 0; chunk < kChunks; ++chunk) {
    const std::int64_t end = (chunk + 1) * p.tokens() / kChunks;
    for (std::int64_t t = chunk * p.tokens() / kChunks; t < end; ++t) {
      TokenBackward token(p, tensors, queries, t, chunks[static_cast<std::size_t>(chunk)]);
      store(p, token.run(), t, reference);
    }
  }
  for (std::size_t i = 0; i < elements; ++i) {
    QuerySum sum;
    for (const auto& chunk : chunks) sum.add(chunk[i]);
    reference.set(reference.begin(1) + i, sum.value, sum.error(p.tokens()));
  }
  return reference;
}

}  // namespace attn
