// Column reduction as three library-style steps: S = scale q k^T by cuBLAS, a row softmax in place,
// a column sum. The textbook form, with every step at the speed of memory.
//
// Adds:     tensor cores (inside cuBLAS), at the price of the whole M x N matrix in memory.
// Mapping:  softmax: a row by 1 to 32 warps, held in registers up to 4096 vectors, else read twice.
//           columns: a CTA takes a strip of 8 or 32 vectors of one head; a thread owns 1 vector of
//           columns, and the rows are dealt to 32 or 8 groups of threads, combined in order.
// Memory:   scratch for S, at most a quarter of the GPU: larger problems go in chunks of heads,
//           then of rows, whose column sums carry over in fp32. 32 MiB for cuBLAS.
// Limit:    memory: S is written, read, written, read (2 bytes a pair and pass in f16). The mask
//           saves the softmax and column parts of hidden pairs, not those of the product.
// Rounding: S and P are stored in the input type; products, softmax and sums in fp32 (f32: exact
//           products, no tf32); ex2.approx; the output is rounded once.
// Source:   the definition, step by step.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/plain_problem.h"
#include "impls/common/cublas_handle.h"
#include "impls/common/row_softmax.cuh"
#include "impls/common/vector_io.cuh"
#include "impls/common/warp_reduce.cuh"
#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;

constexpr std::int64_t kIntMax = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxBatch = 32768;  // matrices a cuBLAS call, under the 65535 of grid.z
constexpr int kColumnThreads = 256;

/// A part of S: rows [first_row, first_row + rows) of `heads` consecutive heads from first_head.
struct Chunk {
  void* scores = nullptr;  // [heads, rows, pitch]
  std::int64_t pitch = 0;  // N rounded up to whole vectors
  std::int64_t first_head = 0;
  std::int64_t heads = 0;
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
};

/// Keys that row `row` of a chunk sees: the prefix that the softmax works on.
struct VisibleKeys {
  AttentionMask mask;
  std::int64_t first_row;
  std::int64_t rows;
  __device__ std::int64_t operator()(std::int64_t row) const {
    return mask.key_end(first_row + row % rows);
  }
};

// --- Reduction of columns ------------------------------------------------------------------------

struct ColumnOutput {
  void* out;  // [B, H, N]
  DType out_dtype;
  float* accumulator;  // [N], carries sums from one chunk of rows to the next; null without
  Reduction reduction;
  MeanOver mean_over;
};

