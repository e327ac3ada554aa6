// Saving and loading on one rank: values, the tracker, selection of a checkpoint, invalid requests.
#include <gmock/gmock.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/dtype_conversion.h"
#include "megatron/checkpoint/save_checkpoint.h"

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SaveLoadTest : public CheckpointTest {
 protected:
  SavedCheckpoint save(int64_t iteration, const ShardedStateDict& state,
                       const nlohmann::json& common = {}) {
    return save_checkpoint(root_, iteration, state, common, world_of_one());
  }
};

TEST_F(SaveLoadTest, RoundTripIsExactForEveryType) {
  ShardedStateDict state;
  for (const auto dtype :
       {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf, at::kLong, at::kBool}) {
    state.push_back(whole(c10::toString(dtype), numbered({7, 3}, dtype)));
  }
  state.push_back(whole("nan", at::full({2}, std::nan(""))));
  state.push_back(whole("step", at::full({}, 41, at::kLong)));
  state.push_back(whole("nothing", at::empty({0, 4})));
  const auto saved = save(41, state, {{"consumed_samples", 123456789012345}, {"lr", 0.1}});
  EXPECT_EQ(saved.directory, root_ / "iter_0000041");
  EXPECT_GT(saved.bytes, 0);

  auto reader = CheckpointReader::open(root_);
  EXPECT_EQ(reader.iteration(), 41);
  EXPECT_EQ(reader.common()["consumed_samples"], 123456789012345);
  EXPECT_EQ(reader.common()["lr"], 0.1);
  ShardedStateDict loaded;
  for (const auto& part : state) {
    auto copy = part;
    copy.data = at::ones_like(part.data);
    loaded.push_back(copy);
  }
  EXPECT_THAT(reader.load(loaded), ElementsAre());
  for (size_t i = 0; i < state.size(); ++i) {
    EXPECT_TRUE(at::allclose(loaded[i].data.to(at::kDouble), state[i].data.to(at::kDouble), 0, 0,
                             /*equal_nan=*/true))
        << state[i].key;
    EXPECT_TRUE(at::equal(reader.load_tensor("step"), at::full({}, 41, at::kLong)));
  }
}

TEST_F(SaveLoadTest, WritesTheDocumentedFiles) {
  save(123, {whole("w", numbered({4}))});
  EXPECT_THAT(names_in(root_), ElementsAre("iter_0000123", "latest_checkpointed_iteration.txt"));
  EXPECT_THAT(names_in(root_ / "iter_0000123"),
              ElementsAre("index.json", "shard-00000-of-00001.safetensors"));
  EXPECT_EQ(read_file(root_ / "latest_checkpointed_iteration.txt"), "123");
}

TEST_F(SaveLoadTest, LoadsIntoStridedViewsAndParameters) {
  save(1, {whole("w", numbered({4, 6})), whole("v", numbered({4, 6}))});
  auto base = at::zeros({6, 4});
  auto parameter = at::zeros({4, 6}).requires_grad_();
  auto reader = CheckpointReader::open(root_);
  reader.load({whole("w", base.t()), whole("v", parameter)});
  EXPECT_TRUE(at::equal(base, numbered({4, 6}).t()));
  EXPECT_TRUE(at::equal(parameter, numbered({4, 6})));
  EXPECT_TRUE(parameter.is_leaf() && parameter.requires_grad());
}

TEST_F(SaveLoadTest, ReturnsUnrequestedKeys) {
  save(1, {whole("a", numbered({2})), whole("b", numbered({2})), whole("c", numbered({2}))});
  EXPECT_THAT(CheckpointReader::open(root_).load({whole("b", at::zeros({2}))}),
              ElementsAre("a", "c"));
}

TEST_F(SaveLoadTest, WritesReplicaZeroAndLoadsAll) {
  auto copy = whole("w", at::full({3}, -1.0));
  copy.replica_id = 1;
  save(1, {whole("w", numbered({3})), copy});
  CheckpointReader::open(root_).load({copy});
  EXPECT_TRUE(at::equal(copy.data, numbered({3})));
}

