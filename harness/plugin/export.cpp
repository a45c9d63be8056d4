// The backends of this source tree as a plugin, so that another build of the program can load them
// beside its own: tools/build_revision.sh builds it for revisions that `compare` is asked about. Their
// ids name the revision: "fused_simt@1a2b3c4".
#include <cstddef>
#include <exception>
#include <list>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "attn_build_info.h"
#include "harness/operators.h"
#include "harness/plugin/attnbench_plugin.h"

namespace attn {
namespace {

/// One backend: the C description and what it points to.
struct Exported {
  std::shared_ptr<const AnyOperator> op;
  std::size_t index;
  std::string op_name, id, summary, math;
  AttnbenchBackend description{};
};

const Exported& exported(const AttnbenchBackend* self) {
  return *static_cast<const Exported*>(self->context);
}

/// The problem by this tree's contract. Throws where it cannot say what is asked for: a field that
/// this revision lacks, or tensors of another kind.
std::unique_ptr<AnyProblem> problem_of(const Exported& self, const AttnbenchProblem& asked) {
  std::unique_ptr<AnyProblem> problem = self.op->default_problem();
  for (std::size_t i = 0; i < asked.field_count; ++i) {
    const AttnbenchField& field = asked.fields[i];
    const std::string error = problem->set(field.name, field.text);
    if (!error.empty() && !field.is_default) throw std::runtime_error(error);
  }
  if (const Support valid = problem->validate(); !valid) throw std::runtime_error(valid.reason);
  if (problem->tensor_specs().size() != asked.tensor_count)
    throw std::runtime_error("the tensors of " + self.op_name + " are others in this revision");
  return problem;
}

DeviceInfo device_of(const AttnbenchDevice& device) {
  return {.space = static_cast<MemorySpace>(device.space),
          .name = device.name,
          .sm = device.sm,
          .sm_count = device.sm_count,
          .shared_bytes_per_block = device.shared_bytes_per_block,
          .l2_bytes = device.l2_bytes,
          .total_bytes = device.total_bytes,
          .threads = device.threads};
}

const char* name_of(NumericsClass numerics) {
  return kNumericsNames[static_cast<std::size_t>(numerics)].data();
}

/// The text stays until the thread's next call.
const char* keep(std::string text) {
  thread_local std::string kept;
  kept = std::move(text);
  return kept.c_str();
}

/// What `function` throws becomes its answer: exceptions do not cross the C interface.
template <class Function>
const char* complaint_of(Function&& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return ATTNBENCH_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    return keep(error.what());
  }
}

const char* supports(const AttnbenchBackend* self,
                     const AttnbenchProblem* problem,
                     const AttnbenchDevice* device) {
  return complaint_of([&]() -> const char* {
    const Exported& own = exported(self);
    const Support support = problem_of(own, *problem)->supports(own.index, device_of(*device));
    return support ? nullptr : keep(support.reason);
  });
}

std::size_t workspace_bytes(const AttnbenchBackend* self,
                            const AttnbenchProblem* problem,
                            const AttnbenchDevice* device) {
  const Exported& own = exported(self);
  return problem_of(own, *problem)->workspace_bytes(own.index, device_of(*device));
}

const char* plan(const AttnbenchBackend* self, AttnbenchLaunch* launch) {
  return complaint_of([&]() -> const char* {
    const Exported& own = exported(self);
    const std::unique_ptr<AnyProblem> problem = problem_of(own, *launch->problem);
    std::vector<void*> storage;
    for (const TensorSpec& spec : problem->tensor_specs())
      storage.push_back(static_cast<char*>(launch->problem->tensors[storage.size()].data) -
                        static_cast<std::size_t>(spec.offset_elements) * size_of(spec.dtype));
    auto planned = std::make_unique<Launch>(
        problem->plan(own.index, storage, {launch->workspace, launch->workspace_bytes},
                      device_of(*launch->device)));
    launch->note = planned->note.c_str();
    const bool asks = launch->size > offsetof(AttnbenchLaunch, numerics);  // an older program: not
    if (asks && planned->numerics) launch->numerics = name_of(*planned->numerics);
    launch->state = planned.release();
    return nullptr;
  });
}

const char* enqueue(const AttnbenchBackend*, const AttnbenchLaunch* launch, void* stream) {
  return complaint_of([&]() -> const char* {
    static_cast<const Launch*>(launch->state)->enqueue({stream});
    return nullptr;
  });
}

void release(const AttnbenchBackend*, AttnbenchLaunch* launch) {
  delete static_cast<Launch*>(launch->state);
}

void trim(const AttnbenchBackend* self) {
  const Exported& own = exported(self);
  if (const auto& give_back = own.op->backends()[own.index].trim) give_back();
}

/// The backends that this build has; where they lie does not change.
std::list<Exported> list_exported() {
  std::list<Exported> list;
  for (const auto& op : operators()) {
    const std::vector<AnyBackend> backends = op->backends();
    for (std::size_t i = 0; i < backends.size(); ++i) {
      const BackendInfo* info = backends[i].info;
      if (!info) continue;
      Exported& one = list.emplace_back(op, i, std::string(op->name()),
                                        std::string(info->id) + "@" ATTN_REVISION,
                                        std::string(info->summary), std::string(info->math));
      one.description = {.size = sizeof(AttnbenchBackend),
                         .op = one.op_name.c_str(),
                         .id = one.id.c_str(),
                         .summary = one.summary.c_str(),
                         .math = one.math.c_str(),
                         .numerics = name_of(info->numerics),
                         .memory = static_cast<std::int32_t>(info->memory),
                         .deterministic = info->deterministic,
                         .context = &one,
                         .supports = supports,
                         .workspace_bytes = workspace_bytes,
                         .plan = plan,
                         .enqueue = enqueue,
                         .release = release,
                         .trim = trim};
    }
  }
  return list;
}

}  // namespace
}  // namespace attn

const AttnbenchPlugin* attnbench_plugin() {
  static const std::list<attn::Exported> exported = attn::list_exported();
  static const std::vector<const AttnbenchBackend*> backends = [] {
    std::vector<const AttnbenchBackend*> pointers;
    for (const attn::Exported& one : exported) pointers.push_back(&one.description);
    return pointers;
  }();
  static const AttnbenchPlugin plugin = {.abi_version = ATTNBENCH_PLUGIN_ABI,
                                         .size = sizeof(AttnbenchPlugin),
                                         .backends = backends.data(),
                                         .backend_count = backends.size()};
  return &plugin;
}
