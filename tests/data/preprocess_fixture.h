// Runs preprocess() on files of a temporary folder.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/data/indexed_dataset.h"
#include "megatron/data/preprocess.h"
#include "megatron/tokenizers/byte_tokenizer.h"

#include "tests/data/golden.h"

namespace megatron {

inline constexpr const char* kChapterHeading = R"(^[0-9A-Z][A-Za-z ]* [0-9]+$)";
inline const std::string kKjv = std::string(EXAMPLES_DIR) + "/data/kjv.txt";

class PreprocessTest : public ::testing::Test {
 protected:
  std::string put(const std::string& name, const std::string& text) {
    spill(folder_ / name, text);
    return folder_ / name;
  }

  PreprocessResult run(const Tokenizer& tokenizer) { return preprocess(arguments_, tokenizer); }

  // Each document's bytes, with the byte tokenizer.
  std::vector<std::string> documents() {
    const ByteTokenizer tokenizer;
    const IndexedDataset data(run(tokenizer).prefixes.at(0));
    std::vector<std::string> texts;
    for (int64_t document = 0; document < data.num_documents(); ++document) {
      std::string text;
      for (int64_t i = data.document_boundary(document); i < data.document_boundary(document + 1);
           ++i) {
        text += tokenizer.decode(data.sequence(i));
      }
      texts.push_back(text);
    }
    return texts;
  }

  std::string error() {
    try {
      run(ByteTokenizer());
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  TemporaryFolder folder_;
  PreprocessArguments arguments_{.inputs = {}, .output_prefix = folder_ / "out"};
};

}  // namespace megatron
