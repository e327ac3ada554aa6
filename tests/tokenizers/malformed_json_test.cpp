// Damaged tokenizer.json files are refused, or load and encode: none of them crashes or hangs.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "tests/tokenizers/generated_texts.h"
#include "tests/tokenizers/tokenizer_fixtures.h"

namespace megatron {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class MalformedJsonTest : public ::testing::Test {
 protected:
  std::unique_ptr<Tokenizer> load(const std::string& text) {
    spill(folder_ / "tokenizer.json", text);
    return load_tokenizer_json(folder_ / "tokenizer.json", {.special_tokens = true});
  }
  json file(const char* name) { return json::parse(slurp(tokenizer_golden_path(name))); }
  std::string error(const json& root) {
    return error_of([&] { load(root.dump()); });
  }

  TemporaryFolder folder_;
};

constexpr const char* kFiles[] = {"llama.json",   "clip.json",       "prefixed.json",
                                  "unigram.json", "word_piece.json", "word_level.json"};

// Values that do not belong where they are put.
const std::vector<json>& strange_values() {
  static const std::vector<json> values = {nullptr,
                                           true,
                                           -1,
                                           0,
                                           3,
                                           1e300,
                                           16777216,
                                           4294967296,
                                           "",
                                           "a",
                                           "\u2581",
                                           "Sequence",
                                           json::array(),
                                           json::object(),
                                           json::array({1, "a"}),
                                           json::array({"a", "b"}),
                                           {{"type", "Sequence"}},
                                           {{"type", "ByteLevel"}},
                                           {{"Regex", "(a*)*b"}},
                                           {{"String", ""}}};
  return values;
}

// Paths of members and elements, at most three elements of each list or table.
void collect_places(const json& value, const json::json_pointer& here,
                    std::vector<json::json_pointer>& places) {
  if (!value.is_structured()) return;
  int taken = 0;
  for (const auto& [key, member] : value.items()) {
    if (value.size() > 20 && ++taken > 3) break;
    const auto place = value.is_array() ? here / std::stoull(key) : here / key;
    places.push_back(place);
    collect_places(member, place, places);
  }
}

TEST_F(MalformedJsonTest, SurvivesStrangeValuesAnywhere) {
  int refused = 0;
  int loaded = 0;
  for (const char* name : kFiles) {
    json root = file(name);
    // Small vocabularies make many rounds quick.
    if (root["model"]["vocab"].is_array()) {
      root["model"]["vocab"].erase(root["model"]["vocab"].begin() + 60,
                                   root["model"]["vocab"].end());
    }
    std::vector<json::json_pointer> places;
    collect_places(root, json::json_pointer(), places);
    ASSERT_GT(places.size(), 20u);
    size_t next = 0;
    for (const auto& place : places) {
      for (int i = 0; i < 2; ++i) {
        json changed = root;
        changed[place] = strange_values()[next++ % strange_values().size()];
        try {
          const auto tokenizer = load(changed.dump());
          tokenizer->decode(tokenizer->encode("In the <x> b\xffginning\u2581 \u00e9\n"));
          ++loaded;
        } catch (const Error&) {
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(refused, 200);
  EXPECT_GT(loaded, 50);
}

TEST_F(MalformedJsonTest, RefusesCutFiles) {
  for (const char* name : kFiles) {
    const std::string text = slurp(tokenizer_golden_path(name));
    for (size_t part = 0; part < 20; ++part) {
      EXPECT_THROW(load(text.substr(0, text.size() * part / 20)), Error) << name;
    }
  }
}

TEST_F(MalformedJsonTest, RefusesIdsThatContradictEachOther) {
  json root = file("word_level.json");
  root["model"]["vocab"]["again"] = 5;
  EXPECT_THAT(error(root), HasSubstr("one token per id"));
  root = file("llama.json");
  root["added_tokens"].push_back({{"id", 2}, {"content", "<other>"}});
  EXPECT_THAT(error(root), HasSubstr("'</s>' and '<other>' both have 2"));
  root = file("llama.json");
  root["added_tokens"].push_back({{"id", 900}, {"content", "</s>"}});
  EXPECT_THAT(error(root), HasSubstr("'</s>' has 2 and 900"));
  root = file("llama.json");
  root["added_tokens"].push_back({{"id", 900}, {"content", "<new>"}});
  root["added_tokens"].push_back({{"id", 901}, {"content", "<new>"}});
  EXPECT_THAT(error(root), HasSubstr("'<new>' has 900 and 901"));
  root = file("llama.json");
  root["added_tokens"].push_back({{"id", 1 << 24}, {"content", "<new>"}});
  EXPECT_THAT(error(root), HasSubstr("added_tokens["));
  root = file("unigram.json");
  root["model"]["unk_id"] = 5000;
  EXPECT_THAT(error(root), HasSubstr("model.unk_id"));
  root["model"]["unk_id"] = nullptr;
  EXPECT_THAT(error(root), HasSubstr("model.unk_id"));
  root = file("word_piece.json");
  root["model"]["unk_token"] = "[GONE]";
  EXPECT_THAT(error(root), HasSubstr("model.unk_token"));
}

TEST_F(MalformedJsonTest, EndsOnMergesThatLeadNowhere) {
  json root = file("llama.json");
  json& vocab = root["model"]["vocab"];
  vocab[""] = vocab.size();
  // The results are one of the parts.
  root["model"]["merges"] = json::array({json::array({"", "a"}), json::array({"a", ""})});
  EXPECT_EQ(load(root.dump())->decode(load(root.dump())->encode("aaa")), "aaa");
  root["model"]["merges"] = json::array({json::array({"a", "b"})});
  vocab.erase("ab");
  EXPECT_THAT(error(root), HasSubstr("'ab'"));
  root = file("prefixed.json");
  root["model"]["merges"] =
      json::array({json::array({"a", "b"})});  // shorter than the prefix of continued words
  EXPECT_THAT(error(root), HasSubstr("shorter"));
}

TEST_F(MalformedJsonTest, NamesUnsupportedParts) {
  json root = file("llama.json");
  root["decoder"] = {{"type", "CTC"}};
  EXPECT_THAT(error(root), HasSubstr("but got CTC"));
  root = file("llama.json");
  root["model"]["dropout"] = 0.1;
  EXPECT_THAT(error(root), HasSubstr("model.dropout"));
  root = file("llama.json");
  root["model"]["type"] = "Transformer";
  EXPECT_THAT(error(root), HasSubstr("BPE, Unigram, WordPiece or WordLevel"));
  root = file("llama.json");
  root["version"] = "2.0";
  EXPECT_THAT(error(root), HasSubstr("version"));
  root = file("llama.json");
  root["post_processor"] = {{"type", "Other"}};
  EXPECT_THAT(error(root), HasSubstr("post_processor"));
  root = file("word_piece.json");
  root["post_processor"]["single"].push_back({{"Sequence", {{"id", "B"}, {"type_id", 0}}}});
  EXPECT_THAT(error(root), HasSubstr("one $A"));
  root = file("word_piece.json");
  root["post_processor"]["special_tokens"].erase("[CLS]");
  EXPECT_THAT(error(root), HasSubstr("'[CLS]'"));
  root = file("word_piece.json");
  root["post_processor"]["special_tokens"]["[CLS]"]["ids"] = {100000};
  EXPECT_THAT(error(root), HasSubstr("below"));
}

}  // namespace
}  // namespace megatron
