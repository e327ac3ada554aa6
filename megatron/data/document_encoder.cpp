#include "megatron/data/document_encoder.h"

#include "megatron/base/error.h"
#include "megatron/data/json_line.h"

namespace megatron {
namespace {

// Runs `encode`; an error of the tokenizer about the text then also says where the text is.
template <typename Encode>
void encode_at(const std::string& place, const Encode& encode) {
  try {
    encode();
  } catch (const Error& error) {
    fail("{} (in {})", error.what(), place);
  }
}

}  // namespace

std::vector<EncodedDocuments> DocumentEncoder::encode(const DocumentBatch& batch) {
  std::vector<EncodedDocuments> results(keys_.size());
  if (!batch.json_lines) {
    encode_text(batch, results[0]);
    return results;
  }
  const std::string_view text = batch.text;
  int64_t number = batch.first_line;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    encode_line(text.substr(begin, end - begin), fmt::format("line {} of {}", number, batch.file),
                results);
    begin = end + 1;
  }
  return results;
}

void DocumentEncoder::encode_text(const DocumentBatch& batch, EncodedDocuments& result) {
  const std::string_view text = batch.text;
  encode_at(fmt::format("{}, from line {} on", batch.file, batch.first_line), [&] {
    size_t begin = 0;
    for (const size_t end : batch.document_ends) {
      encoder_->encode(text.substr(begin, end - begin), result.ids);
      result.document_ends.push_back(result.ids.size());
      begin = end;
    }
    encoder_->encode(text.substr(begin), result.ids);
  });
}

void DocumentEncoder::encode_line(std::string_view line, const std::string& place,
                                  std::vector<EncodedDocuments>& results) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
  const nlohmann::json object = parse_json_line(line, place);
  for (size_t key = 0; key < keys_.size(); ++key) {
    const auto text = object.find(keys_[key]);  // end() if this is no object
    const bool found = text != object.end();
    check(found && text->is_string(),
          "Expected a JSON object with text under \"{}\", but {} has {} there; name the key with "
          "--json-keys",
          keys_[key], place, found ? text->type_name() : "nothing");
    encode_at(place,
              [&] { encoder_->encode(text->get_ref<const std::string&>(), results[key].ids); });
    results[key].document_ends.push_back(results[key].ids.size());
  }
}

}  // namespace megatron
