// The column reduction as one function: finds the backend, moves the data to it, runs it once.
#include "examples/column_scores.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>

#include "harness/buffer.h"
#include "harness/environment.h"
#include "harness/gpu.h"

#if ATTN_WITH_CUDA
#include "harness/core/cuda_check.h"
#endif

namespace attn {
namespace {

using Problem = ColReduce::Problem;

/// The backend called `id`, which takes the problem here.
const Backend<ColReduce>& find(const Problem& problem,
                               std::string_view id,
                               const Machine& machine) {
  const std::string name(id);
  for (const BackendSlot<ColReduce>& slot : ColReduce::backends()) {
    if (slot.id != id) continue;
    if (!slot.backend) throw std::invalid_argument(name + " is not in this build");
    const BackendInfo& info = slot.backend->info;
    if (info.memory == MemorySpace::kDevice && !machine.gpu)
      throw std::invalid_argument(name + " needs a GPU: " + machine.why_no_gpu);
    if (const Support support = slot.backend->supports(problem, machine.device_for(info)); !support)
      throw std::invalid_argument(name + " refuses: " + support.reason);
    return *slot.backend;
  }
  throw std::invalid_argument("no backend is called " + name);
}

/// Copies a dense tensor to memory of the device, as elements of the tensor's type.
void upload(const Buffer& to, const TensorSpec& spec, std::span<const float> values) {
  if (static_cast<std::int64_t>(values.size()) != spec.elements())
    throw std::invalid_argument(std::string(spec.name) + " must have " +
                                std::to_string(spec.elements()) + " numbers, not " +
                                std::to_string(values.size()));
  std::vector<std::byte> bytes(spec.storage_bytes());
  for (std::size_t i = 0; i < values.size(); ++i)
    store_element(bytes.data(), spec.dtype, static_cast<std::int64_t>(i), values[i]);
#if ATTN_WITH_CUDA
  if (to.space() == MemorySpace::kDevice) {
    CUDA_CHECK(cudaMemcpy(to.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
    return;
  }
#endif
  std::memcpy(to.data(), bytes.data(), bytes.size());
}

}  // namespace

ColumnScores column_scores(const Problem& problem,
                           std::span<const float> q,
                           std::span<const float> k,
                           std::string_view backend_id) {
  if (const Support valid = ColReduce::validate(problem); !valid)
    throw std::invalid_argument(valid.reason);
  if (problem.lse != Lse::kNone || problem.layout != Layout::kHeadMajor ||
      problem.q_strides != Extents{} || problem.k_strides != Extents{})
    throw std::invalid_argument("column_scores takes dense q and k, and no lse");
  static const Machine machine = find_machine(true);
  const Backend<ColReduce>& backend = find(problem, backend_id, machine);
  const DeviceInfo& device = machine.device_for(backend.info);

  const std::vector<TensorSpec> specs = ColReduce::tensor_specs(problem);
  const Buffer q_buffer(device.space, specs[0].storage_bytes());
  const Buffer k_buffer(device.space, specs[1].storage_bytes());
  const Buffer out_buffer(device.space, specs[2].storage_bytes());
  upload(q_buffer, specs[0], q);
  upload(k_buffer, specs[1], k);
  const std::size_t bytes = backend.workspace_bytes ? backend.workspace_bytes(problem, device) : 0;
  const Buffer workspace(device.space, bytes);

  void* const storage[] = {q_buffer.data(), k_buffer.data(), out_buffer.data()};
  const Launch launch =
      backend.plan(problem, ColReduce::bind(problem, storage), {workspace.data(), bytes}, device);
  if (device.space == MemorySpace::kDevice) {
    gpu::run(launch);
  } else {
    launch.enqueue({});
  }
  ColumnScores scores{.values = std::vector<float>(static_cast<std::size_t>(specs[2].elements())),
                      .backend = std::string(backend.info.id)};
  if (!launch.note.empty()) scores.backend += " (" + launch.note + ")";
  const std::vector<std::byte> out = out_buffer.to_host();
  for (std::size_t i = 0; i < scores.values.size(); ++i)
    scores.values[i] = load_element(out.data(), problem.out_dtype, static_cast<std::int64_t>(i));
  return scores;
}

std::vector<std::int64_t> largest(std::span<const float> scores, std::size_t count) {
  std::vector<std::int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
  });
  order.resize(std::min(count, order.size()));
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<float> random_rows(std::size_t rows, std::size_t D, std::uint32_t seed) {
  std::mt19937 bits(seed);
  std::vector<float> values(rows * D);
  // Sums of four uniform numbers, scaled: the standard's normal_distribution differs by library.
  for (float& value : values) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(bits() >> 8) * 0x1p-24f - 0.5f;
    value = sum * 1.7320508f;
  }
  return values;
}

}  // namespace attn