TEST_F(SaveLoadTest, LoadsTheTrackedOrAGivenIteration) {
  for (const int64_t iteration : {10, 20}) {
    save(iteration, {whole("w", at::full({2}, static_cast<double>(iteration)))});
  }
  EXPECT_EQ(latest_iteration(root_), 20);
  EXPECT_THAT(stored_iterations(root_), ElementsAre(10, 20));
  EXPECT_EQ(CheckpointReader::open(root_).iteration(), 20);
  EXPECT_EQ(CheckpointReader::open(root_, 10).load_tensor("w")[0].item<float>(), 10);
  EXPECT_EQ(CheckpointReader::open(root_ / "iter_0000010").iteration(), 10);
  EXPECT_EQ(CheckpointReader::open(root_ / "iter_0000010/").iteration(), 10);
}

TEST_F(SaveLoadTest, SavingAgainReplacesTheCheckpoint) {
  save(5, {whole("w", numbered({3})), whole("old", numbered({3}))});
  save(5, {whole("w", at::full({3}, 9.0))});
  EXPECT_THAT(CheckpointReader::open(root_).keys(), ElementsAre("w"));
  EXPECT_EQ(CheckpointReader::open(root_).load_tensor("w")[0].item<float>(), 9);
  EXPECT_THAT(names_in(root_), ElementsAre("iter_0000005", "latest_checkpointed_iteration.txt"));
}

TEST_F(SaveLoadTest, MissingCheckpointsAreNamed) {
  EXPECT_EQ(latest_iteration(root_), std::nullopt);
  EXPECT_THAT(error_of([&] { CheckpointReader::open(root_ / "nowhere"); }), HasSubstr("nowhere"));
  EXPECT_THAT(error_of([&] { CheckpointReader::open(root_); }),
              HasSubstr("latest_checkpointed_iteration.txt"));
  save(10, {whole("w", numbered({3}))});
  EXPECT_THAT(error_of([&] { CheckpointReader::open(root_, 11); }),
              HasSubstr("there is no iter_0000011; it holds iterations 10"));
  write_file(root_ / kTrackerFile, "12\n");
  EXPECT_THAT(error_of([&] { CheckpointReader::open(root_); }),
              HasSubstr("iteration 12 (from latest_checkpointed_iteration.txt)"));
  write_file(root_ / kTrackerFile, "twelve");
  EXPECT_THAT(error_of([&] { CheckpointReader::open(root_); }), HasSubstr("but got 'twelve'"));
  std::filesystem::remove(root_ / kTrackerFile);
  EXPECT_THAT(error_of([&] { CheckpointReader::open(root_); }),
              HasSubstr("it holds iterations 10"));
  std::filesystem::create_directory(root_ / "iter_0000013");
  EXPECT_THAT(error_of([&] { CheckpointReader::open(root_ / "iter_0000013"); }),
              HasSubstr("Expected index.json"));
  write_file(root_ / "iter_0000013/metadata.json", "{}");
  EXPECT_THAT(error_of([&] { CheckpointReader::open(root_ / "iter_0000013"); }),
              HasSubstr("Megatron-LM"));
}

TEST_F(SaveLoadTest, InvalidRequestsChangeNothing) {
  save(1, {whole("decoder.weight", numbered({4, 2})), whole("b", numbered({2}))});
  auto reader = CheckpointReader::open(root_);
  const auto good = whole("b", at::full({2}, -1.0));
  EXPECT_THAT(error_of([&] {
                reader.load({good, whole("decoder.wieght", at::zeros({4, 2}))});
              }),
              HasSubstr("nearest is 'decoder.weight'"));
  EXPECT_THAT(error_of([&] {
                reader.load({good, whole("decoder.weight", at::zeros({4, 3}))});
              }),
              HasSubstr("Expected global shape [4, 3] of 'decoder.weight', but the checkpoint"));
  EXPECT_THAT(error_of([&] {
                reader.load({good, whole("decoder.weight", at::zeros({5, 2}))});
              }),
              HasSubstr("has [4, 2]"));
  auto outside = whole("decoder.weight", at::zeros({4, 2}));
  outside.global_offset = {1, 0};
  EXPECT_THAT(error_of([&] { reader.load({good, outside}); }), HasSubstr("lie within"));
  EXPECT_TRUE(at::equal(good.data, at::full({2}, -1.0)));
}

