#include "megatron/data/document_encoder.h"

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"

namespace megatron {

std::vector<EncodedDocuments> DocumentEncoder::encode(const DocumentBatch& batch) {
  std::vector<EncodedDocuments> results(keys_.size());
  const std::string_view text = batch.text;
  if (!batch.json_lines) {
    size_t begin = 0;
    for (const size_t end : batch.document_ends) {
      encoder_->encode(text.substr(begin, end - begin), results[0].ids);
      results[0].document_ends.push_back(results[0].ids.size());
      begin = end;
    }
    encoder_->encode(text.substr(begin), results[0].ids);
    return results;
  }
  int64_t number = batch.first_line;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    encode_line(text.substr(begin, end - begin), fmt::format("line {} of {}", number, batch.file),
                results);
    begin = end + 1;
  }
  return results;
}

void DocumentEncoder::encode_line(std::string_view line, const std::string& place,
                                  std::vector<EncodedDocuments>& results) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(line);
  } catch (const nlohmann::json::parse_error& error) {
    fail("Expected a JSON object a line, but {} is not JSON: it stops making sense at byte {}",
         place, error.byte);
  }
  for (size_t key = 0; key < keys_.size(); ++key) {
    const bool found = object.is_object() && object.contains(keys_[key]);
    check(found && object[keys_[key]].is_string(),
          "Expected a JSON object with text under \"{}\", but {} has {} there; name the key with "
          "--json-keys",
          keys_[key], place, found ? object[keys_[key]].type_name() : "nothing");
    encoder_->encode(object[keys_[key]].get_ref<const std::string&>(), results[key].ids);
    results[key].document_ends.push_back(results[key].ids.size());
  }
}

}  // namespace megatron
