// Counts cores and sets libtorch's number of threads.
#include "megatron/parallel/compute_threads.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sched.h>
#include <set>
#include <thread>
#include <utility>

#include <ATen/Parallel.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

// Counts cores instead of hardware threads, because the threads of a core share its matrix units.
int usable_cores() {
  const int hardware = std::max(1u, std::thread::hardware_concurrency());
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return hardware;
  std::set<std::pair<int, int>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string folder = fmt::format("/sys/devices/system/cpu/cpu{}/topology/", cpu);
    int package = 0, core = 0;
    std::ifstream package_file(folder + "physical_package_id"), core_file(folder + "core_id");
    if (!(package_file >> package) || !(core_file >> core)) return hardware;
    cores.emplace(package, core);
  }
  return std::max<int>(1, static_cast<int>(cores.size()));
}

}  // namespace

int choose_compute_threads(const LaunchConfig& config, int local_world_size,
                           const Environment& environment) {
  if (config.threads) {
    check(*config.threads >= 1 && *config.threads <= 4096,
          "Expected --threads of 1 to 4096, but got {}", *config.threads);
    return static_cast<int>(*config.threads);
  }
  if (const auto text = environment("OMP_NUM_THREADS")) {
    const long threads = std::strtol(text->c_str(), nullptr, 10);
    check(threads >= 1 && threads <= 4096,
          "Expected OMP_NUM_THREADS of 1 to 4096, but got '{}'; unset it, or give --threads",
          *text);
    return static_cast<int>(threads);
  }
  return std::max(1, usable_cores() / std::max(1, local_world_size));
}

void set_compute_threads(int threads) {
  static std::mutex mutex;  // at::set_num_threads also resizes a pool that all threads share
  const std::lock_guard lock(mutex);
  at::set_num_threads(threads);
}

}  // namespace megatron
