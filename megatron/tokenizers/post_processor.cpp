#include "megatron/tokenizers/post_processor.h"

namespace megatron {
namespace {

constexpr int64_t kLargestSpecialId = (int64_t{1} << 24) - 1;

class SurroundingEncoder : public TokenEncoder {
 public:
  SurroundingEncoder(std::unique_ptr<TokenEncoder> encoder, const SpecialTokens& tokens)
      : encoder_(std::move(encoder)), tokens_(tokens) {}
  void encode(std::string_view text, std::vector<int64_t>& ids) override {
    ids.insert(ids.end(), tokens_.before.begin(), tokens_.before.end());
    encoder_->encode(text, ids);
    ids.insert(ids.end(), tokens_.after.begin(), tokens_.after.end());
  }
  int64_t bytes_left_out() const override { return encoder_->bytes_left_out(); }

 private:
  std::unique_ptr<TokenEncoder> encoder_;
  const SpecialTokens& tokens_;
};

class SurroundingTokenizer : public Tokenizer {
 public:
  SurroundingTokenizer(std::unique_ptr<Tokenizer> tokenizer, SpecialTokens tokens)
      : tokenizer_(std::move(tokenizer)), tokens_(std::move(tokens)) {}
  std::unique_ptr<TokenEncoder> make_encoder() const override {
    return std::make_unique<SurroundingEncoder>(tokenizer_->make_encoder(), tokens_);
  }
  std::string_view token_bytes(int64_t id) const override { return tokenizer_->token_bytes(id); }
  std::string decode(std::span<const int64_t> ids) const override {
    return tokenizer_->decode(ids);
  }
  // A part of a text would get its own special tokens.
  size_t last_safe_cut(std::string_view, size_t) const override { return 0; }
  int64_t vocab_size() const override { return tokenizer_->vocab_size(); }
  std::optional<int64_t> eod() const override { return tokenizer_->eod(); }
  std::string identifiers() const override { return tokenizer_->identifiers(); }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  SpecialTokens tokens_;
};

// The ids of a special token of a template.
std::vector<int64_t> ids_of_special_token(const JsonNode& node, const std::string& name) {
  const JsonNode token = node["special_tokens"][name.c_str()];
  if (token.is_null()) node["special_tokens"].refuse("a table with '" + name + "'");
  std::vector<int64_t> ids;
  for (const JsonNode& id : token["ids"].elements()) {
    const nlohmann::json& value = id.value();
    if (!value.is_number_integer() || value < 0 || value > kLargestSpecialId) {
      id.refuse("the id of a token");
    }
    ids.push_back(value.get<int64_t>());
  }
  return ids;
}

SpecialTokens read_template(const JsonNode& node) {
  SpecialTokens tokens;
  bool after_text = false;
  for (const JsonNode& piece : node["single"].elements()) {
    const JsonNode sequence = piece["Sequence"];
    if (!sequence.is_null()) {
      if (sequence.text("id") != "A" || after_text) node["single"].refuse("a template with one $A");
      after_text = true;
      continue;
    }
    const auto ids = ids_of_special_token(node, piece["SpecialToken"].text("id"));
    auto& list = after_text ? tokens.after : tokens.before;
    list.insert(list.end(), ids.begin(), ids.end());
  }
  if (!after_text) node["single"].refuse("a template with one $A");
  return tokens;
}

// ["[SEP]", 102]
int64_t id_of_pair(const JsonNode& node) {
  const auto parts = node.elements();
  const bool pair = parts.size() == 2 && parts[0].value().is_string() &&
                    parts[1].value().is_number_integer() && parts[1].value() >= 0 &&
                    parts[1].value() <= kLargestSpecialId;
  if (!pair) node.refuse("a token and its id");
  return parts[1].value().get<int64_t>();
}

SpecialTokens read_processor(const JsonNode& node, int depth) {
  check_nesting(node, depth);
  const std::string type = node.type();
  if (type == "Sequence") {
    SpecialTokens tokens;
    for (const JsonNode& step : node["processors"].elements()) {
      SpecialTokens outer = read_processor(step, depth + 1);
      tokens.before.insert(tokens.before.begin(), outer.before.begin(), outer.before.end());
      tokens.after.insert(tokens.after.end(), outer.after.begin(), outer.after.end());
    }
    return tokens;
  }
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return read_template(node);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    return {.before = {id_of_pair(node["cls"])}, .after = {id_of_pair(node["sep"])}};
  }
  node.refuse(
      "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel or a Sequence of these");
}

}  // namespace

SpecialTokens read_post_processor(const JsonNode& node) {
  if (node.is_null()) return {};
  return read_processor(node, 0);
}

std::unique_ptr<Tokenizer> with_special_tokens(std::unique_ptr<Tokenizer> tokenizer,
                                               SpecialTokens tokens) {
  for (const auto* list : {&tokens.before, &tokens.after}) {
    for (const int64_t id : *list) tokenizer->token_bytes(id);
  }
  return std::make_unique<SurroundingTokenizer>(std::move(tokenizer), std::move(tokens));
}

}  // namespace megatron
