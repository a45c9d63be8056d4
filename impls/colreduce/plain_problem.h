// The refusals of backends that take only a part of the contract's fields.
#pragma once

#include "harness/core/status.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

/// Yes where every field that a plain column reduction does without is left at its default, but for the range
/// of queries and what becomes of the heads; else no with the first such field.
inline Support takes_plain_rows(const ColReduce::Problem& p) {
  if (p.is_ragged()) return Support::no("all sequences must have M queries and N keys");
  if (p.window >= 0) return Support::no("window must be -1");
  if (p.softcap > 0) return Support::no("softcap must be 0");
  if (p.lse != Lse::kNone) return Support::no("lse must be none");
  return Support::yes();
}

/// Of a problem that takes_plain_rows: all its queries, and every head by itself.
inline Support takes_plain_only(const ColReduce::Problem& p) {
  if (Support plain = takes_plain_rows(p); !plain) return plain;
  if (p.contributing().count() != p.M)
    return Support::no("query_begin and query_end must leave all queries");
  return p.heads == Heads::kEach ? Support::yes() : Support::no("heads must be each");
}

}  // namespace attn::colreduce
