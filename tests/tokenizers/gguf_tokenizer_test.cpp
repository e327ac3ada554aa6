// GGUF's tokenizers: ids of the golden files, and the way to Hugging Face's files and back.
#include "megatron/tokenizers/gguf_tokenizer.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/formats/gguf_file.h"
#include "megatron/tokenizers/gguf_pre_tokenizers.h"
#include "megatron/tokenizers/sentencepiece_model.h"
#include "megatron/tokenizers/tokenizer_folder.h"

#include "tests/tokenizers/tokenizer_fixtures.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string gguf_case(const std::string& name) {
  return std::string(TEST_DATA_DIR) + "/gguf/" + name + "/";
}

GgufMetadata metadata_of(const std::string& name) {
  return GgufFile::open(gguf_case(name) + "model.gguf").metadata();
}

// The metadata with one entry changed, or left out.
GgufMetadata changed(const std::string& name, const std::string& key,
                     const std::optional<GgufValue>& value) {
  GgufMetadata result(name);
  const GgufMetadata original = metadata_of(name);
  for (const auto& [other, kept] : original.entries()) {
    if (other != key) result.add(other, kept);
  }
  if (value) result.add(key, *value);
  return result;
}

class GgufTokenizer : public testing::TestWithParam<const char*> {
 protected:
  nlohmann::json samples() const {
    return nlohmann::json::parse(
        slurp(gguf_case(GetParam()) + "tokenizer_expected.json"))["samples"];
  }
  void expect_samples_of(const Tokenizer& tokenizer) const {
    ASSERT_EQ(samples().size(), 12u);
    for (const auto& sample : samples()) {
      const auto ids = sample["ids"].get<std::vector<int64_t>>();
      EXPECT_EQ(tokenizer.encode(sample["text"].get<std::string>()), ids) << sample["text"];
      EXPECT_EQ(tokenizer.decode(ids), sample["decoded"].get<std::string>());
    }
  }
};

TEST_P(GgufTokenizer, IdsAreThoseOfTheOriginal) {
  expect_samples_of(*load_hugging_face_tokenizer(gguf_case(GetParam()) + "model.gguf"));
}

TEST_P(GgufTokenizer, FilesOfAFolderGiveTheSameIds) {
  const TemporaryFolder folder;
  for (const auto& [name, content] : tokenizer_files_of_gguf(metadata_of(GetParam())))
    spill(folder / name, content);
  const auto tokenizer = load_hugging_face_tokenizer(folder.path());
  expect_samples_of(*tokenizer);
  EXPECT_EQ(tokenizer->eod(), make_gguf_tokenizer(metadata_of(GetParam()))->eod());
}

TEST_P(GgufTokenizer, MetadataComeBackFromTheFiles) {
  const GgufMetadata original = metadata_of(GetParam());
  GgufMetadata written;
  add_gguf_tokenizer(tokenizer_files_of_gguf(original), 512, {}, written);
  for (const auto& [key, value] : original.entries()) {
    if (!key.starts_with("tokenizer.")) continue;
    ASSERT_TRUE(written.contains(key)) << key;
    EXPECT_TRUE(*written.find(key) == value) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, GgufTokenizer,
                         testing::Values("llama_f16", "llama3_q4_0", "qwen2_q8_0", "qwen3_q4_k_m"));

TEST(GgufTokenizerMetadata, BeginTokensAreAddedAsTheFileSays) {
  const auto with = make_gguf_tokenizer(metadata_of("llama_f16"), /*special_tokens=*/true);
  const auto without = make_gguf_tokenizer(metadata_of("llama_f16"));
  auto ids = without->encode("Hello world");
  ids.insert(ids.begin(), 1);
  EXPECT_EQ(with->encode("Hello world"), ids);
  const auto both = make_gguf_tokenizer(changed("qwen2_q8_0", "tokenizer.ggml.add_bos_token", true),
                                        /*special_tokens=*/true);
  EXPECT_EQ(both->encode("").front(), 0);
}

TEST(GgufTokenizerMetadata, ControlTokensAreMatchedInTextByByteLevelBpe) {
  const auto tokenizer = make_gguf_tokenizer(metadata_of("qwen2_q8_0"));
  EXPECT_EQ(tokenizer->encode("<|endoftext|>"), std::vector<int64_t>{0});
  EXPECT_EQ(tokenizer->eod(), 0);
}

TEST(GgufTokenizerMetadata, UnknownOnesAreRefusedByName) {
  const auto error = [](const char* name, const char* key, const std::optional<GgufValue>& value) {
    return error_of([&] { make_gguf_tokenizer(changed(name, key, value)); });
  };
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.pre", std::string("brand-new")),
              HasSubstr("'brand-new'"));
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.pre", std::nullopt), HasSubstr("'(none)'"));
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.model", std::string("rwkv")),
              HasSubstr("'rwkv'"));
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.model", std::nullopt),
              HasSubstr("--tokenizer-model"));
}

