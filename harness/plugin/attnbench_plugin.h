// Backends built outside the tree: the C interface between attnbench and a shared object that
// exports attnbench_plugin(). Plain C, this file alone; example.c beside it is a whole plugin.
//
// What a function gets stays valid while it runs; what it returns, until the same thread calls the
// plugin again. A plugin is never unloaded. Functions of a type `const char*(...)` return NULL, or one
// sentence without its full stop that says why not. A struct that is handed over by its address
// begins with its size, as the side that filled it knows it, so that members can be appended.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Changes whenever something below changes its meaning or its place.
#define ATTNBENCH_PLUGIN_ABI 1u

/// Where tensors and workspace lie.
#define ATTNBENCH_HOST 0
#define ATTNBENCH_DEVICE 1
#define ATTNBENCH_ANY 2  ///< wherever the program's main device is

/// What a function of a type `const char*(...)` returns where memory ran out: the row says OOM.
#define ATTNBENCH_OUT_OF_MEMORY "memory ran out"

/// Types of elements.
#define ATTNBENCH_F16 0
#define ATTNBENCH_BF16 1
#define ATTNBENCH_F32 2

/// One field of the problem, as the command line names it: sizes such as "M" and options such as
/// "mask". `attnbench list` prints them all.
typedef struct AttnbenchField {
  const char* name;
  const char* text;  ///< the value as the command line takes it: "4096", "causal", "0:5:8"
  int64_t number;    ///< of an integer, 0 of others; a default that stands for another is resolved
  int32_t is_default;  ///< an option that is left as it is when nobody asks for it
} AttnbenchField;

/// A strided tensor. Strides count elements; unused axes have extent 1.
typedef struct AttnbenchTensor {
  const char* name;  ///< "q", "k", "out", ... of the operator's contract
  void* data;        ///< element (0,0,0,0); NULL before `plan`
  int32_t dtype;
  int64_t shape[4];
  int64_t strides[4];
} AttnbenchTensor;

typedef struct AttnbenchProblem {
  size_t size;
  const char* op;  ///< "colreduce"
  const AttnbenchField* fields;
  size_t field_count;
  const AttnbenchTensor* tensors;
  size_t tensor_count;
} AttnbenchProblem;

typedef struct AttnbenchDevice {
  size_t size;
  int32_t space;  ///< ATTNBENCH_HOST or ATTNBENCH_DEVICE
  const char* name;
  int32_t sm;  ///< compute capability as 10 * major + minor; 0 on a CPU
  int32_t sm_count;
  size_t shared_bytes_per_block;  ///< largest opt-in dynamic shared memory of a CTA
  size_t l2_bytes;
  size_t total_bytes;
  int32_t threads;  ///< host threads
} AttnbenchDevice;

/// One problem bound to its tensors and scratch memory, for as many launches as wanted.
typedef struct AttnbenchLaunch {
  size_t size;
  const AttnbenchProblem* problem;  ///< its tensors have data
  const AttnbenchDevice* device;
  void* workspace;  ///< 256-byte aligned, contents undefined
  size_t workspace_bytes;
  void* state;       ///< NULL, for `plan` to set
  const char* note;  ///< NULL, for `plan` to set: what it chose, for the row; lives as the state
  /// NULL, for `plan` to set: the error bound of this problem's result, where the backend has no
  /// single one; AttnbenchBackend's is then the loosest.
  const char* numerics;
} AttnbenchLaunch;

typedef struct AttnbenchBackend {
  size_t size;
  const char* op;        ///< the operator that it computes
  const char* id;        ///< lower-case letters, digits and '_'; no backend has it yet
  const char* summary;   ///< one line
  const char* math;      ///< such as "fp16 mma, fp32 accumulate, ex2.approx"
  const char* numerics;  ///< the error bound: "fp64", "fp32", "half_weights" or "stored"
  int32_t memory;
  int32_t deterministic;  ///< bitwise equal from run to run
  void* context;          ///< the plugin's own

  /// Whether it takes the problem; NULL: every problem. Pure: no call of CUDA, nothing kept.
  const char* (*supports)(const struct AttnbenchBackend*,
                          const AttnbenchProblem*,
                          const AttnbenchDevice*);
  /// Bytes of scratch memory; NULL: none. Pure.
  size_t (*workspace_bytes)(const struct AttnbenchBackend*,
                            const AttnbenchProblem*,
                            const AttnbenchDevice*);
  /// What a launch needs and need not be done anew for each; NULL: nothing. Other data may lie in the
  /// tensors later. The launch stays where it is until `release`.
  const char* (*plan)(const struct AttnbenchBackend*, AttnbenchLaunch*);
  /// Enqueues the work on `stream`, a cudaStream_t: neither allocates nor synchronises. On the host,
  /// where `stream` is NULL, it runs to completion.
  const char* (*enqueue)(const struct AttnbenchBackend*, const AttnbenchLaunch*, void* stream);
  /// Ends the state of a launch; NULL: nothing to end.
  void (*release)(const struct AttnbenchBackend*, AttnbenchLaunch*);
  /// Gives memory back that is kept from one launch for the next, so that the row's `hidden` counts
  /// it; NULL, or a struct that ends before: nothing is kept.
  void (*trim)(const struct AttnbenchBackend*);
} AttnbenchBackend;

typedef struct AttnbenchPlugin {
  uint32_t abi_version;  ///< ATTNBENCH_PLUGIN_ABI
  size_t size;
  const AttnbenchBackend* const* backends;
  size_t backend_count;
} AttnbenchPlugin;

/// The one symbol that a plugin exports; the same answer at every call.
__attribute__((visibility("default"))) const AttnbenchPlugin* attnbench_plugin(void);

/// The field of that name; NULL where the operator has none.
static inline const AttnbenchField* attnbench_field(const AttnbenchProblem* problem,
                                                    const char* name) {
  for (size_t i = 0; i < problem->field_count; ++i) {
    if (strcmp(problem->fields[i].name, name) == 0) return &problem->fields[i];
  }
  return NULL;
}

/// The tensor of that name; NULL where the problem has none.
static inline const AttnbenchTensor* attnbench_tensor(const AttnbenchProblem* problem,
                                                      const char* name) {
  for (size_t i = 0; i < problem->tensor_count; ++i) {
    if (strcmp(problem->tensors[i].name, name) == 0) return &problem->tensors[i];
  }
  return NULL;
}

/// The first field that is not at its default and not in `known`, a list that NULL ends: an option
/// that a backend does not know and hence must refuse. NULL where there is none.
static inline const AttnbenchField* attnbench_unknown_field(const AttnbenchProblem* problem,
                                                            const char* const* known) {
  for (size_t i = 0; i < problem->field_count; ++i) {
    const AttnbenchField* field = &problem->fields[i];
    const char* const* name = known;
    while (*name && strcmp(*name, field->name) != 0) ++name;
    if (!*name && !field->is_default) return field;
  }
  return NULL;
}

#ifdef __cplusplus
}
#endif
