// Damaged checkpoints give a one-line error that names the file, never wrong values.
#include <gmock/gmock.h>

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/save_checkpoint.h"

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class DamageTest : public CheckpointTest {
 protected:
  DamageTest() {
    save_checkpoint(root_, 3, {whole("a", numbered({16})), whole("b", numbered({16}))},
                    {{"consumed_samples", 64}}, world_of_one());
    content_ = read_file(shard_);
  }

  // Opens the checkpoint and loads all tensors.
  void load_all() {
    auto reader = CheckpointReader::open(root_);
    const ShardedStateDict state = {whole("a", at::zeros({16})), whole("b", at::zeros({16}))};
    reader.load(state);
    EXPECT_TRUE(at::equal(state[0].data, numbered({16})));
    EXPECT_TRUE(at::equal(state[1].data, numbered({16})));
  }
  std::string load_error() {
    return error_of([&] { load_all(); });
  }

  std::filesystem::path directory_ = root_ / "iter_0000003";
  std::filesystem::path shard_ = directory_ / "shard-00000-of-00001.safetensors";
  std::string content_;
};

TEST_F(DamageTest, FlippedByteOfDataNamesFileAndTensor) {
  auto damaged = content_;
  damaged[damaged.size() - 1] ^= 1;  // the last byte belongs to b
  write_file(shard_, damaged);
  EXPECT_THAT(load_error(),
              AllOf(HasSubstr(shard_.string()), HasSubstr("tensor 'b'"), HasSubstr("damaged")));
  // Undamaged tensors can still be read.
  EXPECT_TRUE(at::equal(CheckpointReader::open(root_).load_tensor("a"), numbered({16})));
}

TEST_F(DamageTest, EveryFlippedByteIsDetectedOrHarmless) {
  for (size_t i = 0; i < content_.size(); ++i) {
    auto damaged = content_;
    damaged[i] = static_cast<char>(damaged[i] ^ 4);
    write_file(shard_, damaged);
    try {
      load_all();  // compares values; damage to metadata or padding is harmless
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), HasSubstr("shard-00000-of-00001.safetensors"));
    }
  }
}

TEST_F(DamageTest, TruncatedShard) {
  write_file(shard_, content_.substr(0, content_.size() - 1));
  EXPECT_THAT(load_error(), AllOf(HasSubstr("it is truncated"), HasSubstr(shard_.string())));
  write_file(shard_, "");
  EXPECT_THAT(load_error(), HasSubstr("it has 0"));
}

TEST_F(DamageTest, MissingShard) {
  std::filesystem::remove(shard_);
  EXPECT_THAT(load_error(), HasSubstr("shard-00000-of-00001.safetensors of checkpoint"));
}

TEST_F(DamageTest, ShardOfAnotherCheckpoint) {
  save_checkpoint(root_, 4, {whole("a", numbered({16}) + 1), whole("b", numbered({16}))}, {},
                  world_of_one());
  std::filesystem::copy_file(shard_, root_ / "iter_0000004/shard-00000-of-00001.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(load_error(), HasSubstr("tensor 'a'"));
}

TEST_F(DamageTest, DamagedIndex) {
  const auto index = directory_ / "index.json";
  const std::string text = read_file(index);
  auto damaged = text;
  damaged.replace(damaged.find("64"), 2, "65");  // the consumed samples
  write_file(index, damaged);
  EXPECT_THAT(load_error(), AllOf(HasSubstr(index.string()), HasSubstr("damaged or edited")));
  write_file(index, text.substr(0, text.size() / 2));
  EXPECT_THAT(load_error(), HasSubstr(index.string()));
  std::filesystem::remove(index);
  EXPECT_THAT(load_error(), HasSubstr("iter_0000003 has no index.json"));
}

}  // namespace
}  // namespace megatron
