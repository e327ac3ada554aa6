// Text or JSON lines to .bin/.idx, as a stream: one reader, several encoding workers, one writer
// that keeps the order of the input. Memory does not grow with the input: a fixed number of
// stretches of text is under way at any time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

struct PreprocessArguments {
  std::vector<std::string> inputs = {};  // see DocumentBatchReader
  std::string output_prefix = {};        // files are <output_prefix>_<key>_document.bin and .idx
  std::vector<std::string> json_keys = {"text"};  // plain text counts as the key "text"
  int64_t workers = 1;
  bool append_eod = false;  // an end-of-document token after each document that has tokens
  std::string document_start =
      {};  // plain text: lines that open a document; empty: one document a file
};

struct PreprocessProgress {
  int64_t bytes_total = 0;  // of the input
  int64_t bytes_done = 0;
  int64_t documents = 0;
  int64_t tokens = 0;          // of all keys together, ends of documents included
  int64_t bytes_left_out = 0;  // that the vocabulary cannot spell
};

// Told after every stretch, by the thread that called preprocess().
using ProgressSink = std::function<void(const PreprocessProgress&)>;

struct PreprocessResult {
  PreprocessProgress totals;
  std::vector<std::string> prefixes;  // one a key: what --data-path takes
};

// The output does not depend on the number of workers. The files appear only when all is done.
// Throws Error: the first bad line in the order of the input, a file that cannot be read or
// written, no space left.
PreprocessResult preprocess(const PreprocessArguments& arguments, const Tokenizer& tokenizer,
                            const ProgressSink& progress = {});

}  // namespace megatron