TEST_F(SaveLoadTest, LossyConversionsMustBeAllowed) {
  save(1, {whole("bf16", numbered({4}, at::kBFloat16)), whole("fp32", numbered({4}))});
  auto reader = CheckpointReader::open(root_);
  const auto wide = whole("bf16", at::zeros({4}));
  reader.load({wide});
  EXPECT_TRUE(at::equal(wide.data, numbered({4})));
  const auto narrow = whole("fp32", at::zeros({4}, at::kBFloat16));
  EXPECT_THAT(error_of([&] { reader.load({narrow}); }),
              HasSubstr("converts to bf16 without loss, but it is stored as fp32"));
  LoadOptions options;
  options.allow_lossy_conversion = true;
  reader.load({narrow}, options);
  EXPECT_TRUE(at::equal(narrow.data, numbered({4}, at::kBFloat16)));
}

TEST(DtypeConversionTest, LosslessConversionsKeepEveryValue) {
  EXPECT_TRUE(is_lossless_conversion(at::kHalf, at::kFloat));
  EXPECT_TRUE(is_lossless_conversion(at::kFloat, at::kDouble));
  EXPECT_TRUE(is_lossless_conversion(at::kByte, at::kShort));
  EXPECT_TRUE(is_lossless_conversion(at::kBool, at::kChar));
  EXPECT_FALSE(is_lossless_conversion(at::kBFloat16, at::kHalf));
  EXPECT_FALSE(is_lossless_conversion(at::kHalf, at::kBFloat16));
  EXPECT_FALSE(is_lossless_conversion(at::kDouble, at::kFloat));
  EXPECT_FALSE(is_lossless_conversion(at::kLong, at::kDouble));
  EXPECT_FALSE(is_lossless_conversion(at::kChar, at::kUInt16));
  EXPECT_FALSE(is_lossless_conversion(at::kByte, at::kChar));
}

TEST_F(SaveLoadTest, PaddingMayDifferIfAllowed) {
  save(1, {whole("vocabulary", numbered({6, 2}))});
  auto reader = CheckpointReader::open(root_);
  auto longer = whole("vocabulary", at::full({8, 2}, -1.0));
  longer.allow_shape_mismatch = true;
  reader.load({longer});
  EXPECT_TRUE(at::equal(longer.data.narrow(0, 0, 6), numbered({6, 2})));
  EXPECT_TRUE(at::equal(longer.data.narrow(0, 6, 2), at::full({2, 2}, -1.0)));

  auto second_half = part_of("vocabulary", at::zeros({2, 2}), {4, 2}, 0, 1);
  second_half.allow_shape_mismatch = true;
  reader.load({second_half});
  EXPECT_TRUE(at::equal(second_half.data, numbered({6, 2}).narrow(0, 2, 2)));

  auto wider = whole("vocabulary", at::zeros({6, 3}));
  wider.allow_shape_mismatch = true;
  EXPECT_THAT(error_of([&] { reader.load({wider}); }), HasSubstr("[6, 3]"));
}

TEST_F(SaveLoadTest, InvalidShardsFailTheSave) {
  const auto expect = [&](const ShardedStateDict& state, const std::string& text) {
    EXPECT_THAT(error_of([&] { save(1, state); }), HasSubstr(text));
    EXPECT_THAT(names_in(root_), ElementsAre());
  };
  expect({part_of("w", numbered({2}), {4}, 0, 0)}, "'w' to cover all 4 elements");
  expect({whole("w", numbered({2})), whole("w", numbered({2}))}, "overlap");
  expect({part_of("w", numbered({3}), {4}, 0, 1)}, "lie within its global shape [4]");
  expect({part_of("w", numbered({2}), {4}, 0, 0),
          part_of("w", numbered({2}, at::kBFloat16), {4}, 0, 1)},
         "agree in data type");
  expect({whole("w", at::Tensor(at::empty({0}))), ShardedTensor{"u", {}, {1}, {0}, 0, false}},
         "undefined");
  EXPECT_THAT(error_of([&] { save(-1, {}); }), HasSubstr("at least 0"));
}

TEST_F(SaveLoadTest, NamesADirectoryThatCannotBeCreated) {
  write_file(root_ / "file", "x");
  EXPECT_THAT(error_of([&] {
                save_checkpoint(root_ / "file", 1, {whole("w", numbered({2}))}, {}, world_of_one());
              }),
              HasSubstr("file"));
}

}  // namespace
}  // namespace megatron
