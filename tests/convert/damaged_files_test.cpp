// Readers of other programs' files, on damaged copies of the golden ones.
#include <gtest/gtest.h>

#include "tests/fuzz/reader_fuzzer.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

TEST(DamagedFiles, AreRefusedOrLoad) {
  constexpr uint64_t kRounds = 1500;
  const TemporaryFolder folder;
  ReaderFuzzer fuzzer(TEST_DATA_DIR, folder.path() / "damaged");
  EXPECT_GE(fuzzer.num_files(), 40);
  for (uint64_t seed = 0; seed < kRounds; ++seed) EXPECT_EQ(fuzzer.round(seed), "");
  // Most damage is seen; some changes a value that may be any.
  EXPECT_GT(fuzzer.refused(), int64_t{kRounds} / 3);
  EXPECT_GT(fuzzer.loaded(), int64_t{kRounds} / 50);
}

}  // namespace
}  // namespace megatron
