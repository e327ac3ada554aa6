// Tokenizers and helpers that several tokenizer tests use.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/tokenizers/tokenizer_json.h"
#include "megatron/tokenizers/vocab_merges.h"

#include "tests/data/golden.h"

namespace megatron {

inline const Tokenizer& gpt2() {
  static const auto tokenizer =
      load_vocab_merges(golden_path("gpt2/vocab.json"), golden_path("gpt2/merges.txt"));
  return *tokenizer;
}

inline const Tokenizer& smollm2() {
  static const auto tokenizer = load_tokenizer_json(golden_path("smollm2/tokenizer.json"));
  return *tokenizer;
}

// The tokenizer in examples/data.
inline const Tokenizer& kjv4096() {
  static const auto tokenizer =
      load_tokenizer_json(std::string(EXAMPLES_DIR) + "/data/tokenizer.json");
  return *tokenizer;
}

inline std::string kjv() {
  return slurp(std::string(EXAMPLES_DIR) + "/data/kjv.txt");
}

// Compares with the stored ids of texts, and decodes them.
inline void expect_samples(const Tokenizer& tokenizer, const std::string& expected) {
  const auto samples = golden(expected)["samples"];
  ASSERT_GT(samples.size(), 5u);
  for (const auto& sample : samples) {
    const auto text = sample["text"].get<std::string>();
    const auto ids = sample["ids"].get<std::vector<int64_t>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << "text: " << text;
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
}

// The message of the Error that `action` throws.
template <typename F>
std::string error_of(F&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace megatron
