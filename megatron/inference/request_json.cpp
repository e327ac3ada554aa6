#include "megatron/inference/request_json.h"

#include <charconv>
#include <functional>
#include <map>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/formats/json_file.h"

namespace megatron {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& key, const char* expected, const json& value) {
  fail("Expected '{}' as {}, but got {}", key, expected,
       value.dump(-1, ' ', false, json::error_handler_t::replace));
}

int64_t integer_of(const std::string& key, const json& value) {
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}))
    refuse(key, "a whole number", value);
  return value.get<int64_t>();
}

double number_of(const std::string& key, const json& value) {
  if (!value.is_number()) refuse(key, "a number", value);
  return value.get<double>();
}

bool truth_of(const std::string& key, const json& value) {
  if (!value.is_boolean()) refuse(key, "true or false", value);
  return value.get<bool>();
}

std::string text_of(const std::string& key, const json& value) {
  if (!value.is_string()) refuse(key, "a string", value);
  return value.get<std::string>();
}

std::vector<int64_t> ids_of(const std::string& key, const json& value) {
  if (!value.is_array()) refuse(key, "a list of token ids", value);
  std::vector<int64_t> ids;
  for (const json& id : value) ids.push_back(integer_of(key, id));
  return ids;
}

std::vector<std::string> texts_of(const std::string& key, const json& value) {
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_array()) refuse(key, "a string or a list of strings", value);
  std::vector<std::string> texts;
  for (const json& text : value) texts.push_back(text_of(key, text));
  return texts;
}

std::map<int64_t, double> biases_of(const std::string& key, const json& value) {
  if (!value.is_object()) refuse(key, "an object of token ids and biases", value);
  std::map<int64_t, double> biases;
  for (const auto& [name, bias] : value.items()) {
    int64_t id = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (error != std::errc() || end != name.data() + name.size())
      refuse(key, "an object of token ids and biases", value);
    biases[id] = number_of(key, bias);
  }
  return biases;
}

using Reader = std::function<void(InferenceRequest&, const std::string&, const json&)>;

const std::map<std::string, Reader>& readers() {
  using R = InferenceRequest;
  using K = const std::string&;
  using V = const json&;
  static const std::map<std::string, Reader> table = {
      {"max_new_tokens", [](R& r, K k, V v) { r.max_new_tokens = integer_of(k, v); }},
      {"n", [](R& r, K k, V v) { r.n = integer_of(k, v); }},
      {"temperature", [](R& r, K k, V v) { r.sampling.temperature = number_of(k, v); }},
      {"top_k", [](R& r, K k, V v) { r.sampling.top_k = integer_of(k, v); }},
      {"top_p", [](R& r, K k, V v) { r.sampling.top_p = number_of(k, v); }},
      {"min_p", [](R& r, K k, V v) { r.sampling.min_p = number_of(k, v); }},
      {"repetition_penalty",
       [](R& r, K k, V v) { r.sampling.repetition_penalty = number_of(k, v); }},
      {"presence_penalty", [](R& r, K k, V v) { r.sampling.presence_penalty = number_of(k, v); }},
      {"logit_bias", [](R& r, K k, V v) { r.sampling.logit_bias = biases_of(k, v); }},
      {"seed", [](R& r, K k, V v) { r.sampling.seed = static_cast<uint64_t>(integer_of(k, v)); }},
      {"stop", [](R& r, K k, V v) { r.stop_strings = texts_of(k, v); }},
      {"stop_ids", [](R& r, K k, V v) { r.stop_ids = ids_of(k, v); }},
      {"top_logprobs", [](R& r, K k, V v) { r.top_logprobs = integer_of(k, v); }},
      {"prompt_logprobs", [](R& r, K k, V v) { r.prompt_logprobs = truth_of(k, v); }},
      {"echo", [](R& r, K k, V v) { r.echo = truth_of(k, v); }},
  };
  return table;
}

json top_of(const std::vector<TokenLogprob>& logprobs) {
  json lists = json::array();
  for (const TokenLogprob& logprob : logprobs) {
    json list = json::array();
    for (const auto& [token, value] : logprob.top)
      list.push_back({{"token", token}, {"logprob", value}});
    lists.push_back(std::move(list));
  }
  return lists;
}

json values_of(const std::vector<TokenLogprob>& logprobs) {
  json values = json::array();
  for (const TokenLogprob& logprob : logprobs) values.push_back(logprob.logprob);
  return values;
}

json to_json(const Completion& completion, const InferenceRequest& request) {
  if (!completion.error.empty()) return {{"error", completion.error}};
  json line = {{"text", completion.text},
               {"tokens", completion.tokens},
               {"logprobs", values_of(completion.logprobs)},
               {"finish_reason", to_string(completion.finish_reason)}};
  if (request.top_logprobs > 0) line["top_logprobs"] = top_of(completion.logprobs);
  return line;
}

}  // namespace

InferenceRequest request_from_json(const json& line, const InferenceRequest& defaults,
                                   const Tokenizer& tokenizer) {
  check(line.is_object(), "Expected a JSON object with a prompt, but got {}",
        line.dump(-1, ' ', false, json::error_handler_t::replace));
  check(line.contains("prompt"), "Expected 'prompt', but got none");
  InferenceRequest request = defaults;
  for (const auto& [key, value] : line.items()) {
    if (key == "prompt") {
      request.prompt = value.is_string()  ? tokenizer.encode(value.get<std::string>())
                       : value.is_array() ? ids_of(key, value)
                                          : (refuse(key, "a string or a list of token ids", value),
                                             std::vector<int64_t>());
      continue;
    }
    const auto reader = readers().find(key);
    if (reader == readers().end()) {
      std::vector<std::string> known = {"prompt"};
      for (const auto& [name, read] : readers()) known.push_back(name);
      fail("Expected a known key, but got '{}'; the keys are {}", key, fmt::join(known, ", "));
    }
    reader->second(request, key, value);
  }
  if (request.prompt.empty() && tokenizer.eod()) request.prompt = {*tokenizer.eod()};
  return request;
}

json result_to_json(const InferenceResult& result, const InferenceRequest& request) {
  json line = to_json(result.completions.front(), request);
  if (request.prompt_logprobs) {
    line["prompt_logprobs"] = values_of(result.prompt_logprobs);
    if (request.top_logprobs > 0) line["prompt_top_logprobs"] = top_of(result.prompt_logprobs);
  }
  if (request.n > 1 && std::ssize(result.completions) == request.n) {
    line["samples"] = json::array();
    for (const Completion& completion : result.completions)
      line["samples"].push_back(to_json(completion, request));
  }
  return line;
}

std::vector<RequestLine> read_request_lines(const std::string& path,
                                            const InferenceRequest& defaults,
                                            const Tokenizer& tokenizer) {
  const std::string text = read_text_file(path, "a file of requests");
  std::vector<RequestLine> lines;
  int64_t number = 0;
  for (size_t first = 0; first < text.size();) {
    const size_t end = std::min(text.find('\n', first), text.size());
    const std::string one = text.substr(first, end - first);
    first = end + 1;
    ++number;
    if (one.find_first_not_of(" \t\r") == std::string::npos) continue;
    RequestLine line{.number = number};
    try {
      line.request = request_from_json(json::parse(one), defaults, tokenizer);
    } catch (const json::exception& error) {
      line.error = fmt::format("{} line {}: Expected a JSON object, but got: {}", path, number,
                               error.what());
    } catch (const Error& error) {
      line.error = fmt::format("{} line {}: {}", path, number, error.what());
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace megatron
