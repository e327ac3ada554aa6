// Complete tokenizer.json files of every model against Hugging Face's ids and texts.
#include "megatron/tokenizers/pipeline_tokenizer.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/tokenizers/tokenizer_folder.h"

#include "tests/tokenizers/generated_texts.h"
#include "tests/tokenizers/tokenizer_fixtures.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A stored file with other members, as a case of expected.json has them.
nlohmann::json changed_file(const nlohmann::json& one) {
  auto root = nlohmann::json::parse(slurp(tokenizer_golden_path(one["file"])));
  for (const auto& [key, value] : one["changes"].items()) {
    if (key == "model") {
      root["model"].update(value);
    } else {
      root[key] = value;
    }
  }
  return root;
}

TEST(PipelineTokenizer, AgreesWithHuggingFace) {
  const auto& cases = tokenizer_golden()["tokenizers"];
  ASSERT_EQ(cases.size(), 23u);
  TemporaryFolder folder;
  for (const auto& one : cases) {
    SCOPED_TRACE(one["file"].get<std::string>() + " " + one["changes"].dump());
    spill(folder / "tokenizer.json", changed_file(one).dump());
    expect_digests(*load_tokenizer_json(folder / "tokenizer.json"), one["kinds"]);
    const auto with_specials =
        load_tokenizer_json(folder / "tokenizer.json", {.special_tokens = true});
    EXPECT_EQ(with_specials->encode("In the word"),
              one["with_special_tokens"].get<std::vector<int64_t>>());
    EXPECT_EQ(with_specials->last_safe_cut("many words and spaces", 20), 0u);
  }
}

// The path for byte-level BPE and the general one are the same tokenizer.
TEST(PipelineTokenizer, AgreesWithTheFastPath) {
  TemporaryFolder folder;
  int compared = 0;
  for (const auto& one : tokenizer_golden()["tokenizers"]) {
    if (one["file"] != "../data/hf_tiny/tokenizer.json") continue;
    spill(folder / "tokenizer.json", changed_file(one).dump());
    const auto general = load_tokenizer_json(folder / "tokenizer.json", {.fast_path = false});
    expect_digests(*general, one["kinds"]);
    const auto fast = load_tokenizer_json(folder / "tokenizer.json");
    for (int64_t id = 0; id < fast->vocab_size(); ++id) {
      // The general path has no text for what is not UTF-8.
      if (valid_utf8_prefix(fast->token_bytes(id)) == fast->token_bytes(id).size()) {
        EXPECT_EQ(fast->token_bytes(id), general->token_bytes(id)) << id;
      }
    }
    ++compared;
  }
  EXPECT_EQ(compared, 5);
}

TEST(PipelineTokenizer, AgreesWithHuggingFaceOnLargeVocabularies) {
  expect_digests(gpt2(), tokenizer_golden()["gpt2"]);
  expect_digests(smollm2(), tokenizer_golden()["smollm2"]);
}

TEST(PipelineTokenizer, KnowsWhatATokenAddsToAText) {
  const auto llama = load_tokenizer_json(tokenizer_golden_path("llama.json"));
  EXPECT_EQ(llama->eod(), 2);
  EXPECT_EQ(llama->token_bytes(3 + 0x0A), "\n");
  EXPECT_EQ(llama->token_bytes(3 + 0xE2), "\xe2");
  const auto ids = llama->encode("In the beginning");
  EXPECT_EQ(llama->decode(ids), "In the beginning");
  EXPECT_EQ(llama->continuation(ids), " In the beginning");
  const auto lengths = llama->token_byte_lengths();
  EXPECT_EQ(lengths[3 + 0xE2], 1);
  EXPECT_EQ(lengths[2], 0);
  const auto word_piece = load_tokenizer_json(tokenizer_golden_path("word_piece.json"));
  const auto more = word_piece->encode("in the beginning");
  EXPECT_EQ(word_piece->decode(more), "in the beginning");
  EXPECT_EQ(word_piece->continuation(more), " in the beginning");
  EXPECT_THROW(llama->token_bytes(llama->vocab_size()), Error);
  EXPECT_THROW(llama->decode(std::vector<int64_t>{-1}), Error);
}

