#include "megatron/parity/parity_case.h"

#include <fstream>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::Property;
using testing::ThrowsMessage;

const std::string kCaseFolder = TEST_DATA_DIR "/megatron_core/";

// Copies a case to a temporary folder and changes its JSON file.
class ChangedCase : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
    std::filesystem::copy_file(kCaseFolder + "llama.safetensors", folder_ / "llama.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
    std::ifstream stream(kCaseFolder + "llama.json");
    json_ = nlohmann::json::parse(stream);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write() {
    std::ofstream(folder_ / "llama.json") << json_;
    return folder_ / "llama.json";
  }
  void configure() {
    Options options;
    ParityCase::open(write()).configure(options, false);
  }

  std::filesystem::path folder_;
  nlohmann::json json_;
};

TEST(ClosedForm, EqualsThePublishedValues) {
  const at::Tensor weight = closed_form_weight("decoder.layers.0.mlp.linear_fc1.weight", {4, 2});
  const float* values = weight.data_ptr<float>();
  EXPECT_FLOAT_EQ(values[0], 0.13160725f);
  EXPECT_FLOAT_EQ(values[1], -0.1223009f);
  EXPECT_FLOAT_EQ(values[2], 0.007579386f);
  const at::Tensor tokens = closed_form_integers("tokens.0.0", {2, 33}, 128);
  EXPECT_THAT(std::vector<int64_t>(tokens.data_ptr<int64_t>(), tokens.data_ptr<int64_t>() + 4),
              testing::ElementsAre(67, 93, 47, 74));
}

TEST(ClosedForm, EqualsTheStoredWeights) {
  const ParityCase stored = ParityCase::open(kCaseFolder + "llama.json");
  for (const std::string& name : stored.tensor_names()) {
    if (!name.starts_with("weight/")) continue;
    const at::Tensor weight = stored.tensor(name);
    EXPECT_TRUE(at::equal(closed_form_weight(name.substr(7), weight.sizes()), weight)) << name;
  }
}

TEST(ConfiguredCase, KeepsTheDtypeOfTheCommandLine) {
  const ParityCase parity_case = ParityCase::open(kCaseFolder + "llama.json");
  Options options;
  options.model.transformer.bf16 = true;  // as --bf16 sets it
  parity_case.configure(options, /*keep_params_dtype=*/true);
  EXPECT_TRUE(options.model.transformer.bf16);
  EXPECT_EQ(options.model.transformer.params_dtype, at::kBFloat16);
}

TEST_F(ChangedCase, UnknownFieldIsAnErrorThatNamesIt) {
  json_["unheard_of"] = 1;
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("'unheard_of'")));
}

TEST_F(ChangedCase, UnknownConfigurationFieldIsAnErrorThatNamesIt) {
  json_["transformer_config"]["moe_latent_size"] = 8;
  EXPECT_THAT([&] { configure(); }, ThrowsMessage<Error>(HasSubstr("moe_latent_size")));
}

TEST_F(ChangedCase, ResolvedFieldOfAnotherFeatureIsAnError) {
  json_["resolved"]["moe_latent_size"] = 32;
  EXPECT_THAT([&] { configure(); }, ThrowsMessage<Error>(HasSubstr("moe_latent_size")));
}

TEST_F(ChangedCase, MissingNumberIsAnErrorThatNamesIt) {
  json_.erase("steps");
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("'steps'")));
}

TEST_F(ChangedCase, SizesMustBePositiveIntegers) {
  for (const char* field : {"steps", "num_microbatches", "micro_batch_size", "seq_length"}) {
    const nlohmann::json right = json_[field];
    for (const nlohmann::json& wrong :
         {nlohmann::json(2.5), nlohmann::json(0), nlohmann::json("3"), nlohmann::json(nullptr)}) {
      json_[field] = wrong;
      EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr(field)))
          << wrong;
    }
    json_[field] = right;
  }
}

TEST_F(ChangedCase, FewerStepsThanTheResultsNeedIsAnError) {
  json_["steps"] = 2;
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("'step_loss'")));
  json_.erase("step_loss");
  json_.erase("step_grad_norm");
  EXPECT_THAT([&] { ParityCase::open(write()); },
              ThrowsMessage<Error>(HasSubstr("'weight_after3'")));
}

TEST_F(ChangedCase, MoreStepsThanStoredInputsIsAnErrorThatNamesTheTensor) {
  json_["steps"] = 4;
  json_.erase("step_loss");
  json_.erase("step_grad_norm");
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("input/tokens")));
}

TEST_F(ChangedCase, ResultsMustBeNumbers) {
  json_["step_loss"][1] = nullptr;
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("step_loss[1]")));
  json_["step_loss"][1] = "7.4";
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("step_loss[1]")));
}

TEST_F(ChangedCase, WeightStatisticsMustBeTheThreeKnownOnes) {
  nlohmann::json& norm = json_["weight_after3"]["decoder.final_layernorm.weight"];
  norm["l3"] = 1.0;
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("'l3'")));
  norm.erase("l3");
  norm.erase("moved_l2");
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("'moved_l2'")));
}

TEST_F(ChangedCase, IdsBeyondTheVocabularyAreAnErrorThatNamesTheTensor) {
  json_["gpt_model"]["vocab_size"] = 64;
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("input/tokens")));
}

TEST_F(ChangedCase, StoredMaskThatTheFieldContradictsIsAnError) {
  json_["loss_mask"] = "random";
  EXPECT_THAT([&] { ParityCase::open(write()); },
              ThrowsMessage<Error>(HasSubstr("input/loss_mask")));
}

TEST_F(ChangedCase, FieldInTheWrongSectionIsAnErrorThatNamesIt) {
  const nlohmann::json right = json_;
  const auto refuses = [&](const char* section, const char* field, const nlohmann::json& value) {
    json_ = right;
    json_[section][field] = value;
    EXPECT_THAT([&] { configure(); }, ThrowsMessage<Error>(HasSubstr(field))) << section;
  };
  refuses("transformer_config", "train_iters", 3);
  refuses("transformer_config", "tensor_model_parallel_size", 2);
  refuses("transformer_config", "vocab_size", 128);
  refuses("gpt_model", "num_layers", 2);
  refuses("gpt_model", "seq_length", 32);
  refuses("optimizer", "hidden_size", 64);
  refuses("optimizer", "lr_warmup_iters", 2);
  refuses("optimizer", "lr_decay_style", "cosine");
  refuses("optimizer", "min_lr", 1e-4);
  refuses("ddp", "seed", 1);
}

TEST_F(ChangedCase, ResolvedThatContradictsWhatWasSetIsAnError) {
  json_["transformer_config"]["hidden_dropout"] = 0.1;
  EXPECT_THAT([&] { configure(); }, ThrowsMessage<Error>(HasSubstr("'hidden_dropout'")));
}

TEST_F(ChangedCase, UnknownMaskIsAnError) {
  json_["loss_mask"] = "stripes";
  EXPECT_THAT([&] { ParityCase::open(write()); }, ThrowsMessage<Error>(HasSubstr("stripes")));
}

TEST_F(ChangedCase, MissingTensorsAreAnError) {
  const auto path = write();
  std::filesystem::remove(folder_ / "llama.safetensors");
  EXPECT_THROW(ParityCase::open(path), Error);
}

}  // namespace
}  // namespace megatron
