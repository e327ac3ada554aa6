// main() of every benchmark: accepts Google Benchmark's flags and --threads=N.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <malloc.h>
#include <string_view>

#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

int main(int argc, char** argv) {
  // Keeps freed memory in the process, as in a training run. Otherwise page faults would take
  // longer than some operators.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  constexpr std::string_view flag = "--threads=";
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    if (!argument.starts_with(flag)) continue;
    argument.remove_prefix(flag.size());
    int threads = 0;
    const auto [end, error] =
        std::from_chars(argument.data(), argument.data() + argument.size(), threads);
    if (error != std::errc() || end != argument.data() + argument.size() || threads < 1) {
      std::fprintf(stderr, "error: Expected --threads=N of at least 1, but got '%s'\n", argv[i]);
      return 1;
    }
    at::set_num_threads(threads);
    std::move(argv + i + 1, argv + argc, argv + i);
    --argc;
    --i;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
