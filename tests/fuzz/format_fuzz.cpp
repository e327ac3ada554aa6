// format_fuzz SECONDS [SEED]: ReaderFuzzer until the time is over. The readers are compiled with
// sanitizers here, which end the program at the first fault; the seed on standard error reproduces it.
// Prints each seed that failed otherwise; exit status 1 if any did.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

#include <fmt/format.h>

#include "tests/fuzz/reader_fuzzer.h"
#include "tests/temporary_folder.h"

// Of the sanitizers' runtime; calls a function before it ends the program.
extern "C" void __sanitizer_set_death_callback(void (*callback)());

namespace {

uint64_t current_seed = 0;

// A round that takes this long hangs.
constexpr unsigned kSecondsPerRound = 60;

void print_seed() {
  std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(current_seed));
}

void report_hang(int) {
  std::fprintf(stderr, "hangs: ");
  print_seed();
  std::_Exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "Expected format_fuzz SECONDS [SEED], but got no time\n");
    return 2;
  }
  const std::chrono::seconds length(std::atoll(argv[1]));
  uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  const megatron::TemporaryFolder folder;
  megatron::ReaderFuzzer fuzzer(TEST_DATA_DIR, folder.path() / "damaged");
  std::signal(SIGALRM, report_hang);
  __sanitizer_set_death_callback(print_seed);
  const auto start = std::chrono::steady_clock::now();
  int64_t rounds = 0, failures = 0;
  do {
    current_seed = seed++;
    alarm(kSecondsPerRound);
    const std::string failure = fuzzer.round(current_seed);
    alarm(0);
    ++rounds;
    if (!failure.empty()) {
      ++failures;
      fmt::print("{}\n", failure);
    }
    if (rounds % 2000 == 0) {
      fmt::print("{} rounds, {} refused, {} loaded, {} failed\n", rounds, fuzzer.refused(),
                 fuzzer.loaded(), failures);
      std::fflush(stdout);
    }
  } while (std::chrono::steady_clock::now() - start < length);
  fmt::print("{} rounds of {} files, {} refused, {} loaded, {} failed\n", rounds,
             fuzzer.num_files(), fuzzer.refused(), fuzzer.loaded(), failures);
  return failures == 0 ? 0 : 1;
}