/// Adds the chunk's rows to the columns of its heads, each row of P read once, and stores the
/// result with the chunk that holds the last row. kLanes: vectors side by side in a CTA's strip.
template <class T, int kLanes, class Combine>
__global__ void __launch_bounds__(kColumnThreads)
    reduce_columns(const Chunk chunk, const AttentionMask mask, const ColumnOutput output) {
  constexpr int kWidth = kVectorElements<T>;
  constexpr int kStrip = kLanes * kWidth;
  constexpr int kGroups = kColumnThreads / kLanes;
  __shared__ float partial[kGroups][kWidth][kLanes + 4];  // the pad keeps both phases off one bank
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int group = static_cast<int>(threadIdx.x) / kLanes;
  const Combine combine;
  const std::int64_t strips = (mask.N + kStrip - 1) / kStrip;
  const std::int64_t head = blockIdx.x / strips;
  const std::int64_t strip_first = blockIdx.x % strips * kStrip;
  const std::int64_t n0 = strip_first + lane * kWidth;

  float total[kWidth] = {};
  if (n0 < mask.N) {
    const std::int64_t end_row = chunk.first_row + chunk.rows;
    const T* weights = static_cast<const T*>(chunk.scores) +
                       (head * chunk.rows - chunk.first_row) * chunk.pitch + n0;
    // From `whole` on, rows see the entire vector; nothing else is written in S, so nothing else
    // may be read.
    const std::int64_t whole = n0 + kWidth <= mask.N ? mask.query_begin(n0 + kWidth - 1) : end_row;
    std::int64_t m = max(mask.query_begin(n0), chunk.first_row) + group;
    for (; m < min(whole, end_row); m += kGroups) {
      float x[1][kWidth];
      load_prefixes(weights + m * chunk.pitch, 0, {mask.key_end(m) - n0}, 0.0f, x);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) total[j] = combine(total[j], x[0][j]);
    }
#pragma unroll 4
    for (; m < end_row; m += kGroups) {
      float x[kWidth];
      load_vector(weights + m * chunk.pitch, x);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) total[j] = combine(total[j], x[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < kWidth; ++j) partial[group][j][lane] = total[j];
  __syncthreads();  // all threads: every group's sums are visible

  for (int column = static_cast<int>(threadIdx.x); column < kStrip; column += kColumnThreads) {
    const std::int64_t n = strip_first + column;
    if (n >= mask.N) break;
    float value = output.accumulator && chunk.first_row > 0 ? output.accumulator[n] : 0.0f;
    for (int g = 0; g < kGroups; ++g)
      value = combine(value, partial[g][column % kWidth][column / kWidth]);
    if (chunk.first_row + chunk.rows < mask.M) {
      output.accumulator[n] = value;
      continue;
    }
    if (output.reduction == Reduction::kMean) {
      const std::int64_t seen = mask.M - mask.query_begin(n);
      const std::int64_t count = output.mean_over == MeanOver::kAll ? mask.M : seen;
      value /= static_cast<float>(count > 0 ? count : 1);
    }
    store_rounded(output.out, output.out_dtype, (chunk.first_head + head) * mask.N + n, value);
  }
}

// --- Products ------------------------------------------------------------------------------------

/// One axis of the matrices of a chunk: how many, and how many elements apart.
struct Axis {
  std::int64_t count;
  std::int64_t q;
  std::int64_t k;
  std::int64_t scores;
};

/// How S is cut and where scratch memory goes: a pure function of problem and GPU. A chunk is
/// several whole batches, or whole groups of heads that share keys, or one head, or rows of one.
struct Cut {
  std::int64_t pitch = 0;
  std::int64_t batches = 1;
  std::int64_t heads = 1;  // of each batch
  std::int64_t rows = 0;
  std::size_t library_at = 0;  // byte offset in the workspace; S lies at 0
  std::size_t library_bytes = 0;
  std::size_t accumulator_at = 0;
  std::size_t bytes = 0;
};

constexpr std::size_t round_up(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

Cut cut_of(const Problem& p, const DeviceInfo& device) {
  const auto element = static_cast<std::int64_t>(size_of(p.dtype));
  const std::int64_t width = 16 / element;
  std::size_t tensors = 0;
  for (const TensorSpec& spec : ColReduce::tensor_specs(p)) tensors += spec.storage_bytes();
  const std::size_t spare = device.total_bytes - std::min(device.total_bytes, tensors);
  const auto budget = static_cast<std::int64_t>(std::min(device.total_bytes / 4, spare / 2));

  Cut cut;
  cut.pitch = (p.N + width - 1) / width * width;
  const std::int64_t rows_fit = std::max<std::int64_t>(1, budget / (cut.pitch * element));
  const std::int64_t heads_fit = std::min(rows_fit / p.M, kIntMax / std::max(p.M, p.N));
  const std::int64_t group = p.H / p.key_heads();
  cut.rows = std::min(p.M, rows_fit);
  if (heads_fit >= p.H) {
    cut.batches = std::min(p.B, heads_fit / p.H);
    cut.heads = p.H;
  } else if (heads_fit >= group) {
    cut.heads = heads_fit / group * group;
  }
  const std::int64_t elements = cut.batches * cut.heads * cut.rows * cut.pitch;
  cut.library_at = round_up(static_cast<std::size_t>(elements * element));
  // What cuBLAS recommends for its workspace; without ours it would allocate one of its own.
  cut.library_bytes = static_cast<std::size_t>(device.sm >= 90 ? 32 : 4) << 20;
  cut.accumulator_at = cut.library_at + cut.library_bytes;
  cut.bytes = cut.accumulator_at;
  if (cut.rows < p.M) cut.bytes += static_cast<std::size_t>(p.N) * sizeof(float);
  return cut;
}

/// Everything that one launch knows.
struct Job {
  Problem problem;
  ColReduce::Tensors tensors;
  Cut cut;
  void* workspace;
  cublasHandle_t handle;
  int sm_count;
};

/// S = scale q k^T for `batches` x `heads` matrices from (b, h), in as few calls as strides allow.
void multiply(const Job& job, const Chunk& chunk, std::int64_t batches, std::int64_t heads) {
  const Problem& p = job.problem;
  const Extents& q = job.tensors.q.strides;
  const Extents& k = job.tensors.k.strides;
  const std::int64_t matrix = chunk.rows * chunk.pitch;
  const std::int64_t group = std::min(p.H / p.key_heads(), heads);
  const std::int64_t b = chunk.first_head / p.H;
  const std::int64_t h = chunk.first_head % p.H;

  // Query heads that share a key head, key heads, batches; the last two join where they can.
  Axis axes[] = {{group, q[1], 0, matrix},
                 {heads / group, group * q[1], k[1], group * matrix},
                 {batches, q[0], k[0], heads * matrix}};
  if (axes[1].count == 1) {
    std::swap(axes[1], axes[2]);
  } else if (q[0] == axes[1].count * axes[1].q && k[0] == axes[1].count * axes[1].k) {
    axes[1].count *= axes[2].count;
    axes[2].count = 1;
  }
  std::sort(std::begin(axes), std::end(axes), [](auto& x, auto& y) { return x.count > y.count; });
  const Axis& batch = axes[0];

  const auto element = static_cast<std::int64_t>(size_of(p.dtype));
  const cudaDataType_t type = p.dtype == DType::kF16    ? CUDA_R_16F
                              : p.dtype == DType::kBF16 ? CUDA_R_16BF
                                                        : CUDA_R_32F;
  const float scale = static_cast<float>(p.scale_value());
  const float zero = 0;
  const auto leading = [&](std::int64_t rows, std::int64_t stride) {
    return static_cast<int>(rows == 1 ? p.D : stride);  // a single row has no neighbour
  };
  for (std::int64_t i = 0; i < axes[1].count; ++i) {
    for (std::int64_t j = 0; j < axes[2].count; ++j) {
      for (std::int64_t first = 0; first < batch.count; first += kMaxBatch) {
        const auto at = [&](const TensorView& tensor, std::int64_t start,
                            std::int64_t Axis::*step) {
          return static_cast<char*>(tensor.data) +
                 (start + first * batch.*step + i * axes[1].*step + j * axes[2].*step) * element;
        };
        // Row-major S is the column-major matrix k q^T.
        CUBLAS_CHECK(cublasGemmStridedBatchedEx(
            job.handle, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(p.N),
            static_cast<int>(chunk.rows), static_cast<int>(p.D), &scale,
            at(job.tensors.k, job.tensors.k.offset(b, p.key_head(h), 0), &Axis::k), type,
            leading(p.N, k[2]), batch.k,
            at(job.tensors.q, job.tensors.q.offset(b, h, chunk.first_row), &Axis::q), type,
            leading(p.M, q[2]), batch.q, &zero, at({chunk.scores}, 0, &Axis::scores), type,
            static_cast<int>(chunk.pitch), batch.scores,
            static_cast<int>(std::min(batch.count - first, kMaxBatch)), CUBLAS_COMPUTE_32F,
            CUBLAS_GEMM_DEFAULT));
      }
    }
  }
}

// --- Launches ------------------------------------------------------------------------------------

using SoftmaxKernel = RowSoftmaxKernel<VisibleKeys>;
using ColumnKernel = void (*)(Chunk, AttentionMask, ColumnOutput);

struct Kernels {
  SoftmaxKernel softmax;
  ColumnKernel columns;
  std::int64_t strip;  // columns of a CTA
};

template <class T, class Combine>
Kernels kernels_of(const Job& job) {
  constexpr int kWidth = kVectorElements<T>;
  // Wide strips read whole DRAM pages; narrow ones give small problems enough CTAs.
  constexpr int kWide = 32;
  constexpr int kNarrow = 8;
  const std::int64_t heads = job.cut.batches * job.cut.heads;
  const std::int64_t vectors = job.cut.pitch / kWidth;
  const bool wide = heads * ((vectors + kWide - 1) / kWide) >= 2 * job.sm_count;
  return {row_softmax_kernel<T, VisibleKeys>(job.cut.pitch),
          wide ? reduce_columns<T, kWide, Combine> : reduce_columns<T, kNarrow, Combine>,
          (wide ? kWide : kNarrow) * kWidth};
}

Kernels kernels_for(const Job& job) {
  return with_element_type(job.problem.dtype, [&]<class T>(std::type_identity<T>) {
    return job.problem.reduction == Reduction::kMax ? kernels_of<T, MaxOrNan>(job)
                                                    : kernels_of<T, Sum>(job);
  });
}

void run_chunk(const Job& job, const Kernels& kernels, const Chunk& chunk, cudaStream_t stream) {
  const Problem& p = job.problem;
  const AttentionMask mask = p.attention_mask();
  const SoftmaxRows<VisibleKeys> rows{chunk.scores, chunk.pitch, chunk.heads * chunk.rows,
                                      VisibleKeys{mask, chunk.first_row, chunk.rows}};
  const auto softmax_ctas = static_cast<unsigned>(kernels.softmax.ctas(rows.rows));
  kernels.softmax.function<<<softmax_ctas, kernels.softmax.threads, 0, stream>>>(rows);
  CUDA_CHECK_LAUNCH();
  const ColumnOutput output{.out = job.tensors.out.data,
                            .out_dtype = p.out_dtype,
                            .accumulator = reinterpret_cast<float*>(
                                static_cast<char*>(job.workspace) + job.cut.accumulator_at),
                            .reduction = p.reduction,
                            .mean_over = p.mean_over};
  const std::int64_t column_ctas = chunk.heads * ((p.N - 1) / kernels.strip + 1);
  kernels.columns<<<static_cast<unsigned>(column_ctas), kColumnThreads, 0, stream>>>(chunk, mask,
                                                                                     output);
  CUDA_CHECK_LAUNCH();
}

void enqueue(const Job& job, const Kernels& kernels, cudaStream_t stream) {
  const Problem& p = job.problem;
  const Cut& cut = job.cut;
  // In this order: setting the stream takes the workspace away.
  CUBLAS_CHECK(cublasSetStream(job.handle, stream));
  CUBLAS_CHECK(cublasSetWorkspace(job.handle, static_cast<char*>(job.workspace) + cut.library_at,
                                  cut.library_bytes));
  for (std::int64_t b = 0; b < p.B; b += cut.batches) {
    const std::int64_t batches = std::min(cut.batches, p.B - b);
    for (std::int64_t h = 0; h < p.H; h += cut.heads) {
      const std::int64_t heads = std::min(cut.heads, p.H - h);
      for (std::int64_t m = 0; m < p.M; m += cut.rows) {
        const Chunk chunk{.scores = job.workspace,
                          .pitch = cut.pitch,
                          .first_head = b * p.H + h,
                          .heads = batches * heads,
                          .first_row = m,
                          .rows = std::min(cut.rows, p.M - m)};
        multiply(job, chunk, batches, heads);
        run_chunk(job, kernels, chunk, stream);
      }
    }
  }
}

Support supports(const Problem& p, const DeviceInfo&) {
  if (Support plain = takes_plain_only(p); !plain) return plain;
  if (std::max({p.M, p.N, p.D}) > kIntMax - 8) return Support::no("M, N and D must fit 32 bits");
  for (const TensorSpec& spec : ColReduce::tensor_specs(p)) {
    if (spec.role == TensorRole::kOutput || spec.shape[2] == 1) continue;
    if (spec.strides[2] < p.D || spec.strides[2] > kIntMax)
      return Support::no("cuBLAS needs D <= row stride < 2^31 in " + std::string(spec.name));
  }
  return Support::yes();
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return cut_of(p, device).bytes;
}

Launch plan(const Problem& p,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo& device) {
  const Job job{.problem = p,
                .tensors = tensors,
                .cut = cut_of(p, device),
                .workspace = workspace.data,
                .handle = cublas_handle(),
                .sm_count = device.sm_count};
  const Kernels kernels = kernels_for(job);
  const std::int64_t heads = job.cut.batches * job.cut.heads;
  const bool whole = heads == p.B * p.H && job.cut.rows == p.M;
  return {
      .enqueue =
          [=](Stream stream) { enqueue(job, kernels, static_cast<cudaStream_t>(stream.handle)); },
      .note = whole ? "S at once"
                    : "chunk " + std::to_string(heads) + " heads x " +
                          std::to_string(job.cut.rows) + " rows of S",
      .kernels = {{reinterpret_cast<const void*>(kernels.softmax.function), 0,
                   static_cast<int>(kernels.softmax.threads)},
                  {reinterpret_cast<const void*>(kernels.columns), 0, kColumnThreads}}};
}

}  // namespace

extern const Backend<ColReduce> cublas_naive;
constinit const Backend<ColReduce> cublas_naive = {
    .info = {.id = "cublas_naive",
             .summary = "cuBLAS product, softmax and column sum over a stored M x N matrix",
             .memory = MemorySpace::kDevice,
             .math = "cuBLAS with fp32 accumulation, S and P in the input type, ex2.approx",
             .numerics = NumericsClass::kStored,
             .deterministic = true},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
