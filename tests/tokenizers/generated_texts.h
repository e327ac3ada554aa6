// The texts of tests/golden/tokenizer, made by the rule of its README, and digests of results.
#pragma once

#include <bit>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "megatron/tokenizers/text/utf8.h"
#include "megatron/tokenizers/tokenizer.h"

#include "tests/data/golden.h"
#include "tests/data/sha256.h"

namespace megatron {

inline std::string tokenizer_golden_path(const std::string& name) {
  return std::string(TEST_DATA_DIR) + "/tokenizer/" + name;
}

inline const nlohmann::json& tokenizer_golden() {
  static const auto expected = nlohmann::json::parse(slurp(tokenizer_golden_path("expected.json")));
  return expected;
}

inline std::vector<std::string> make_texts(const std::string& kind, const nlohmann::json& atoms) {
  constexpr int kTexts = 2000;
  uint64_t state = std::stoull(sha256_hex(kind).substr(0, 16), nullptr, 16);
  state = __builtin_bswap64(state);
  const auto draw = [&] {
    state += 0x9E3779B97F4A7C15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  };
  std::vector<std::string> texts;
  for (int i = 0; i < kTexts; ++i) {
    std::string text;
    for (uint64_t left = 1 + draw() % 12; left > 0; --left) {
      const auto& atom = atoms[draw() % atoms.size()];
      if (atom.is_string()) {
        text += atom.get<std::string>();
      } else {
        const auto first = atom[0].get<uint32_t>();
        append_utf8(first + static_cast<uint32_t>(draw() % (atom[1].get<uint32_t>() - first + 1)),
                    text);
      }
    }
    texts.push_back(text);
  }
  return texts;
}

inline const std::vector<std::string>& texts_of(const std::string& kind) {
  static const auto all = [] {
    std::map<std::string, std::vector<std::string>> texts;
    const auto kinds = nlohmann::json::parse(slurp(tokenizer_golden_path("kinds.json")));
    for (const auto& [name, atoms] : kinds.items()) texts[name] = make_texts(name, atoms);
    return texts;
  }();
  return all.at(kind);
}

inline void append_number(size_t number, std::string& bytes) {
  const auto word = static_cast<uint32_t>(number);
  bytes.append(reinterpret_cast<const char*>(&word), sizeof word);
}

inline std::string digest_of_texts(const std::vector<std::string>& texts) {
  std::string bytes;
  for (const auto& text : texts) {
    append_number(text.size(), bytes);
    bytes += text;
  }
  return sha256_hex(bytes);
}

inline std::string digest_of_ids(const std::vector<std::vector<int64_t>>& lists) {
  std::string bytes;
  for (const auto& ids : lists) {
    append_number(ids.size(), bytes);
    for (const int64_t id : ids) append_number(static_cast<size_t>(id), bytes);
  }
  return sha256_hex(bytes);
}

// Compares ids and decoded texts of every kind with `kinds`: {"scripts": {"ids", "tokens", "text"}}.
// Decoded bytes that are not UTF-8 count as U+FFFD, as in Hugging Face's decoders.
inline void expect_digests(const Tokenizer& tokenizer, const nlohmann::json& kinds) {
  ASSERT_EQ(kinds.size(), 6u);
  for (const auto& [kind, expected] : kinds.items()) {
    const auto encoder = tokenizer.make_encoder();
    std::vector<std::vector<int64_t>> lists;
    std::vector<std::string> decoded;
    size_t tokens = 0;
    for (const auto& text : texts_of(kind)) {
      lists.emplace_back();
      encoder->encode(text, lists.back());
      tokens += lists.back().size();
      decoded.push_back(with_replacements(tokenizer.decode(lists.back())));
    }
    EXPECT_EQ(tokens, expected["tokens"].get<size_t>()) << kind;
    EXPECT_EQ(digest_of_ids(lists), expected["ids"].get<std::string>()) << kind;
    EXPECT_EQ(digest_of_texts(decoded), expected["text"].get<std::string>()) << kind;
  }
}

}  // namespace megatron
