// What the backwards of reads share: where gradients of sources and queries go, and their tensors.
#pragma once

#include <algorithm>
#include <vector>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// The backward of a read, whose problem is a SourceProblem or a ReadProblem.
template <class Read>
struct GradientsOf : Read {
  TypeChoice grad_dtype = TypeChoice::kAuto;
  Option dlse = Option::kOff;
  /// Sources whose gradient is added to what its plane holds.
  std::vector<std::int64_t> add_to{};
  Store dwt = Store::kWrite;

  DType grad_type() const { return resolve(grad_dtype, this->dtype); }
  bool adds_to(std::int64_t n) const {
    return std::find(add_to.begin(), add_to.end(), n) != add_to.end();
  }
};

using ReadGradients = GradientsOf<ReadProblem>;
using SourceGradients = GradientsOf<SourceProblem>;

/// The backward of a read by one query.
inline ReadGradients one_query(const SourceGradients& p) {
  ReadGradients read;
  static_cast<ReadProblem&>(read) = one_query(static_cast<const SourceProblem&>(p));
  read.grad_dtype = p.grad_dtype;
  read.dlse = p.dlse;
  read.add_to = p.add_to;
  read.dwt = p.dwt;
  return read;
}

/// The tensors of every read's backward, beside the gradients that come in for the outputs.
struct GradientTensors {
  Planes v;           // N planes [B T, D]
  TensorView wt;      // [S, D]
  TensorView dlse{};  // [S, B, T], fp32; unless it is off
  Planes dv;          // N dense planes [B T, D], each written or added to; none may alias v
  TensorView dwt;     // [S, D], fp32
};

template <class Self, class Visitor>
void visit_gradients(Self& self, Visitor&& visit) {
  visit.choice("grad_dtype", "of the sources' gradients; auto: dtype", self.grad_dtype,
               kTypeChoiceNames);
  visit.choice("dlse", "a gradient of the normalisers comes in", self.dlse, kOptionNames);
  visit.list("add_to", "sources whose gradient is added, such as 0:2; none", self.add_to);
  visit.choice("dwt", "the queries' gradient is written or added", self.dwt, kStoreNames);
}

/// Whether add_to can be had.
template <class Read>
Support validate_gradients(const GradientsOf<Read>& p) {
  for (const std::int64_t n : p.add_to) {
    if (n < 0 || n >= p.N) return Support::no("add_to must name sources between 0 and N - 1");
  }
  if (p.sources == Sources::kStacked && !p.add_to.empty() &&
      static_cast<std::int64_t>(p.add_to.size()) != p.N)
    return Support::no("add_to must name all stacked sources or none");
  return Support::yes();
}

/// Appends the gradients of the sources, N dense planes or one tensor.
template <class Read>
void append_gradients(std::vector<TensorSpec>& specs, const GradientsOf<Read>& p) {
  const std::size_t first = specs.size();
  append_planes(specs, dense("dv", TensorRole::kOutput, p.grad_type(), 1, p, p.D), p);
  for (std::size_t i = first; i < specs.size(); ++i) {
    if (p.adds_to(std::max<std::int64_t>(specs[i].plane, 0))) specs[i].role = TensorRole::kInOut;
  }
}

/// Changes some cases of a suite, by their index, so that every option is in it.
template <class Read>
void vary_gradients(GradientsOf<Read>& p, std::size_t i) {
  if (i % 2 == 0) p.dlse = Option::kOn;
  if (i % 3 == 0) p.dwt = Store::kAdd;
  const std::int64_t step = p.sources == Sources::kStacked ? 1 : 2;
  for (std::int64_t n = 0; i % 3 == 1 && n < p.N; n += step) p.add_to.push_back(n);
  if (i % 5 == 4) p.grad_dtype = TypeChoice::kF32;
}

/// Adds every case of a suite once more, with gradients that are added to those of all sources: what a
/// network's backward does to all blocks but new ones.
template <class Cases>
void append_added_gradients(Cases& cases) {
  for (std::size_t i = 0, count = cases.size(); i < count; ++i) {
    auto added = cases[i];
    for (std::int64_t n = 0; n < added.problem.N; ++n) added.problem.add_to.push_back(n);
    cases.push_back(added);
  }
}

}  // namespace attn::attnres
