// Facts about machine, build and revision for the run record.
#include "harness/environment.h"

#include <elf.h>
#include <link.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>

#include "attn_build_info.h"
#include "harness/nvml.h"
#include "harness/seed.h"

namespace attn {
namespace {

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

template <class T>
Json value_or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json positive_or_null(double value) { return value > 0 ? Json(value) : Json(nullptr); }

std::string cpu_model_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return {};
}

std::size_t last_level_cache_bytes() {
  const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  constexpr std::size_t kUnknown = std::size_t{64} << 20;
  return bytes > 0 ? static_cast<std::size_t>(bytes) : kUnknown;
}

/// Output of a command, without its last newline; empty optional when it fails.
std::optional<std::string> output_of(const std::string& command) {
  FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
  if (!pipe) return std::nullopt;
  std::string text;
  std::array<char, 4096> chunk;
  while (const std::size_t count = fread(chunk.data(), 1, chunk.size(), pipe))
    text.append(chunk.data(), count);
  if (pclose(pipe) != 0) return std::nullopt;
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

/// Whether this very code is in the object.
bool is_this(const dl_phdr_info& object) {
  const auto here = reinterpret_cast<std::uintptr_t>(&is_this);
  for (int i = 0; i < object.dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = object.dlpi_phdr[i];
    const std::uintptr_t begin = object.dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD && begin <= here && here < begin + header.p_memsz) return true;
  }
  return false;
}

/// Callback of dl_iterate_phdr: finds the build-id note of the program, or of the library, that this
/// code is in.
int read_build_id(dl_phdr_info* object, std::size_t, void* result) {
  if (!is_this(*object)) return 0;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = object->dlpi_phdr[i];
    if (header.p_type != PT_NOTE) continue;
    const char* at = reinterpret_cast<const char*>(object->dlpi_addr + header.p_vaddr);
    const char* end = at + header.p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof note);
      const auto padded = [](std::size_t n) { return (n + 3) / 4 * 4; };
      const char* description = at + sizeof note + padded(note.n_namesz);
      if (note.n_type == NT_GNU_BUILD_ID) {
        auto& id = *static_cast<std::string*>(result);
        for (std::size_t b = 0; b < note.n_descsz; ++b) {
          id += "0123456789abcdef"[static_cast<unsigned char>(description[b]) >> 4];
          id += "0123456789abcdef"[description[b] & 15];
        }
        return 1;
      }
      at = description + padded(note.n_descsz);
    }
  }
  return 1;
}

}  // namespace

Machine find_machine(bool want_gpu) {
  Machine machine;
  machine.cpu_model = cpu_model_name();
  machine.cpu = {.space = MemorySpace::kHost,
                 .name = machine.cpu_model,
                 .l2_bytes = last_level_cache_bytes(),
                 .total_bytes = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                                static_cast<std::size_t>(sysconf(_SC_PAGE_SIZE)),
                 .threads = omp_get_max_threads()};
  if (want_gpu) {
    machine.gpu = gpu::find(machine.why_no_gpu);
  } else {
    machine.why_no_gpu = "the CPU was asked for";
  }
  return machine;
}

std::string device_slug(const Machine& machine) {
  if (!machine.gpu) return "cpu";
  std::string slug;
  for (const char c : machine.gpu->info.name)
    slug += std::isalnum(static_cast<unsigned char>(c)) ? static_cast<char>(std::tolower(c)) : '-';
  return slug;
}

std::string build_id() {
  std::string id;
  dl_iterate_phdr(read_build_id, &id);
  return id;
}

Revision find_revision() {
  Revision revision;
  const std::string git = std::string("git -C '") + ATTN_SOURCE_DIR + "' ";
  revision.sha = output_of(git + "rev-parse HEAD");
  if (revision.sha) {
    const std::optional<std::string> diff = output_of(git + "diff HEAD -- . ':!results' ':!plots'");
    if (diff) {
      revision.dirty = !diff->empty();
      if (!diff->empty()) revision.diff_hash = hex(fnv1a(*diff));
    }
  } else if (const char* told = std::getenv("ATTN_GIT_SHA")) {
    revision.sha = told;
  }
  return revision;
}

std::string utc_now(bool compact) {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), compact ? "%Y%m%dT%H%M%SZ" : "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

Json to_json(const Ceilings& c) {
  return {{"copy_Bps", positive_or_null(c.copy_Bps)},
          {"mma_flops", positive_or_null(c.mma_flops)},
          {"ffma_flops", positive_or_null(c.ffma_flops)},
          {"ex2_per_s", positive_or_null(c.ex2_per_s)},
          {"null_kernel_ns", positive_or_null(c.null_kernel_ns)}};
}

Ceilings ceilings_from_json(const Json& json) {
  const auto rate = [&](const char* name) {
    const Json& value = json.at(name);
    return value.is_number() ? value.get<double>() : 0;
  };
  return {.copy_Bps = rate("copy_Bps"),
          .mma_flops = rate("mma_flops"),
          .ffma_flops = rate("ffma_flops"),
          .ex2_per_s = rate("ex2_per_s"),
          .null_kernel_ns = rate("null_kernel_ns")};
}

Json run_record(const Machine& machine,
                const Revision& revision,
                const std::optional<Ceilings>& ceilings,
                const std::vector<std::string>& argv,
                std::uint64_t seed) {
  const DeviceInfo& device = machine.main_device();
  const gpu::Facts* gpu = machine.gpu ? &*machine.gpu : nullptr;
  const NvmlFacts nvml = gpu ? Nvml().facts() : NvmlFacts{};
  const std::string id = build_id();
  const std::string driver = !gpu ? "" : nvml.driver.value_or(gpu->driver);
  return {{"type", "run"},
          {"schema", kSchemaVersion},
          {"run_id", utc_now(true) + "-" + id.substr(0, 6)},
          {"utc", utc_now(false)},
          {"argv", argv},
          {"seed", seed},
          {"git",
           {{"sha", value_or_null(revision.sha)},
            {"dirty", value_or_null(revision.dirty)},
            {"diff_hash", value_or_null(revision.diff_hash)}}},
          {"build",
           {{"id", id},
            {"cxx", ATTN_BUILD_CXX},
            {"nvcc", text_or_null(ATTN_BUILD_NVCC)},
            {"flags", ATTN_BUILD_FLAGS},
            {"arch", text_or_null(ATTN_BUILD_ARCH)},
            {"torch", text_or_null(ATTN_TORCH_VERSION)},
            {"benchmark", text_or_null(ATTN_BENCHMARK_VERSION)}}},
          {"device",
           {{"kind", gpu ? "cuda" : "cpu"},
            {"name", device.name},
            {"sms", gpu ? Json(device.sm_count) : Json(nullptr)},
            {"l2_bytes", device.l2_bytes},
            {"mem_bytes", device.total_bytes},
            {"power_limit_w", value_or_null(nvml.power_limit_w)},
            {"ecc", gpu ? value_or_null(gpu->ecc) : Json(nullptr)},
            {"mig", value_or_null(nvml.mig)},
            {"sm_clock_mhz", gpu ? value_or_null(gpu->sm_clock_mhz) : Json(nullptr)},
            {"mem_clock_mhz", gpu ? value_or_null(gpu->memory_clock_mhz) : Json(nullptr)}}},
          {"host", {{"cpu", text_or_null(machine.cpu_model)}, {"threads", machine.cpu.threads}}},
          {"driver", text_or_null(driver)},
          {"cuda", gpu ? text_or_null(gpu->runtime) : Json(nullptr)},
          {"ceilings", to_json(ceilings.value_or(Ceilings{}))}};
}

}  // namespace attn
