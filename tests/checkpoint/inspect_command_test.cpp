// `megatron inspect` as a program: table, JSON and errors.
#include <gmock/gmock.h>

#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/checkpoint/save_checkpoint.h"

#include "tests/checkpoint/checkpoint_fixture.h"
#include "tests/program.h"

namespace megatron {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class InspectCommandTest : public CheckpointTest {
 protected:
  InspectCommandTest() {
    save_checkpoint(root_, 8, {whole("decoder.layers.0.w", numbered({2, 3}))},
                    {{"consumed_samples", 16}}, world_of_one());
  }
};

TEST_F(InspectCommandTest, PrintsATableOrJson) {
  const auto table = run_program("inspect " + root_.string());
  EXPECT_EQ(table.status, 0) << table.errors;
  EXPECT_THAT(table.output, HasSubstr("iteration          8\n"));
  EXPECT_THAT(table.output, HasSubstr("decoder.layers.0.w  fp32   [2, 3]       1\n"));

  const auto json = run_program("inspect --json - " + (root_ / "iter_0000008").string());
  EXPECT_EQ(json.status, 0) << json.errors;
  const auto summary = nlohmann::json::parse(json.output);
  EXPECT_EQ(summary["iteration"], 8);
  EXPECT_EQ(summary["tensors"][0]["shape"], nlohmann::json({2, 3}));

  const auto file = root_ / "summary.json";
  EXPECT_EQ(run_program("inspect --json " + file.string() + " " + root_.string()).status, 0);
  EXPECT_EQ(nlohmann::json::parse(read_file(file)), summary);
}

TEST_F(InspectCommandTest, FailsIfAShardIsTruncatedOrMissing) {
  const auto shard = root_ / "iter_0000008" / shard_file_name(0, 1);
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 1);
  const auto truncated = run_program("inspect " + root_.string());
  EXPECT_EQ(truncated.status, 1);
  EXPECT_THAT(truncated.output, HasSubstr("decoder.layers.0.w"));
  EXPECT_THAT(truncated.errors, HasSubstr("truncated"));
  std::filesystem::remove(shard);
  const auto missing = run_program("inspect " + root_.string());
  EXPECT_EQ(missing.status, 1);
  EXPECT_THAT(missing.errors, HasSubstr("could not read it"));
}

TEST_F(InspectCommandTest, ErrorsAreOneLine) {
  const auto missing = run_program("inspect " + (root_ / "none").string());
  EXPECT_EQ(missing.status, 1);
  EXPECT_EQ(missing.output, "");
  EXPECT_THAT(missing.errors, StartsWith("error: Expected a checkpoint directory"));
  EXPECT_THAT(missing.errors, EndsWith("but there is none\n"));
  const auto unwritable =
      run_program("inspect --json " + (root_ / "none/x.json").string() + " " + root_.string());
  EXPECT_EQ(unwritable.status, 1);
  EXPECT_THAT(unwritable.errors, HasSubstr("Expected to write --json"));
}

}  // namespace
}  // namespace megatron