TEST(PipelineTokenizer, ReadsBytesThatAreNotUtf8AsReplacementCharacters) {
  const auto llama = load_tokenizer_json(tokenizer_golden_path("llama.json"));
  EXPECT_EQ(llama->encode("a\xff\xe2\x82z"), llama->encode("a\ufffd\ufffdz"));
  for (const char* file : {"unigram.json", "word_piece.json", "clip.json", "word_level.json"}) {
    const auto tokenizer = load_tokenizer_json(tokenizer_golden_path(file));
    EXPECT_EQ(tokenizer->encode("x\xf0\x9f\x98 y"), tokenizer->encode("x\ufffd y")) << file;
    EXPECT_TRUE(tokenizer->encode("").empty());
  }
}

TEST(PipelineTokenizer, CountsBytesWithoutAToken) {
  auto root = nlohmann::json::parse(slurp(tokenizer_golden_path("llama.json")));
  root["model"]["unk_token"] = nullptr;
  root["model"]["byte_fallback"] = false;
  TemporaryFolder folder;
  spill(folder / "tokenizer.json", root.dump());
  const auto tokenizer = load_tokenizer_json(folder / "tokenizer.json");
  const auto encoder = tokenizer->make_encoder();
  std::vector<int64_t> ids;
  encoder->encode("a\U0001f600b\U0001f600", ids);
  EXPECT_EQ(encoder->bytes_left_out(), 8);
}

TEST(PipelineTokenizer, EncodesAMegabyteInReasonableTime) {
  // Without a pre-tokenizer a text is one word. Quadratic merging would take hours.
  auto root = nlohmann::json::parse(slurp(tokenizer_golden_path("llama.json")));
  root["added_tokens"].erase(root["added_tokens"].size() - 1);  // two spaces
  TemporaryFolder folder;
  spill(folder / "tokenizer.json", root.dump());
  const auto llama = load_tokenizer_json(folder / "tokenizer.json");
  const std::string book = kjv().substr(0, size_t{1} << 20);
  EXPECT_EQ(llama->decode(llama->encode(book)), book);
  const std::string letters(size_t{1} << 18, 'a');
  EXPECT_EQ(llama->decode(llama->encode(letters)), letters);
}

// The parts that CharacterBpe encodes on their own give the ids of the whole.
TEST(PipelineTokenizer, DividesLongWordsWithoutAChange) {
  auto root = nlohmann::json::parse(slurp(tokenizer_golden_path("llama.json")));
  TemporaryFolder folder;
  spill(folder / "parts.json", root.dump());
  // With a token that holds a letter and then the mark, only other places divide.
  root["model"]["vocab"]["e\u2581"] = 900;
  auto& merges = root["model"]["merges"];
  merges.insert(merges.begin(), nlohmann::json::array({"e", "\u2581"}));
  spill(folder / "joined.json", root.dump());
  const auto parts = load_tokenizer_json(folder / "parts.json");
  const auto joined = load_tokenizer_json(folder / "joined.json");
  EXPECT_EQ(joined->decode(joined->encode("be of we a")), "be of we a");
  EXPECT_NE(joined->encode("we a"), parts->encode("we a"));
}

TEST(HuggingFaceTokenizer, ReadsAFolder) {
  TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { load_hugging_face_tokenizer(folder / "."); }),
              HasSubstr("none of them"));
  std::filesystem::copy_file(golden_path("gpt2/vocab.json"), folder / "vocab.json");
  std::filesystem::copy_file(golden_path("gpt2/merges.txt"), folder / "merges.txt");
  EXPECT_EQ(load_hugging_face_tokenizer(folder / ".")->vocab_size(), 50257);
  EXPECT_THAT(error_of([&] { load_hugging_face_tokenizer(folder / ".", true); }),
              HasSubstr("--tokenizer-hf-include-special-tokens"));
  std::filesystem::copy_file(tokenizer_golden_path("spm.model"), folder / "tokenizer.model");
  EXPECT_EQ(load_hugging_face_tokenizer(folder / ".")->vocab_size(), 32000);
  EXPECT_THAT(load_hugging_face_tokenizer(folder / ".", true)->encode("Hello world"),
              ElementsAre(1, 22557, 1526));
  spill(folder / "tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
  EXPECT_THAT(load_hugging_face_tokenizer(folder / ".", true)->encode("Hello world"),
              ElementsAre(22557, 1526, 2));
  std::filesystem::copy_file(tokenizer_golden_path("word_piece.json"), folder / "tokenizer.json");
  spill(folder / "tokenizer_config.json", R"({"eos_token": "[SEP]"})");
  const auto tokenizer = load_hugging_face_tokenizer(folder / ".", true);
  EXPECT_EQ(tokenizer->eod(), 3);
  EXPECT_EQ(tokenizer->encode("the").front(), 2);
}

}  // namespace
}  // namespace megatron
