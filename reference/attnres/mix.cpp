// The mixed row and its bound.
#include "reference/attnres/mix.h"

#include <cmath>

namespace attn::attnres {

Mix mix(const Row& query, const TokenSources& sources) {
  Mix mixed{softmax(logits(query, sources)), {}};
  for (std::size_t d = 0; d < query.size(); ++d) {
    double sum = 0;
    double magnitude = 0;
    for (std::size_t n = 0; n < sources.v.size(); ++n) {
      sum += mixed.weights.p[n] * sources.v[n][d];
      magnitude += mixed.weights.p[n] * std::abs(sources.v[n][d]);
    }
    mixed.out.value.push_back(sum);
    mixed.out.error.push_back(sources.v.size() == 1 ? 0 : 2 * mixed.weights.error * magnitude);
  }
  return mixed;
}

Row rounded_sum(const Row& v, const Row& update, DType dtype) {
  Row sum;
  for (std::size_t d = 0; d < v.size(); ++d) {
    float stored = 0;
    store_element(&stored, dtype, 0, static_cast<float>(v[d]) + static_cast<float>(update[d]));
    sum.push_back(load_element(&stored, dtype, 0));
  }
  return sum;
}

}  // namespace attn::attnres
