#include "megatron/checkpoint/checkpoint_summary.h"

#include <gmock/gmock.h>

#include "megatron/checkpoint/fingerprint.h"
#include "megatron/checkpoint/save_checkpoint.h"
#include "megatron/formats/safetensors_writer.h"

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CheckpointSummaryTest : public CheckpointTest {
 protected:
  void save(int64_t iteration) {
    auto fingerprint = Fingerprint::of_this_process();
    fingerprint.backend = "none";
    const nlohmann::json common = {
        {"consumed_samples", 640},
        {"fingerprint", to_json(fingerprint)},
        {"options", {{"num_layers", 11}, {"hidden_size", 4}, {"num_query_groups", nullptr}}}};
    save_checkpoint(root_, iteration,
                    {whole("embedding.word_embeddings.weight", numbered({32, 4})),
                     whole("decoder.layers.10.w", numbered({2, 3}, at::kBFloat16)),
                     whole("decoder.layers.2.w", numbered({2, 3}, at::kBFloat16)),
                     part_of("optimizer.state.exp_avg.w", numbered({2}), {4}, 0, 0),
                     part_of("optimizer.state.exp_avg.w", numbered({2}), {4}, 0, 1)},
                    common, world_of_one());
  }
};

TEST_F(CheckpointSummaryTest, ListsTensorsAndTotals) {
  save(5);
  save(6);
  for (const auto& path : {root_, root_ / "iter_0000006/"}) {
    const auto summary = summarize_checkpoint(path);
    EXPECT_EQ(summary["kind"], "checkpoint");
    EXPECT_EQ(summary["stored_iterations"], nlohmann::json({5, 6}));
    EXPECT_EQ(summary["iteration"], 6);
    EXPECT_EQ(summary["layout"], "TP=1 x PP=1 x CP=1 x DP=1, 1 rank (none), 1 thread each");
    std::vector<std::string> keys;
    for (const auto& row : summary["tensors"]) keys.push_back(row["key"]);
    EXPECT_THAT(keys, ElementsAre("decoder.layers.2.w", "decoder.layers.10.w",
                                  "embedding.word_embeddings.weight", "optimizer.state.exp_avg.w"));
    EXPECT_EQ(summary["tensors"][3], nlohmann::json({{"key", "optimizer.state.exp_avg.w"},
                                                     {"dtype", "fp32"},
                                                     {"shape", {4}},
                                                     {"chunks", 2},
                                                     {"elements", 4},
                                                     {"bytes", 16}}));
    EXPECT_EQ(summary["totals"]["parameters"], 128 + 6 + 6);
    EXPECT_EQ(summary["totals"]["other_elements"], 4);
    EXPECT_EQ(summary["totals"]["bytes"], 128 * 4 + 2 * 6 * 2 + 4 * 4);
    EXPECT_EQ(summary["model"]["num_layers"], 11);
    EXPECT_EQ(summary["model"]["embedding"], nlohmann::json({32, 4}));
  }
  EXPECT_EQ(summarize_checkpoint(root_, 5)["iteration"], 5);
}

TEST_F(CheckpointSummaryTest, TextHasFactsAndOneRowPerTensor) {
  save(6);
  const auto text = format_checkpoint_summary(summarize_checkpoint(root_));
  EXPECT_THAT(text, HasSubstr("iteration          6\n"));
  EXPECT_THAT(text, HasSubstr("written by         TP=1 x PP=1"));
  EXPECT_THAT(text, HasSubstr("consumed_samples   640\n"));
  EXPECT_THAT(text, HasSubstr("num_layers 11, hidden_size 4\n"));
  EXPECT_THAT(text, HasSubstr("decoder.layers.2.w                bf16   [2, 3]        1\n"));
  EXPECT_THAT(text, HasSubstr("optimizer.state.exp_avg.w         fp32   [4]           2\n"));
  EXPECT_THAT(text, HasSubstr("140 model parameters, 4 elements of optimizer state"));
}

TEST_F(CheckpointSummaryTest, ReadsPlainSafetensors) {
  const auto path = root_ / "model.safetensors";
  write_safetensors(path, {{"w", numbered({3, 2}, at::kHalf)}}, {{"format", "pt"}});
  const auto summary = summarize_checkpoint(path);
  EXPECT_EQ(summary["kind"], "safetensors");
  EXPECT_EQ(summary["metadata"]["format"], "pt");
  EXPECT_THAT(format_checkpoint_summary(summary), HasSubstr("w       fp16   [3, 2]       1\n"));
}

TEST_F(CheckpointSummaryTest, RefusesOtherPaths) {
  EXPECT_THAT(error_of([&] { summarize_checkpoint(root_ / "none"); }), HasSubstr("none"));
  write_file(root_ / "text", "text");
  EXPECT_THAT(error_of([&] { summarize_checkpoint(root_ / "text"); }),
              HasSubstr("safetensors file"));
}

}  // namespace
}  // namespace megatron
