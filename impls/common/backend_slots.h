// One line of an operator's backend list, by the kind of build that has the backend: a slot without a
// backend behind it where this build leaves it out. The file's suffix says which kind it is.
#pragma once

#define ATTN_BACKEND_HOST(name) \
  { #name, &name }
#if ATTN_WITH_TORCH
#define ATTN_BACKEND_TORCH(name) \
  { #name, &name }
#else
#define ATTN_BACKEND_TORCH(name) \
  { #name, nullptr }
#endif
#if ATTN_WITH_CUDA
#define ATTN_BACKEND_CUDA(name) \
  { #name, &name }
#else
#define ATTN_BACKEND_CUDA(name) \
  { #name, nullptr }
#endif
#if ATTN_WITH_SM90
#define ATTN_BACKEND_SM90(name) \
  { #name, &name }
#else
#define ATTN_BACKEND_SM90(name) \
  { #name, nullptr }
#endif
