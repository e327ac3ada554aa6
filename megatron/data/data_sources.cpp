#include "megatron/data/data_sources.h"

#include <fstream>
#include <iterator>
#include <sstream>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr std::array<const char*, 3> kSplitPathFlags = {"--train-data-path", "--valid-data-path",
                                                        "--test-data-path"};
constexpr std::array<const char*, 3> kSplitKeys = {"train", "valid", "test"};

std::string read_arguments_file(const char* flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  check(file.good() && text.good(), "Expected a readable file for {}, but got '{}'", flag, path);
  return text.str();
}

std::vector<std::string> split_words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

// A list of words, one text with them, or null.
std::vector<std::string> words_of_split(const nlohmann::json& json, const char* key,
                                        const std::string& path) {
  if (!json.contains(key) || json[key].is_null()) return {};
  const nlohmann::json& value = json[key];
  if (value.is_string()) return split_words(value.get<std::string>());
  check(value.is_array(),
        "Expected a list or a text under \"{}\" in --per-split-data-args-path {}, but got {}", key,
        path, value.type_name());
  std::vector<std::string> words;
  for (const nlohmann::json& word : value)
    words.push_back(word.is_string() ? word.get<std::string>() : word.dump());
  return words;
}

std::array<std::vector<std::string>, 3> read_split_file(const std::string& path) {
  constexpr const char* kFlag = "--per-split-data-args-path";
  const auto json = nlohmann::json::parse(read_arguments_file(kFlag, path), nullptr,
                                          /*allow_exceptions=*/false);
  check(json.is_object(),
        "Expected {} to name a JSON file with the keys train, valid and test, but got '{}'", kFlag,
        path);
  for (const auto& [key, value] : json.items()) {
    check(key == "train" || key == "valid" || key == "test",
          "Expected the keys train, valid and test in {} {}, but got \"{}\"", kFlag, path, key);
  }
  std::array<std::vector<std::string>, 3> words;
  for (size_t i = 0; i < words.size(); ++i) words[i] = words_of_split(json, kSplitKeys[i], path);
  check(!words[0].empty(), "Expected training data under \"train\" in {} {}, but got none", kFlag,
        path);
  return words;
}

}  // namespace

std::vector<std::string> DataSources::prefixes() const {
  std::vector<std::string> result;
  const auto append = [&](const std::optional<DataBlend>& blend) {
    if (blend) result.insert(result.end(), blend->prefixes.begin(), blend->prefixes.end());
  };
  append(all);
  for (const auto& blend : by_split) append(blend);
  return result;
}

DataSources read_data_sources(const DataConfig& data) {
  DataSources sources;
  if (data.mock_data) return sources;
  if (!data.data_args_path.empty()) {
    const auto words = split_words(read_arguments_file("--data-args-path", data.data_args_path));
    check(!words.empty(), "Expected --data-args-path to name a file with prefixes, but {} is empty",
          data.data_args_path);
    sources.all = parse_data_path(words, "--data-args-path");
    return sources;
  }
  std::array<std::vector<std::string>, 3> words = {data.train_data_path, data.valid_data_path,
                                                   data.test_data_path};
  const bool from_file = !data.per_split_data_args_path.empty();
  if (from_file) words = read_split_file(data.per_split_data_args_path);
  if (words[0].empty()) {
    sources.all = parse_data_path(data.data_path);
    return sources;
  }
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].empty()) continue;
    sources.by_split[i] =
        parse_data_path(words[i], from_file ? "--per-split-data-args-path" : kSplitPathFlags[i]);
  }
  return sources;
}

std::string describe_blend(const DataBlend& blend) {
  std::string text;
  for (size_t i = 0; i < blend.prefixes.size(); ++i) {
    if (i > 0) text += " + ";
    if (blend.weights && blend.prefixes.size() > 1) text += fmt::format("{} ", (*blend.weights)[i]);
    text += blend.prefixes[i];
  }
  return text;
}

}  // namespace megatron