TEST(GgufTokenizerMetadata, ContradictionsAreRefused) {
  const auto error = [](const char* name, const char* key, const GgufValue& value) {
    return error_of([&] { make_gguf_tokenizer(changed(name, key, value)); });
  };
  using Texts = std::vector<std::string>;
  EXPECT_THAT(
      error("qwen2_q8_0", "tokenizer.ggml.token_type", GgufArray{std::vector<int32_t>(7, 1)}),
      HasSubstr("but got 7"));
  EXPECT_THAT(
      error("qwen2_q8_0", "tokenizer.ggml.token_type", GgufArray{std::vector<int32_t>(512, 9)}),
      HasSubstr("but got 9"));
  EXPECT_THAT(error("llama_f16", "tokenizer.ggml.scores", GgufArray{std::vector<float>(3)}),
              HasSubstr("but got 3"));
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.tokens", GgufArray{Texts{}}),
              HasSubstr("but got 0"));
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.tokens", GgufArray{Texts(512, "\xff")}),
              HasSubstr("UTF-8"));
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.merges", GgufArray{Texts{"ab"}}),
              HasSubstr("two tokens"));
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.merges", GgufArray{Texts{"qq zz"}}),
              HasSubstr("qq"));
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.eos_token_id", uint32_t{512}),
              HasSubstr("but got 512"));
  EXPECT_THAT(error("qwen2_q8_0", "tokenizer.ggml.tokens", uint32_t{1}), HasSubstr("UINT32"));
  // Every piece with a score but no unknown one.
  EXPECT_THAT(
      error("llama_f16", "tokenizer.ggml.token_type", GgufArray{std::vector<int32_t>(512, 1)}),
      HasSubstr("SentencePiece"));
}

TEST(GgufPreTokenizers, ComponentsNameTheEntryThatMadeThem) {
  for (const GgufPreTokenizer& entry : gguf_pre_tokenizers()) {
    const nlohmann::json tokenizer = {{"normalizer", normalizer_json(entry)},
                                      {"pre_tokenizer", pre_tokenizer_json(entry, false)},
                                      {"model", {{"ignore_merges", entry.ignore_merges}}}};
    EXPECT_EQ(&gguf_pre_tokenizer_of(tokenizer, "file"), &entry) << entry.names.front();
    for (const char* name : entry.names) EXPECT_EQ(&gguf_pre_tokenizer(name, "file"), &entry);
  }
}

TEST(GgufPreTokenizers, TokenizersOfModelsHaveTheirNames) {
  const auto name_of = [](const std::string& path) {
    return std::string(
        gguf_pre_tokenizer_of(nlohmann::json::parse(slurp(path)), path).names.front());
  };
  // transformers made this file from a GGUF file; it does not split digits.
  EXPECT_EQ(name_of(golden_path("smollm2/tokenizer.json")), "gpt-2");
  const std::string unknown = std::string(TEST_DATA_DIR) + "/tokenizer/clip.json";
  EXPECT_THAT(error_of([&] { name_of(unknown); }), HasSubstr("none of them"));
}

TEST(SentencePieceModel, RoundTripKeepsPieces) {
  const std::string path = std::string(TEST_DATA_DIR) + "/tokenizer/bpe.model";
  const SentencePieceModel model = parse_sentencepiece_model(slurp(path), path);
  const SentencePieceModel again =
      parse_sentencepiece_model(serialize_sentencepiece_model(model), "copy");
  ASSERT_EQ(again.pieces.size(), model.pieces.size());
  EXPECT_GT(model.pieces.size(), 100u);
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    EXPECT_EQ(again.pieces[i].text, model.pieces[i].text);
    EXPECT_EQ(again.pieces[i].score, model.pieces[i].score);
    EXPECT_EQ(again.pieces[i].type, model.pieces[i].type);
  }
  EXPECT_EQ(again.type, model.type);
  EXPECT_EQ(again.add_dummy_prefix, model.add_dummy_prefix);
  EXPECT_THAT(error_of([] { parse_sentencepiece_model("\x0a\x7f", "damaged"); }),
              HasSubstr("damaged"));
}

}  // namespace
}  // namespace megatron
