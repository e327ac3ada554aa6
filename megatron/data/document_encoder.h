// Encodes a chunk of input: plain text, or the texts under the given keys of JSON lines.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "megatron/data/document_batch.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// The ids of one key in one chunk.
struct EncodedDocuments {
  std::vector<int64_t> ids;
  std::vector<size_t> document_ends;  // offsets in ids; the rest continues in the next chunk
};

// Encodes in one thread.
class DocumentEncoder {
 public:
  DocumentEncoder(const Tokenizer& tokenizer, std::vector<std::string> keys)
      : encoder_(tokenizer.make_encoder()), keys_(std::move(keys)) {}

  // Returns one result per key. Throws Error naming file and line.
  std::vector<EncodedDocuments> encode(const DocumentBatch& batch);

  int64_t bytes_left_out() const { return encoder_->bytes_left_out(); }

 private:
  void encode_text(const DocumentBatch& batch, EncodedDocuments& result);
  void encode_line(std::string_view line, const std::string& place,
                   std::vector<EncodedDocuments>& results);

  std::unique_ptr<TokenEncoder> encoder_;
  std::vector<std::string> keys_;
};

}  // namespace megatron
