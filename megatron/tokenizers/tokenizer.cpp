#include "megatron/tokenizers/tokenizer.h"

#include <xxhash.h>

#include <fmt/format.h>

namespace megatron {

std::vector<int64_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  make_encoder()->encode(text, ids);
  return ids;
}

std::string Tokenizer::continuation(std::span<const int64_t> ids) const {
  std::string text;
  for (const int64_t id : ids) text += token_bytes(id);
  return text;
}

std::string Tokenizer::fingerprint() const {
  XXH64_hash_t hash = 0;
  for (int64_t id = 0; id < vocab_size(); ++id) {
    const std::string_view bytes = token_bytes(id);
    hash = XXH3_64bits_withSeed(bytes.data(), bytes.size(), hash + bytes.size());
  }
  return fmt::format("{:016x}", hash);
}

std::vector<int32_t> Tokenizer::token_byte_lengths() const {
  std::vector<int32_t> lengths(static_cast<size_t>(vocab_size()));
  for (int64_t id = 0; id < vocab_size(); ++id) {
    lengths[static_cast<size_t>(id)] = static_cast<int32_t>(token_bytes(id).size());
  }
  if (eod()) lengths[static_cast<size_t>(*eod())] = 0;
  return lengths;
}

}  // namespace megatron
