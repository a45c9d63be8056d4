// A plugin in plain C: the column reduction of fp32 tensors, summed, with any mask that is causal or
// none. Build it anywhere with
//   cc -O2 -shared -fPIC -I<attnbench> example.c -lm -o libexample.so
// and use it as `attnbench verify colreduce --plugin ./libexample.so --dtype f32`.
#include <math.h>

#include "harness/plugin/attnbench_plugin.h"

static int64_t size_of_field(const AttnbenchProblem* p, const char* name) {
  return attnbench_field(p, name)->number;
}

static const char* supports(const AttnbenchBackend* self,
                            const AttnbenchProblem* p,
                            const AttnbenchDevice* device) {
  static const char* const known[] = {"B",     "H",    "H_kv",   "M",         "N",         "D",
                                      "dtype", "mask", "layout", "q_strides", "k_strides", NULL};
  (void)self;
  (void)device;
  if (attnbench_unknown_field(p, known)) return "every option but mask and layout must be default";
  if (attnbench_tensor(p, "q")->dtype != ATTNBENCH_F32) return "dtype must be f32";
  if (strcmp(attnbench_field(p, "mask")->text, "causal_top_left") == 0)
    return "mask must be none or causal";
  return NULL;
}

/// The scores of one query.
static size_t workspace_bytes(const AttnbenchBackend* self,
                              const AttnbenchProblem* p,
                              const AttnbenchDevice* device) {
  (void)self;
  (void)device;
  return sizeof(float) * (size_t)size_of_field(p, "N");
}

/// scores[n] = the scaled dot product of a row of q with key n; returns the largest.
static float score_row(
    const float* q, const float* k, int64_t k_row, int64_t keys, int64_t D, float* scores) {
  const float scale = 1.0f / sqrtf((float)D);
  float top = -INFINITY;
  for (int64_t n = 0; n < keys; ++n) {
    float dot = 0;
    for (int64_t d = 0; d < D; ++d) dot += q[d] * k[n * k_row + d];
    scores[n] = dot * scale;
    top = fmaxf(top, scores[n]);
  }
  return top;
}

/// out[n] += softmax over the first `keys` scores.
static void add_row(float* scores, float top, int64_t keys, float* out) {
  float sum = 0;
  for (int64_t n = 0; n < keys; ++n) {
    scores[n] = expf(scores[n] - top);
    sum += scores[n];
  }
  for (int64_t n = 0; n < keys; ++n) out[n] += scores[n] / sum;
}

static const char* enqueue(const AttnbenchBackend* self,
                           const AttnbenchLaunch* launch,
                           void* stream) {
  const AttnbenchProblem* p = launch->problem;
  const AttnbenchTensor* q = attnbench_tensor(p, "q");
  const AttnbenchTensor* k = attnbench_tensor(p, "k");
  const AttnbenchTensor* out = attnbench_tensor(p, "out");
  const int64_t M = q->shape[2], N = k->shape[2], D = q->shape[3];
  const int64_t group = q->shape[1] / k->shape[1];  // query heads that share a key head
  const int causal = strcmp(attnbench_field(p, "mask")->text, "causal") == 0;
  (void)self;
  (void)stream;
  for (int64_t b = 0; b < q->shape[0]; ++b) {
    for (int64_t h = 0; h < q->shape[1]; ++h) {
      const float* rows = (const float*)q->data + b * q->strides[0] + h * q->strides[1];
      const float* keys = (const float*)k->data + b * k->strides[0] + h / group * k->strides[1];
      float* sums = (float*)out->data + b * out->strides[0] + h * out->strides[1];
      memset(sums, 0, (size_t)N * sizeof(float));
      for (int64_t m = 0; m < M; ++m) {
        const int64_t seen = causal ? N - M + m + 1 : N;  // the last query sees the last key
        if (seen <= 0) continue;
        const float top = score_row(rows + m * q->strides[2], keys, k->strides[2], seen, D,
                                    (float*)launch->workspace);
        add_row((float*)launch->workspace, top, seen, sums);
      }
    }
  }
  return NULL;
}

static const AttnbenchBackend example = {.size = sizeof(AttnbenchBackend),
                                         .op = "colreduce",
                                         .id = "example",
                                         .summary = "a plugin: one query after the other in C",
                                         .math = "fp32",
                                         .numerics = "fp32",
                                         .memory = ATTNBENCH_HOST,
                                         .deterministic = 1,
                                         .supports = supports,
                                         .workspace_bytes = workspace_bytes,
                                         .enqueue = enqueue};

const AttnbenchPlugin* attnbench_plugin(void) {
  static const AttnbenchBackend* const backends[] = {&example};
  static const AttnbenchPlugin plugin = {.abi_version = ATTNBENCH_PLUGIN_ABI,
                                         .size = sizeof(AttnbenchPlugin),
                                         .backends = backends,
                                         .backend_count = 1};
  return &plugin;
}
