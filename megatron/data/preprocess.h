// Converts text or JSON lines to .bin/.idx as a stream: one reader, several encoding workers, one
// writer that keeps the order of the input. A fixed number of chunks is in flight, so memory does
// not grow with the input, except for documents that cannot be split (DocumentBatchReader).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

struct PreprocessArguments {
  std::vector<std::string> inputs = {};           // see DocumentBatchReader
  std::string output_prefix = {};                 // of <output_prefix>_<key>_document.{bin,idx}
  std::vector<std::string> json_keys = {"text"};  // plain text is stored under the only key
  int64_t workers = 1;
  bool append_eod = false;          // an end-of-document token after each document that has tokens
  std::string document_start = {};  // see DocumentReaderOptions
};

struct PreprocessProgress {
  int64_t bytes_total = 0;  // of the input
  int64_t bytes_done = 0;
  int64_t documents = 0;
  int64_t tokens = 0;          // of all keys, end-of-document tokens included
  int64_t bytes_left_out = 0;  // bytes that the vocabulary has no token for
};

// Called after every chunk, in the thread that called preprocess().
using ProgressSink = std::function<void(const PreprocessProgress&)>;

struct PreprocessResult {
  PreprocessProgress totals;
  std::vector<std::string> prefixes;  // one per key: values for --data-path
  std::vector<std::string> notes;     // lines for the user
};

// The output does not depend on the number of workers. The files appear only after everything has
// been written. Throws Error for the first invalid line of the input, a file that cannot be read or
// written, a full disk, and input without any tokens.
PreprocessResult preprocess(const PreprocessArguments& arguments, const Tokenizer& tokenizer,
                            const ProgressSink& progress = {});

}  // namespace megatron
