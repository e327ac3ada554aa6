#include "megatron/reporting/machine.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sys/resource.h>
#include <unistd.h>

#include <ATen/ATen.h>

#include "megatron/base/device.h"
#include "megatron/ops/matmul/matmul.h"

namespace megatron {

double measure_gemm_tflops(at::ScalarType dtype, at::Device device, double milliseconds) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t n = 1024;
  const auto options = at::TensorOptions().device(device).dtype(dtype);
  // Random data: some processors are faster on zeros and ones.
  const at::Tensor a = at::linspace(-1, 1, n * n, options.dtype(at::kFloat)).view({n, n}).to(dtype);
  const at::Tensor b = a.t().contiguous();
  at::Tensor c = at::empty({n, n}, options);
  const auto timed = [&] {
    const auto start = Clock::now();
    matmul_out(c, a, b, /*bias=*/{});
    synchronize(device);
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  timed();  // warm-up: the first call initializes the library
  double best = timed(), spent = best;
  while (spent * 1e3 < milliseconds) {
    const double seconds = timed();
    best = std::min(best, seconds);
    spent += seconds;
  }
  return 2.0 * n * n * n / best / 1e12;
}

double share_of_peak(double rate, double peak) {
  return rate <= peak && peak > 0 ? rate / peak : 0;
}

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  double pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * double(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

double peak_resident_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return double(usage.ru_maxrss) / 1024;  // KiB on Linux
}

}  // namespace megatron
