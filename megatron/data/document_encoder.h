// Encodes a stretch of input: plain text, or JSON lines with a text under each key.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "megatron/data/document_batch.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// The ids of one key of a stretch.
struct EncodedDocuments {
  std::vector<int64_t> ids;
  std::vector<size_t> document_ends;  // in ids; what follows the last goes on in the next stretch
};

// One thread's.
class DocumentEncoder {
 public:
  DocumentEncoder(const Tokenizer& tokenizer, std::vector<std::string> keys)
      : encoder_(tokenizer.make_encoder()), keys_(std::move(keys)) {}

  // One result a key. Throws Error naming file and line.
  std::vector<EncodedDocuments> encode(const DocumentBatch& batch);

  int64_t bytes_left_out() const { return encoder_->bytes_left_out(); }

 private:
  void encode_line(std::string_view line, const std::string& place,
                   std::vector<EncodedDocuments>& results);

  std::unique_ptr<TokenEncoder> encoder_;
  std::vector<std::string> keys_;
};

}  // namespace megatron
